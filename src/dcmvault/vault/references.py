"""What of a vault is needed: every blob that some snapshot or journal leads to."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from dcmvault.vault.blob import BlobType
from dcmvault.vault.records import StudyRecords
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link, SnapshotState
from dcmvault.vault.state import VaultState, present_state


@dataclass(slots=True)
class References:
    """Collects needed blobs, each walked once however many snapshots share it."""

    vault: Vault
    blobs: set[tuple[str, bytes]] = field(default_factory=set)
    #: Lists of studies that were walked with all they lead to.
    _walked: set[bytes] = field(default_factory=set)

    def add_present(self) -> VaultState:
        """Add what the present state leads to, journals included; return that state."""
        now = present_state(self.vault)
        self.add_state(now)
        return now

    def add_snapshot(self, link: Link, now: VaultState) -> None:
        """Add what one snapshot leads to, but for studies forgotten since."""
        self.add_state(_alone(link, now))

    def add_state(self, state: VaultState) -> None:
        """Add everything that a state leads to.

        All states that one collection takes must say the same of what was forgotten.
        """
        for one in state.states:
            self.blobs.update(
                blob for blob in _of_state(one) if not state.is_given_up(BlobType(blob[0]), blob[1])
            )
        for shard in state.shard_names():
            blobs = {one.shards[shard] for one in state.states if shard in one.shards}
            if blobs <= self._walked:
                continue
            for uid, entries in state.entries(shard).items():
                for entry in entries:
                    if not state.is_given_up(BlobType.STATE, entry.manifest):
                        self.blobs.add((BlobType.STATE, entry.manifest))
                self.add_study(state, uid)
            self._walked |= blobs
        for journal in state.journals:
            for ref in journal.records:
                if ("R", ref.id) not in self.blobs:
                    self.add_study(state, ref.study_instance_uid)

    def add_study(self, state: VaultState, study_instance_uid: str) -> None:
        """Add all records of a study that count, and what their files are made of.

        Of a file of which some part was lost, what is left is needed: it may become whole again.
        """
        refs = state.refs(study_instance_uid)
        fresh = [ref for ref in refs if (BlobType.RECORDS, ref.id) not in self.blobs]
        for ref, part in state.counting(fresh):
            self.blobs.add((BlobType.RECORDS, ref.id))
            self.blobs.update(
                blob
                for blob in _of_records(part)
                if not state.is_given_up(BlobType(blob[0]), blob[1])
            )

    def add_held(self, link: Link, now: VaultState, held: Collection[str]) -> bool:
        """Add a forgotten snapshot if it alone has something of a study under legal hold.

        Say whether it does. What was forgotten of the study itself before the hold does not count.
        """
        state = _alone(link, now)
        (own,) = state.states
        if any(not self.vault.index.places(BlobType.STATE, blob) for blob in own.shards.values()):
            return False  # forgotten, and pruned: only the object itself could not go
        for uid in held:
            fresh = [ref for ref in state.refs(uid) if (BlobType.RECORDS, ref.id) not in self.blobs]
            if any(True for _ in state.counting(fresh)):
                self.add_state(state)
                return True
        return False


def _alone(link: Link, now: VaultState) -> VaultState:
    """Return the state of one snapshot, without what was forgotten since."""
    return VaultState(now.vault, [link], [now.vault.state(link)], (), now.forgotten)


def _of_state(state: SnapshotState) -> Iterator[tuple[str, bytes]]:
    for blob in (*state.shards.values(), state.holds, state.forgotten):
        if blob:
            yield BlobType.STATE, blob
    for files in state.sidecars.values():
        for _name, _size, _digest, blobs in files:
            for blob in blobs:
                yield BlobType.VALUE, blob


def _of_records(part: StudyRecords) -> Iterator[tuple[str, bytes]]:
    for record in part.instances:
        yield from record.blob_ids()
