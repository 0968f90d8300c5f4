"""What snapshots need, checked: is every part of every file in a pack that is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from dcmvault.errors import (
    DestinationStoppedError,
    DestinationUnreachableError,
    ObjectMissingError,
    VaultDamagedError,
    VaultFormatError,
)
from dcmvault.vault.blob import BlobType
from dcmvault.vault.check_objects import Verdict
from dcmvault.vault.check_packs import PackContents
from dcmvault.vault.findings import Blob, Touched
from dcmvault.vault.index import BlobIndex, RecordsRef
from dcmvault.vault.inventory import Inventory
from dcmvault.vault.pack import PackEntry, blob_rows, pack_key
from dcmvault.vault.records import InstanceRecord, StudyRecords
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link, SnapshotState, heads
from dcmvault.vault.state import (
    Forgotten,
    StudyEntry,
    decode_forgotten,
    decode_manifest,
    decode_shard,
    united,
)

#: Under this key is noted what is in no pack.
NOWHERE = ""
#: Looks for what other writers moved meanwhile, at most so often.
_MOST_LOOKS = 20
_READABLE = (BlobType.STATE, BlobType.RECORDS)


class _Standing(Enum):
    SOUND = 1
    #: A repair gives it back: from parity, or from a pack that no index names.
    MENDABLE = 2
    LOST = 3


@dataclass(slots=True)
class PackFacts:
    """What is known of the packs so far: which are there, and which blobs in them are not right."""

    vault: Vault
    inventory: Inventory
    #: Reads a pack because a blob in it turned out to be wrong.
    look_into: Callable[[bytes], Verdict]
    closed: dict[bytes, frozenset[Blob]] = field(default_factory=dict)
    #: Packs that are damaged or gone, and can be mended.
    mendable: set[bytes] = field(default_factory=set)
    #: Packs that no index names, and what is in them.
    unlisted: BlobIndex = field(default_factory=BlobIndex)
    _there: dict[bytes, bool] = field(default_factory=dict)
    _aside: dict[Blob, bytes] = field(default_factory=dict)

    def note(self, name: bytes, verdict: Verdict) -> None:
        """Take up what reading a pack showed."""
        self.closed[name] = verdict.closed
        if verdict.right is not None:
            self._keep_readable(name, verdict.right)

    def note_gone(self, pack: PackEntry, right: bytes | None) -> None:
        """Take up that a pack that an index names is gone; `right` are its bytes, from parity."""
        self.closed[pack.name] = frozenset((row.type, row.id) for row in blob_rows(pack.rows))
        self._there[pack.name] = False
        if right is not None:
            self._keep_readable(pack.name, right)

    def _keep_readable(self, name: bytes, right: bytes) -> None:
        """Keep what says what other blobs are for; the rest is read when it is mended."""
        self.mendable.add(name)
        contents = PackContents(self.vault)
        rows = contents.rows_of_damaged(name, right)
        for row, _encoding, content in contents.sound(right, rows, _READABLE):
            self._aside[row.type, row.id] = content

    def is_there(self, name: bytes) -> bool:
        """Say whether a pack is there, also one that came after the inventory was taken."""
        if self.inventory.pack_size(pack_key(name)) is not None:
            return self._there.get(name, True)
        if name not in self._there:
            self._there[name] = self.vault.packs.size(name) is not None
        return self._there[name]

    def read(self, kind: BlobType, identity: bytes) -> bytes | None:
        """Return a blob's content from wherever it can be had; None if nothing gives it."""
        for index in (self.vault.index, self.unlisted):
            for place in index.places(kind, identity):
                if (kind, identity) in self.closed.get(place.pack, ()):
                    continue
                try:
                    return self.vault.read_at(place, kind, identity)
                except (DestinationUnreachableError, DestinationStoppedError):
                    raise
                except (VaultDamagedError, VaultFormatError):
                    self.note(place.pack, self.look_into(place.pack))
                except ObjectMissingError:
                    self._there[place.pack] = False
        return self._aside.get((kind, identity))


class ContentsCheck:
    """Walks all snapshots and journals down to their blobs; each list is read once."""

    def __init__(self, vault: Vault, facts: PackFacts) -> None:
        self._vault = vault
        self._facts = facts
        #: By key of a pack, or NOWHERE: who needs what is not sound in it.
        self.touched = Touched()
        #: Needed, and given by nothing.
        self.lost: set[Blob] = set()
        #: By head; None where it cannot be read.
        self.forgotten_by_head: dict[str, frozenset[str] | None] = {}
        #: Lists of studies that cannot be read: whom they name is not known.
        self.unnamed = False
        self._forgotten = Forgotten()
        self._walked: set[Blob] = set()
        self._sound: set[Blob] = set()
        self._looks = 0

    def run(self, links: Sequence[Link], states: Sequence[tuple[Link, SnapshotState]]) -> None:
        """Look at everything that these snapshots, and the journals, need."""
        by_name = {link.name: state for link, state in states}
        known: list[Forgotten] = []
        for head in heads(links):
            state = by_name.get(head.name)
            said = self._forgotten_of(state) if state is not None else None
            self.forgotten_by_head[head.name] = None if said is None else said.snapshots
            if said is not None:
                known.append(said)
        self._forgotten = united(known)
        for link, state in sorted(states, key=lambda one: one[0].generation, reverse=True):
            if link.name not in self._forgotten.snapshots or self._is_kept(state):
                self._state(state)
        for journal in self._vault.journals():
            for ref in journal.records:
                self._records(ref)

    def _is_kept(self, state: SnapshotState) -> bool:
        """Say whether a prune left a forgotten snapshot whole, for the sake of a legal hold.

        Of another one only the object itself may be left, where it is locked.
        """
        return all(self._places(BlobType.STATE, blob) for blob in state.shards.values())

    def _forgotten_of(self, state: SnapshotState) -> Forgotten | None:
        if not state.forgotten:
            return Forgotten()
        content = self._facts.read(BlobType.STATE, state.forgotten)
        try:
            return None if content is None else decode_forgotten(content)
        except VaultDamagedError:
            return None

    def _state(self, state: SnapshotState) -> None:
        for blob in (state.holds, state.forgotten):
            if blob:
                self._need(BlobType.STATE, blob)
        for files in state.sidecars.values():
            for file in files:
                for blob in file[3]:
                    self._need(BlobType.VALUE, blob)
        for blob in state.shards.values():
            if self._is_new(BlobType.STATE, blob):
                self._shard(blob)

    def _shard(self, blob: bytes) -> None:
        if self._is_given_up(BlobType.STATE, blob):
            return
        self._need(BlobType.STATE, blob)
        content = self._facts.read(BlobType.STATE, blob)
        if content is None:
            self.unnamed = True
            return
        for entry in decode_shard(content).values():
            if self._is_new(BlobType.STATE, entry.manifest):
                self._manifest(entry)

    def _manifest(self, entry: StudyEntry) -> None:
        if self._is_given_up(BlobType.STATE, entry.manifest):
            return
        uid = entry.study_instance_uid
        self._need(BlobType.STATE, entry.manifest, uid)
        content = self._facts.read(BlobType.STATE, entry.manifest)
        for ref in decode_manifest(uid, content) if content is not None else ():
            self._records(ref)

    def _records(self, ref: RecordsRef) -> None:
        kind, uid = BlobType.RECORDS, ref.study_instance_uid
        if not self._is_new(kind, ref.id) or self._is_given_up(kind, ref.id):
            return
        since = self._forgotten.studies.get(uid, "")
        if since and not self._places(kind, ref.id):
            return  # forgotten, and pruned
        content = self._facts.read(kind, ref.id)
        if content is None:
            self._need(kind, ref.id, uid)
            return
        part = StudyRecords.decode(content)
        if part.stored_at <= since:
            return
        self._need(kind, ref.id, uid, part.instances)
        for record in part.instances:
            for letter, blob in record.blob_ids():
                if not self._is_given_up(BlobType(letter), blob):
                    self._need(BlobType(letter), blob, uid, [record])

    # Blobs

    def _is_new(self, kind: BlobType, identity: bytes) -> bool:
        if (kind, identity) in self._walked:
            return False
        self._walked.add((kind, identity))
        return True

    def _is_given_up(self, kind: BlobType, identity: bytes) -> bool:
        return identity in self._forgotten.lost and not self._places(kind, identity)

    def _places(self, kind: BlobType, identity: bytes) -> list[bytes]:
        places = [*self._vault.index.places(kind, identity)]
        places += self._facts.unlisted.places(kind, identity)
        return [place.pack for place in places]

    def _need(
        self,
        kind: BlobType,
        identity: bytes,
        uid: str | None = None,
        records: Sequence[InstanceRecord] = (),
    ) -> None:
        """Note who needs a blob, if it is not sound."""
        blob = (kind, identity)
        if blob in self._sound:
            return
        standing, keys = self._standing(kind, identity)
        if standing is _Standing.LOST and self._looks < _MOST_LOOKS:
            self._looks += 1  # somebody may have put packs together meanwhile
            self._vault.ledger.refresh(lambda _key, _error: None)
            standing, keys = self._standing(kind, identity)
        if standing is _Standing.SOUND:
            if kind is BlobType.HEADERS:  # many files share one
                self._sound.add(blob)
            return
        if standing is _Standing.LOST:
            self.lost.add(blob)
        for key in keys:
            self.touched.add(
                key,
                uid,
                [record.sop_instance_uid for record in records],
                [record.file_sha256 for record in records],
            )

    def _standing(self, kind: BlobType, identity: bytes) -> tuple[_Standing, list[str]]:
        """Say how a blob is, and the keys of what is wrong with it."""
        facts = self._facts
        wrong: list[bytes] = []
        for name in (place.pack for place in self._vault.index.places(kind, identity)):
            if facts.is_there(name) and (kind, identity) not in facts.closed.get(name, ()):
                return _Standing.SOUND, []
            wrong.append(name)
        others = [
            place.pack
            for place in facts.unlisted.places(kind, identity)
            if (kind, identity) not in facts.closed.get(place.pack, ())
            or place.pack in facts.mendable
        ]
        keys = [pack_key(name) for name in (*wrong, *others)] or [NOWHERE]
        if others or any(name in facts.mendable for name in wrong):
            return _Standing.MENDABLE, keys
        return _Standing.LOST, keys
