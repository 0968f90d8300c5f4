"""Differences between two snapshots, and what a vault holds more than once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dcmvault.app.hashed_keys import HashedKeys
from dcmvault.app.vault_contents import Contents
from dcmvault.vault.legible import LegibleState
from dcmvault.vault.records import InstanceRecord
from dcmvault.vault.state import VaultState

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class StudyDifference:
    """What became of one study between two states."""

    study_instance_uid: str
    about: Mapping[str, str]
    #: "added", "removed" or "changed".
    kind: str
    added: tuple[InstanceRecord, ...]
    removed: tuple[InstanceRecord, ...]
    #: The same file of the same source with other content: as it is in the second state.
    changed: tuple[InstanceRecord, ...]


def differences(
    contents: Contents, first: VaultState, second: VaultState
) -> Iterator[StudyDifference]:
    """List the studies that differ; what is equal in both is not even read."""
    before, after = contents.legible(first), contents.legible(second)
    old = dict(before.overview())
    for uid, entry in after.overview():
        known = old.pop(uid, None)
        if known is None or entry is None or known.manifest != entry.manifest:
            yield from _compared(uid, before, after)
    for uid in old:
        yield from _compared(uid, before, after)


def _compared(uid: str, before: LegibleState, after: LegibleState) -> Iterator[StudyDifference]:
    old = {record.key: record for record in before.records(uid)}
    new = {record.key: record for record in after.records(uid)}
    added = tuple(record for key, record in new.items() if key not in old)
    removed = tuple(record for key, record in old.items() if key not in new)
    changed = tuple(
        record
        for key, record in new.items()
        if key in old and old[key].file_sha256 != record.file_sha256
    )
    if added or removed or changed:
        kind = "changed" if old and new else "added" if new else "removed"
        about = (after if new else before).about(uid)
        yield StudyDifference(uid, about, kind, added, removed, changed)


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file of a state."""

    study_instance_uid: str
    record: InstanceRecord


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What is held more than once. Its bytes are stored once each, whatever is listed here."""

    #: Files with equal content, under several locators or of several sources.
    same_content: Sequence[Sequence[HeldFile]]
    #: Files of one SOP Instance UID with different contents: versions that are in conflict.
    same_uid: Sequence[Sequence[HeldFile]]


def find_duplicates(contents: Contents, state: VaultState) -> Duplicates:
    """Look through all records of a state, twice; memory is 16 bytes for a file."""
    legible = contents.legible(state)
    digests, uids = HashedKeys(), HashedKeys()
    for study in legible.studies():
        for record in legible.records(study):
            digests.note(record.file_sha256)
            if record.sop_instance_uid:
                uids.note(record.sop_instance_uid)
    digests.close()
    uids.close()
    by_digest: dict[bytes, list[HeldFile]] = {}
    by_uid: dict[str, list[HeldFile]] = {}
    if digests.repeated or uids.repeated:
        for study in legible.studies():
            for record in legible.records(study):
                held = HeldFile(study, record)
                if digests.may_repeat(record.file_sha256):
                    by_digest.setdefault(record.file_sha256, []).append(held)
                if uids.may_repeat(record.sop_instance_uid):
                    by_uid.setdefault(record.sop_instance_uid, []).append(held)
    return Duplicates(
        [group for group in by_digest.values() if len(group) > 1],
        [
            group
            for group in by_uid.values()
            if len({held.record.file_sha256 for held in group}) > 1
        ],
    )
