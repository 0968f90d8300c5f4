"""Taking a snapshot: what journals added becomes part of the chain (format page, 10 and 12).

The order makes it safe to be killed anywhere: packs, index, snapshot, and only then are journals
and packs removed that the new objects made superfluous.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from dcmvault.errors import (
    VaultBusyError,
    VaultDamagedError,
)
from dcmvault.model.instance import SeriesAttributes, StudyAttributes
from dcmvault.model.sidecar import SidecarFile
from dcmvault.vault.blob import BlobType
from dcmvault.vault.blob_packs import BlobPacks
from dcmvault.vault.current_records import current_parts
from dcmvault.vault.freed_memory import give_back
from dcmvault.vault.index import RecordsRef
from dcmvault.vault.locking import ObjectLocks
from dcmvault.vault.merging import put_together, remove_superseded
from dcmvault.vault.pack import PackEntry, blob_rows
from dcmvault.vault.profile import DEFAULT_PROFILE, Profile
from dcmvault.vault.records import json_bytes
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link, SnapshotState, encode_snapshot, shard_of
from dcmvault.vault.state import Forgotten, StudyEntry, VaultState, about, present_state

_log = logging.getLogger(__name__)

_SIDECAR_PIECE_BYTES = 4 << 20
#: How often a snapshot is tried while prunes come between.
_ATTEMPTS = 3

Sidecar = tuple[tuple[str, int, bytes, tuple[bytes, ...]], ...]


@dataclass(slots=True)
class Change:
    """What a snapshot changes beside taking up journals."""

    kind: str = "backup"
    run: str = ""
    source: str = ""
    #: Files of the source as a whole; None leaves those of earlier snapshots.
    sidecar: Iterable[SidecarFile] | None = None
    holds: Mapping[str, Mapping[str, str]] | None = None
    forgotten: Forgotten | None = None
    #: Of a repair: studies whose lists are written anew; everything is counted again.
    mended: frozenset[str] | None = None


def take_snapshot(vault: Vault, change: Change, profile: Profile = DEFAULT_PROFILE) -> Link | None:
    """Take a snapshot of the present state; None if it would say nothing new.

    Durable on return. May be repeated, and may be done by several writers at once: then there
    are several heads, which the next one brings together. VaultBusyError if prunes come between
    again and again.
    """
    # A sidecar can be read once only.
    for _attempt in range(_ATTEMPTS - 1 if change.sidecar is None else 0):
        try:
            return _Taking(vault, change, profile).run()
        except VaultBusyError:
            # What the prune condemned is stored anew; nothing refers to it yet.
            _log.info("a prune began while a snapshot was taken")
    return _Taking(vault, change, profile).run()


@dataclass(slots=True)
class _Totals:
    studies: int = 0
    instances: int = 0
    size: int = 0


@dataclass(slots=True)
class _Taking:
    vault: Vault
    change: Change
    profile: Profile
    totals: _Totals = field(default_factory=_Totals)
    added: _Totals = field(default_factory=_Totals)
    #: Packs that were condemned when the vault was looked at.
    condemned: frozenset[bytes] = frozenset()

    def run(self) -> Link | None:
        """Do it."""
        give_back()  # what verification took, of studies of any size
        before = present_state(self.vault, self.change.forgotten)
        self.condemned = self.vault.ledger.condemned
        for link in before.links:
            self.vault.objects.complete(link.key)
        blobs = BlobPacks(self.vault, self.profile)
        sidecars, sidecar_is_new = self._sidecars(before, blobs)
        fresh = self._fresh(before)
        changed = self.change.holds is not None or self.change.forgotten is not None
        locks = ObjectLocks(self.vault)
        locks_are_due = locks.are_due(before)
        if not (fresh or sidecar_is_new or changed or locks_are_due or len(before.links) > 1):
            remove_superseded(self.vault, before.journals, [])
            return None
        shards = self._shards(before, fresh, blobs)
        moved, others = put_together(self.vault, before.journals, blobs)
        holds = self._store_holds(before, blobs)
        forgotten = _store_forgotten(before.forgotten, blobs)
        blobs.close()
        packs = self._write_index([*others, *blobs.packs])
        self._check(before, packs, blobs)
        state = SnapshotState(
            kind=self.change.kind,
            run=self.change.run,
            source=self.change.source,
            created_at=self.vault.now(),
            studies=self.totals.studies,
            instances=self.totals.instances,
            size=self.totals.size,
            shards=shards,
            added={
                "studies": self.added.studies,
                "instances": self.added.instances,
                "bytes": self.added.size,
            },
            holds=holds,
            forgotten=forgotten,
            sidecars=sidecars,
            retained_until=locks.take_up(
                before, [*others, *blobs.packs], moved, renew=locks_are_due
            ),
        )
        link = self._write(state, before)
        try:
            self._check(before, packs, blobs)
        except VaultBusyError:
            self.vault.objects.delete(link.key)
            raise
        remove_superseded(self.vault, before.journals, moved)
        return link

    def _write(self, state: SnapshotState, before: VaultState) -> Link:
        header = self.vault.sealing.new_header(b"S")
        link, data = encode_snapshot(
            state,
            before.parents,
            header=header,
            key=self.vault.sealing.key_of(header),
            signing_key=self.vault.sealing.ring.signing_key,
        )
        self.vault.objects.put(link.key, data)
        return link

    # Studies

    def _fresh(self, before: VaultState) -> dict[str, list[RecordsRef]]:
        """Return what journals add to the snapshots, by study."""
        fresh: dict[str, list[RecordsRef]] = {}
        known: dict[str, set[bytes]] = {}
        settled = replace(before, journals=())
        for journal in before.journals:
            for ref in journal.records:
                uid = ref.study_instance_uid
                if uid not in known:
                    known[uid] = {old.id for old in settled.refs(uid)}
                if ref.id not in known[uid]:
                    known[uid].add(ref.id)
                    fresh.setdefault(uid, []).append(ref)
        return fresh

    def _shards(
        self, now: VaultState, fresh: Mapping[str, list[RecordsRef]], blobs: BlobPacks
    ) -> dict[str, bytes]:
        """Write the shards that change, and count what the vault holds."""
        by_shard: dict[str, set[str]] = {}
        for uid in {*fresh, *now.forgotten.studies, *(self.change.mended or ())}:
            by_shard.setdefault(shard_of(uid), set()).add(uid)
        single = len(now.states) == 1 and self.change.mended is None
        if single:
            only = now.states[0]
            self.totals = _Totals(only.studies, only.instances, only.size)
        shards: dict[str, bytes] = {}
        for name in sorted({*now.shard_names(), *by_shard}):
            touched = by_shard.get(name, set())
            versions = {state.shards[name] for state in now.states if name in state.shards}
            if single and not touched:
                shards[name] = versions.pop()
                continue
            entries = self._merge_shard(now, name, touched, blobs, count_all=not single)
            if entries:
                document = {"studies": {e.study_instance_uid: e.document() for e in entries}}
                shards[name] = blobs.put(BlobType.STATE, json_bytes(document))
        return shards

    def _merge_shard(
        self, now: VaultState, name: str, touched: set[str], blobs: BlobPacks, *, count_all: bool
    ) -> list[StudyEntry]:
        known = now.entries(name)
        entries: list[StudyEntry] = []
        for uid in sorted({*known, *touched}):
            old = known.get(uid, [])
            if uid not in touched and len({entry.manifest for entry in old}) == 1:
                entry: StudyEntry | None = old[0]
            else:
                entry = self._study(now, uid, blobs)
                self._count_added(old, entry)
            if not count_all:
                for gone in old[:1] if uid in touched else ():
                    self._count(gone, -1)
                if entry is not None and uid in touched:
                    self._count(entry, 1)
            elif entry is not None:
                self._count(entry, 1)
            if entry is not None:
                entries.append(entry)
        return entries

    def _count(self, entry: StudyEntry, sign: int) -> None:
        self.totals.studies += sign
        self.totals.instances += sign * entry.instances
        self.totals.size += sign * entry.size

    def _count_added(self, old: list[StudyEntry], entry: StudyEntry | None) -> None:
        if entry is None:
            return
        before = max(old, key=lambda one: one.instances, default=None)
        self.added.studies += before is None
        self.added.instances += max(entry.instances - (before.instances if before else 0), 0)
        self.added.size += max(entry.size - (before.size if before else 0), 0)

    def _study(self, now: VaultState, uid: str, blobs: BlobPacks) -> StudyEntry | None:
        """Write a study's manifest, without records that later ones replace."""
        refs: list[list[object]] = []
        attributes, series = StudyAttributes(), dict[str, SeriesAttributes]()
        instances = size = 0
        for blob, part, is_whole in current_parts(now, uid):
            if not (is_whole and blobs.can_refer_to(BlobType.RECORDS, blob)):
                blob = blobs.put(BlobType.RECORDS, part.encode())
            refs.append([blob.hex(), len(part.instances)])
            instances += len(part.instances)
            size += sum(record.size for record in part.instances)
            attributes = part.attributes
            series |= part.series
        if not refs:
            return None
        manifest = blobs.put(BlobType.STATE, json_bytes({"study": uid, "records": refs}))
        found_by = about(attributes._asdict(), series)
        return StudyEntry(uid, manifest, instances, size, found_by)

    # Sidecars and other state

    def _sidecars(self, before: VaultState, blobs: BlobPacks) -> tuple[dict[str, Sidecar], bool]:
        known: dict[str, Sidecar] = {}
        for state in sorted(before.states, key=lambda state: state.created_at):
            known |= {
                source: tuple(file for file in files if not _is_lost(before, file))
                for source, files in state.sidecars.items()
            }
        if self.change.sidecar is None:
            return known, False
        files = tuple(self._store_sidecar(file, blobs) for file in self.change.sidecar)
        is_new = bool(files) and known.get(self.change.source) != files
        if files:
            known[self.change.source] = files
        return known, is_new

    def _store_sidecar(
        self, file: SidecarFile, blobs: BlobPacks
    ) -> tuple[str, int, bytes, tuple[bytes, ...]]:
        digest, size, ids = hashlib.sha256(), 0, []
        with file.path.open("rb") as stream:
            while piece := stream.read(_SIDECAR_PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
                ids.append(blobs.put(BlobType.VALUE, piece))
        return file.name, size, digest.digest(), tuple(ids)

    def _store_holds(self, before: VaultState, blobs: BlobPacks) -> bytes:
        holds = before.holds() if self.change.holds is None else self.change.holds
        return blobs.put(BlobType.STATE, json_bytes({"studies": holds})) if holds else b""

    def _write_index(self, packs: list[PackEntry]) -> list[PackEntry]:
        """Write an index of all packs that journals named, before the snapshot leans on it."""
        packs = [pack for pack in packs if self._is_there(pack)]
        if packs:
            self.vault.ledger.add_index(packs, self.vault.now())
        return packs

    def _check(self, before: VaultState, packs: list[PackEntry], blobs: BlobPacks) -> None:
        """Raise VaultBusyError if a prune came between, and what the snapshot needs may go.

        Looked at before and after it is written: a prune removes snapshots first and condemns packs
        then, and looks at snapshots again before it removes any. So one sees the other.
        """
        fresh = self.vault.ledger.look_at_condemned() - self.condemned
        there = set(self.vault.objects.keys("snapshots/"))
        if (
            any(pack.name in fresh for pack in packs)
            or not all(self.vault.index.holds(kind, one) for one, kind in blobs.leans_on.items())
            or not all(link.key in there for link in before.parents)
        ):
            raise _busy()

    def _is_there(self, pack: PackEntry) -> bool:
        """Say whether a pack is there, or another snapshot moved all its blobs meanwhile."""
        size = self.vault.packs.size(pack.name)
        if size == pack.size:
            return True
        if size is None:
            self.vault.index.drop([pack.name])
            self.vault.refresh()
            if all(self.vault.index.holds(row.type, row.id) for row in blob_rows(pack.rows)):
                return False
            if pack.name in self.vault.ledger.condemned:
                raise _busy()
        raise VaultDamagedError(f"the pack {pack.name.hex()} is missing or cut short")


def _busy() -> VaultBusyError:
    return VaultBusyError(
        "a prune began while the snapshot was taken",
        hint="Nothing is lost; the next run takes the snapshot.",
    )


def _is_lost(state: VaultState, file: tuple[str, int, bytes, tuple[bytes, ...]]) -> bool:
    return any(state.is_given_up(BlobType.VALUE, blob) for blob in file[3])


def _store_forgotten(forgotten: Forgotten, blobs: BlobPacks) -> bytes:
    if not any(forgotten):
        return b""
    return blobs.put(BlobType.STATE, json_bytes(forgotten.document()))
