"""Which records of a study count, whatever its size: a part of them is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from dcmvault.vault.index import RecordsRef
from dcmvault.vault.records import InstanceRecord, StudyRecords, file_digest
from dcmvault.vault.state import VaultState

#: Records of a study that are in memory at once, and read once; those of a larger one are read
#: twice, a blob at a time.
_AT_ONCE = 5_000


class CountingRecords(NamedTuple):
    """A blob of records, without those that do not count."""

    blob: bytes
    records: StudyRecords
    #: All records of the blob count: it can stand for them.
    is_whole: bool


def current_parts(state: VaultState, study_instance_uid: str) -> Iterator[CountingRecords]:
    """Yield what `VaultState.stored` lists, without records that later ones replace, oldest first.

    Of a large study one blob at a time is in memory, and each is read twice.
    """
    refs = state.refs(study_instance_uid)
    is_large = sum(ref.instances for ref in refs) > _AT_ONCE
    kept: dict[RecordsRef, StudyRecords] = {}
    times: dict[RecordsRef, str] = {}
    newest = _Newest()
    for ref, part in state.counting(refs):
        newest.look_at(state.without_lost(part).instances)
        times[ref] = part.stored_at
        if not is_large:
            kept[ref] = part
    for ref in sorted(times, key=times.__getitem__):
        for _ref, part in [(ref, kept[ref])] if ref in kept else state.counting([ref]):
            counted = newest.take(state.without_lost(part).instances)
            if counted:
                is_whole = len(counted) == len(part.instances)
                yield CountingRecords(ref.id, replace(part, instances=counted), is_whole)


class _Newest:
    """Says what `records.current` would, without the records: they are looked at twice."""

    def __init__(self) -> None:
        self._newest: dict[bytes, tuple[str, str, bytes]] = {}

    def look_at(self, records: Iterable[InstanceRecord]) -> None:
        """Take up some of them."""
        for record in records:
            digest = file_digest(record)
            before = self._newest.get(digest)
            if before is None or record.version > before:
                self._newest[digest] = record.version

    def take(self, records: Sequence[InstanceRecord]) -> tuple[InstanceRecord, ...]:
        """Return those of some that count; what is recorded twice is returned once."""
        return tuple(record for record in records if self._take(record))

    def _take(self, record: InstanceRecord) -> bool:
        digest = file_digest(record)
        if self._newest.get(digest) != record.version:
            return False
        del self._newest[digest]
        return True
