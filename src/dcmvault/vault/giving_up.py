"""What a vault lost for good, given up: the next snapshot does without, and says so.

Old snapshots stay as they are. Blobs that are named as lost do not count until somebody stores
them again, so the same study can be backed up anew from its source. What can still be read of
damaged packs is carried into new ones first, and records that only lost lists named are found
again in the packs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from dcmvault.errors import ObjectLockedError, ObjectMissingError, VaultDamagedError
from dcmvault.vault.blob import BlobType
from dcmvault.vault.blob_packs import BlobPacks
from dcmvault.vault.check_packs import PackContents
from dcmvault.vault.findings import CheckResult, Trouble
from dcmvault.vault.index import Addition, RecordsRef
from dcmvault.vault.inventory import name_of
from dcmvault.vault.lease import Lease
from dcmvault.vault.pack import PackEntry, blob_rows, pack_key
from dcmvault.vault.profile import DEFAULT_PROFILE
from dcmvault.vault.records import pack_json, read_json
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link, SnapshotState, heads
from dcmvault.vault.sound_packs import what_is_left
from dcmvault.vault.state import (
    Forgotten,
    VaultState,
    decode_forgotten,
    read_records,
    united,
)
from dcmvault.vault.taking_snapshots import Change, take_snapshot

_log = logging.getLogger(__name__)


class GivenUp(NamedTuple):
    """What came of it."""

    snapshot: Link | None
    #: What may have changed beside the files; sentences.
    notes: tuple[str, ...]


def give_up(vault: Vault, found: CheckResult, lease: Lease) -> GivenUp:
    """Take a snapshot without what a check found to be lost, and remove what is damaged.

    `found` comes from a check after everything was mended that can be. Before the snapshot is
    durable nothing is removed but snapshots that cannot be read; interrupted, it may be done again.
    """
    fresh = vault.unread()
    fresh.ledger.refresh(lambda _key, _error: None)
    return _GivingUp(fresh, found, lease).run()


class _GivingUp:
    def __init__(self, vault: Vault, found: CheckResult, lease: Lease) -> None:
        self._vault = vault
        self._found = found
        self._lease = lease
        hopeless = [finding for finding in found.errors if not finding.mendable]
        self._packs = {name_of(one.key) for one in hopeless if one.key.startswith("packs/")}
        self._snapshots = {one.key for one in hopeless if one.key.startswith("snapshots/")}
        self._studies = {uid for one in hopeless for uid in one.studies}
        self._notes: list[str] = []
        self._unreadable = {
            key
            for one in hopeless
            if (key := one.key).startswith("snapshots/")
            and one.trouble is not Trouble.SNAPSHOT_GONE
        }

    def run(self) -> GivenUp:
        """Do it."""
        vault = self._vault
        self._warn_writers()
        entries = [entry for name in sorted(self._packs) if (entry := vault.index.pack(name))]
        vault.index.drop(self._packs)
        self._save_sound_parts(entries)
        links = vault.links(lambda _key, _error: None)
        states = [(link, vault.state(link)) for link in links]
        forgotten, holds = self._remembered(states)
        # A damaged snapshot makes way: its parents say the newest state that is left.
        top = {link.name for link in heads(links)}
        now = VaultState(
            vault, links, [state for link, state in states if link.name in top], (), forgotten
        )
        self._find_records_again(now)
        self._lease.renew()
        change = Change("repair", forgotten=forgotten, holds=holds, mended=frozenset(self._studies))
        for key in sorted(self._unreadable):
            vault.objects.delete(key)
        link = take_snapshot(vault, change)
        self._lease.renew()
        self._remove_damaged()
        return GivenUp(link, tuple(self._notes))

    def _warn_writers(self) -> None:
        """Condemn the packs: a writer that is at work leans on them no more."""
        if self._packs:
            document = {
                "condemned_at": self._vault.now(),
                "packs": sorted(name.hex() for name in self._packs),
            }
            self._vault.sealing.put("condemned", b"C", pack_json(document))

    def _save_sound_parts(self, entries: Sequence[PackEntry]) -> None:
        """Carry into new packs what can still be read of damaged ones."""
        vault = self._vault
        blobs = BlobPacks(vault, DEFAULT_PROFILE)
        contents = PackContents(vault)
        for entry in entries:
            data = what_is_left(vault.store, pack_key(entry.name))
            for row, encoding, content in contents.sound(data or b"", blob_rows(entry.rows)):
                if not blobs.has(row.id) and not vault.index.holds(row.type, row.id):
                    blobs.add(row.type, row.id, encoding, len(content))
        blobs.close()
        if blobs.packs:
            vault.ledger.add_index(blobs.packs, vault.now())

    def _remembered(
        self, states: Sequence[tuple[Link, SnapshotState]]
    ) -> tuple[Forgotten, dict[str, dict[str, str]]]:
        """Return what was forgotten and what is held, as far as any snapshot still says so."""
        top = {link.name for link in heads([link for link, _state in states])}
        newest = [state for link, state in states if link.name in top]
        every = [state for _link, state in states]
        known, complete = self._forgotten_in(newest)
        if not complete or self._unreadable:
            self._notes.append(
                "studies that were forgotten last may be back: what was forgotten is known only"
                " from older snapshots"
            )
            known += self._forgotten_in(every)[0]
        holds: dict[str, dict[str, str]] = {}
        try:
            for content in self._blobs(state.holds for state in newest):
                holds |= read_json(content).get("studies", {})
        except VaultDamagedError:
            self._notes.append("legal holds are those that older snapshots name; look at them")
            for state in every:
                try:
                    for content in self._blobs([state.holds]):
                        holds |= read_json(content).get("studies", {})
                except VaultDamagedError:
                    continue
        gone = {key.removeprefix("snapshots/") for key in self._snapshots}
        lost = frozenset(identity for _kind, identity in self._found.lost)
        return united([*known, Forgotten(frozenset(gone), {}, lost)]), holds

    def _forgotten_in(self, states: Iterable[SnapshotState]) -> tuple[list[Forgotten], bool]:
        known, complete = [], True
        for blob in {state.forgotten for state in states if state.forgotten}:
            try:
                known.append(decode_forgotten(self._vault.read_blob(BlobType.STATE, blob)))
            except VaultDamagedError:
                complete = False
        return known, complete

    def _blobs(self, identities: Iterable[bytes]) -> Iterator[bytes]:
        for identity in set(identities) - {b""}:
            yield self._vault.read_blob(BlobType.STATE, identity)

    def _find_records_again(self, now: VaultState) -> None:
        """Write a journal of records that only lost snapshots, lists or manifests named."""
        if not self._unreadable and not any(
            kind is BlobType.STATE for kind, _id in self._found.lost
        ):
            return
        known = {ref.id for shard in now.shard_names() for ref in _refs(now, shard)}
        refs = []
        for pack in self._vault.index.packs.values():
            for row in blob_rows(pack.rows):
                if row.type is not BlobType.RECORDS or row.id in known:
                    continue
                known.add(row.id)
                try:
                    part = read_records(self._vault, row.id)
                except VaultDamagedError:
                    continue
                refs.append(RecordsRef(part.study_instance_uid, row.id, len(part.instances)))
                self._studies.add(part.study_instance_uid)
        if refs:
            self._vault.ledger.add_journal(Addition((), tuple(refs), written_at=self._vault.now()))

    def _remove_damaged(self) -> None:
        """Let indexes name only packs that are there, and remove what is of no more use."""
        vault = self._vault
        old = vault.ledger.index_objects()
        new = vault.ledger.add_index(list(vault.index.packs.values()), vault.now())
        for key in old:
            if key != new:
                vault.ledger.remove_index(key)
        for name in sorted(self._packs):
            for key in (pack_key(name), *vault.packs.parity_keys(name)):
                try:
                    vault.store.delete(key)
                except ObjectMissingError:
                    continue
                except ObjectLockedError:  # a prune removes it when its time is over
                    _log.info("%s is locked, and stays until a prune can remove it", key)


def _refs(state: VaultState, shard: str) -> Iterator[RecordsRef]:
    for entries in state.entries(shard).values():
        for entry in entries:
            yield from state.manifest(entry)
