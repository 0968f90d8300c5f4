"""What can still be read of a state whose parts are damaged: one bad blob hides only its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dcmvault.errors import DestinationError
from dcmvault.vault.damage import out_of_reach
from dcmvault.vault.index import RecordsRef
from dcmvault.vault.records import InstanceRecord, StudyRecords, current
from dcmvault.vault.snapshot import shard_of
from dcmvault.vault.state import StudyEntry, VaultState, about

#: Is told what could not be read: Study Instance UID (empty for many studies), and why.
TellLoss = Callable[[str, DestinationError], None]


class LegibleState:
    """Reads a state study by study. What is damaged is told, each time that it is met."""

    def __init__(self, state: VaultState, tell: TellLoss) -> None:
        self._state = state
        self._tell = tell
        #: How often something could not be read so far.
        self.losses = 0
        self._pending: dict[str, list[RecordsRef]] = {}
        for journal in state.journals:
            for ref in journal.records:
                self._pending.setdefault(ref.study_instance_uid, []).append(ref)

    def studies(self) -> Iterator[str]:
        """List the UIDs of studies, by shard; of a forgotten one nothing may be left."""
        for uid, _entry in self.overview():
            yield uid

    def overview(self) -> Iterator[tuple[str, StudyEntry | None]]:
        """List studies as `studies` does, each with the entry that says all of it, if one does."""
        waiting: dict[str, set[str]] = {}
        for uid in self._pending:
            waiting.setdefault(shard_of(uid), set()).add(uid)
        forgotten = self._state.forgotten
        for shard in sorted({*self._state.shard_names(), *waiting}):
            try:
                listed = self._state.entries(shard)
            except DestinationError as error:
                self._lost("", error)
                listed = {}
            for uid in sorted({*listed, *waiting.get(shard, ())}):
                entries = listed.get(uid, [])
                told = len({entry.manifest for entry in entries}) == 1 and uid not in self._pending
                unclear = uid in forgotten.studies or forgotten.lost
                yield uid, entries[0] if told and not unclear else None

    def parts(self, study_instance_uid: str) -> list[StudyRecords]:
        """Return the blobs of records of a study that count and can be read, oldest first."""
        parts = []
        for ref in self.refs(study_instance_uid):
            try:
                parts += [part for _ref, part in self._state.counting([ref])]
            except DestinationError as error:
                self._lost(study_instance_uid, error)
        return sorted(
            map(self._state.without_lost, parts), key=lambda part: (part.stored_at, part.source)
        )

    def records(self, study_instance_uid: str) -> list[InstanceRecord]:
        """Return the records of a study that count and can be read."""
        return current(
            [record for part in self.parts(study_instance_uid) for record in part.instances]
        )

    def about(self, study_instance_uid: str) -> dict[str, str]:
        """Return what a study is found by, as far as its records can be read."""
        parts = self.parts(study_instance_uid)
        series = {uid: one for part in parts for uid, one in part.series.items()}
        return about(parts[-1].attributes._asdict(), series) if parts else {}

    def refs(self, study_instance_uid: str) -> list[RecordsRef]:
        """List the blobs of records of a study, as far as its manifests can be read."""
        found: dict[bytes, RecordsRef] = {}
        try:
            entries = self._state.entries_of(study_instance_uid)
        except DestinationError as error:
            if out_of_reach(error):
                raise
            self._lost("", error)
            entries = []
        for entry in entries:
            try:
                found |= {ref.id: ref for ref in self._state.manifest(entry)}
            except DestinationError as error:
                self._lost(study_instance_uid, error)
        found |= {ref.id: ref for ref in self._pending.get(study_instance_uid, ())}
        return list(found.values())

    def _lost(self, study_instance_uid: str, error: DestinationError) -> None:
        if out_of_reach(error):
            raise error
        self.losses += 1
        self._tell(study_instance_uid, error)
