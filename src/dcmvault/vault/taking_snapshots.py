"""Taking a snapshot: what journals added becomes part of the chain (format page, 10 and 12).

The order makes it safe to be killed anywhere: packs, index, snapshot, and only then are journals
and packs removed that the new objects made superfluous.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from dcmvault.errors import (
    DestinationError,
    ObjectMissingError,
    VaultBusyError,
    VaultDamagedError,
)
from dcmvault.model.sidecar import SidecarFile
from dcmvault.vault.blob import BlobType
from dcmvault.vault.codec import encode_bytes
from dcmvault.vault.index import Addition, RecordsRef
from dcmvault.vault.pack import PACK_BYTES, PackBuilder, PackEntry, blob_rows, pack_key
from dcmvault.vault.profile import DEFAULT_PROFILE, Profile
from dcmvault.vault.records import InstanceRecord, StudyRecords, current, json_bytes
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link, SnapshotState, encode_snapshot, shard_of
from dcmvault.vault.state import Forgotten, StudyEntry, VaultState, about, present_state

_log = logging.getLogger(__name__)

#: Packs smaller than this are put together when a snapshot is taken.
SMALL_PACK_BYTES = 8 << 20
_SIDECAR_PIECE_BYTES = 4 << 20

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


def take_snapshot(vault: Vault, change: Change, profile: Profile = DEFAULT_PROFILE) -> Link | None:
    """Take a snapshot of the present state; None if it would say nothing new.

    Durable on return. May be repeated, and may be done by several writers at once: then there
    are several heads, which the next one brings together.
    """
    return _Taking(vault, change, profile).run()


class BlobPacks:
    """Stores blobs of a snapshot in packs of their own, unless the vault has them."""

    def __init__(self, vault: Vault, profile: Profile) -> None:
        self._vault = vault
        self._profile = profile
        self._builder: PackBuilder | None = None
        self._new: set[bytes] = set()
        self.packs: list[PackEntry] = []

    def put(self, kind: BlobType, content: bytes) -> bytes:
        """Store a content and return its id."""
        identity = self._vault.blob_id(kind, content)
        if identity not in self._new and not self._vault.index.holds(kind, identity):
            self.add(kind, identity, encode_bytes(content, self._profile), len(content))
        return identity

    def add(self, kind: BlobType, identity: bytes, encoding: bytes, content_length: int) -> None:
        """Store a blob whose encoding is there."""
        self._new.add(identity)
        if self._builder is None:
            self._builder = self._vault.new_pack()
        self._builder.add(kind, identity, encoding, content_length)
        if self._builder.size >= PACK_BYTES:
            self.close()

    def has(self, identity: bytes) -> bool:
        """Say whether the blob was stored here."""
        return identity in self._new

    def close(self) -> None:
        """Make what was stored so far durable."""
        if self._builder is not None and len(self._builder):
            entry, data = self._builder.finish()
            self._vault.store_pack(entry, data)
            self.packs.append(entry)
        self._builder = None


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

    def run(self) -> Link | None:
        """Do it."""
        before = present_state(self.vault)
        blobs = BlobPacks(self.vault, self.profile)
        sidecars, sidecar_is_new = self._sidecars(before, blobs)
        fresh = self._fresh(before)
        changed = self.change.holds is not None or self.change.forgotten is not None
        if not (fresh or sidecar_is_new or changed or len(before.links) > 1):
            self._remove_journals(before, [])
            return None
        forgotten = self.change.forgotten or before.forgotten
        now = replace(before, forgotten=forgotten)
        shards = self._shards(now, fresh, blobs)
        moved, merged = self._put_together(before, blobs)
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
            holds=self._store_holds(before, blobs),
            forgotten=self._store_forgotten(forgotten, blobs),
            sidecars=sidecars,
        )
        blobs.close()
        self._write_index(before, [*merged, *blobs.packs], moved)
        link = self._write(state, before)
        self._remove_journals(before, moved)
        return link

    def _write(self, state: SnapshotState, before: VaultState) -> Link:
        header = self.vault.new_header(b"S")
        link, data = encode_snapshot(
            state,
            before.links,
            header=header,
            key=self.vault.seal_key(header),
            signing_key=self.vault.ring.signing_key,
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
        for uid in {*fresh, *now.forgotten.studies}:
            by_shard.setdefault(shard_of(uid), set()).add(uid)
        single = len(now.states) == 1
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
        parts = now.stored(uid)
        counted = current([record for part in parts for record in part.instances])
        if not counted:
            return None
        alive = {id(record) for record in counted}
        refs: list[list[object]] = []
        for part in parts:
            kept = tuple(record for record in part.instances if id(record) in alive)
            if kept:
                refs.append([self._store_records(part, kept, blobs).hex(), len(kept)])
        manifest = blobs.put(BlobType.STATE, json_bytes({"study": uid, "records": refs}))
        newest = parts[-1]
        series = {name: one for part in parts for name, one in part.series.items()}
        return StudyEntry(
            uid,
            manifest,
            len(counted),
            sum(record.size for record in counted),
            about(newest.attributes._asdict(), series),
        )

    def _store_records(
        self, part: StudyRecords, kept: tuple[InstanceRecord, ...], blobs: BlobPacks
    ) -> bytes:
        return blobs.put(BlobType.RECORDS, replace(part, instances=kept).encode())

    # Sidecars and other state

    def _sidecars(self, before: VaultState, blobs: BlobPacks) -> tuple[dict[str, Sidecar], bool]:
        known: dict[str, Sidecar] = {}
        for state in sorted(before.states, key=lambda state: state.created_at):
            known |= state.sidecars
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

    def _store_forgotten(self, forgotten: Forgotten, blobs: BlobPacks) -> bytes:
        if not (forgotten.snapshots or forgotten.studies):
            return b""
        return blobs.put(BlobType.STATE, json_bytes(forgotten.document()))

    # Packs

    def _put_together(
        self, before: VaultState, blobs: BlobPacks
    ) -> tuple[list[PackEntry], list[PackEntry]]:
        """Copy the blobs of small packs of the journals; return (packs moved, packs kept)."""
        packs = list(self._journal_packs(before))
        small = [pack for pack in packs if pack.size < SMALL_PACK_BYTES]
        if len(small) < 2:
            return [], packs
        moved: list[PackEntry] = []
        for pack in small:
            try:
                self._copy(pack, blobs)
            except ObjectMissingError:  # another snapshot moved it: its index says where to
                continue
            moved.append(pack)
        names = {pack.name for pack in small}
        return moved, [pack for pack in packs if pack.name not in names]

    def _copy(self, pack: PackEntry, blobs: BlobPacks) -> None:
        data = self.vault.store.get(pack_key(pack.name))
        sealer = self.vault.pack_sealer(pack.name)
        for number, row in enumerate(blob_rows(pack.rows)):
            if blobs.has(row.id):
                continue
            sealed = memoryview(data)[row.offset : row.offset + row.length]
            encoding = sealer.open(number, row.type.letter, row.id, sealed)
            blobs.add(row.type, row.id, encoding, row.content_length)

    def _journal_packs(self, before: VaultState) -> Iterator[PackEntry]:
        for name, pack in self.vault.packs_of_journals(
            [journal.name for journal in before.journals]
        ).items():
            if name not in self.vault.condemned:
                yield pack

    def _write_index(
        self, before: VaultState, packs: list[PackEntry], moved: list[PackEntry]
    ) -> None:
        """Write an index of all packs that journals named, before the snapshot leans on it."""
        for pack in packs:
            if self.vault.store.head(pack_key(pack.name)) != pack.size:
                raise VaultDamagedError(f"the pack {pack.name.hex()} is missing or cut short")
        condemned = self.vault.condemned
        if not self.vault.look_at_condemned() <= condemned:
            raise VaultBusyError(
                "a prune began while the snapshot was taken",
                hint="Nothing is lost; the next run takes the snapshot.",
            )
        if packs:
            addition = Addition(tuple(packs), written_at=self.vault.now())
            self.vault.put_object("index", b"I", addition.encode())
            self.vault.index.add(packs)
        _log.debug("%d journals, %d packs put together", len(before.journals), len(moved))

    def _remove_journals(self, before: VaultState, moved: list[PackEntry]) -> None:
        """Remove what the snapshot made superfluous; what stays behind is harmless."""
        for journal in before.journals:
            self._remove_quietly(journal.name, redundant=True)
        for pack in moved:
            self._remove_quietly(pack_key(pack.name), redundant=False)
            for key in self.vault.parity_keys(pack.name):
                self._remove_quietly(key, redundant=False)
        self.vault.index.drop(pack.name for pack in moved)

    def _remove_quietly(self, key: str, *, redundant: bool) -> None:
        try:
            if redundant:
                self.vault.objects.delete(key)
            else:
                self.vault.store.delete(key)
        except ObjectMissingError:
            return
        except DestinationError as error:  # locked against deletion, or the disk is gone
            _log.info("%s stays behind: %s", key, error.code)
