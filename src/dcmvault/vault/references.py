"""What of a vault is needed: every blob that some snapshot or journal leads to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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

    def add_present(self) -> VaultState:
        """Add what the present state leads to, journals included; return that state."""
        now = present_state(self.vault)
        self.add_state(now)
        return now

    def add_snapshot(self, link: Link, now: VaultState) -> None:
        """Add what one snapshot leads to, but for studies forgotten since."""
        states = [self.vault.state(link)]
        self.add_state(VaultState(self.vault, [link], states, (), now.forgotten))

    def add_state(self, state: VaultState) -> None:
        """Add everything that a state leads to."""
        for one in state.states:
            self.blobs.update(
                blob for blob in _of_state(one) if not state.is_given_up(BlobType(blob[0]), blob[1])
            )
        for shard in state.shard_names():
            for uid, entries in state.entries(shard).items():
                for entry in entries:
                    if not state.is_given_up(BlobType.STATE, entry.manifest):
                        self.blobs.add((BlobType.STATE, entry.manifest))
                self.add_study(state, uid)
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


def needed_blobs(vault: Vault, links: Iterable[Link]) -> tuple[VaultState, set[tuple[str, bytes]]]:
    """Return the present state, and all blobs that it or any of these snapshots needs."""
    references = References(vault)
    now = references.add_present()
    for link in links:
        if link.name not in {head.name for head in now.links}:
            references.add_snapshot(link, now)
    return now, references.blobs
