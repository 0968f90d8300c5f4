"""The state of a vault at a time: which studies it holds, and which records make them up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from dcmvault.errors import ObjectMissingError, VaultDamagedError
from dcmvault.vault.blob import BlobType
from dcmvault.vault.index import RecordsRef
from dcmvault.vault.ledger import Journal
from dcmvault.vault.records import InstanceRecord, StudyRecords, current, read_json
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link, SnapshotState, heads, shard_of

#: A prune may remove snapshots while they are read.
_LOOKS = 5


class StudyEntry(NamedTuple):
    """What a shard says of one study."""

    study_instance_uid: str
    manifest: bytes
    instances: int
    size: int  #: bytes of all files
    about: Mapping[str, str]

    def document(self) -> dict[str, object]:
        """Return the entry as the format writes it."""
        return {
            "manifest": self.manifest.hex(),
            "instances": self.instances,
            "bytes": self.size,
            "about": dict(self.about),
        }


class Forgotten(NamedTuple):
    """What was forgotten on purpose, and what a repair had to give up."""

    snapshots: frozenset[str] = frozenset()
    studies: Mapping[str, str] = {}
    #: Ids of blobs that were lost. They count again as soon as somebody stores them anew.
    lost: frozenset[bytes] = frozenset()

    def document(self) -> dict[str, object]:
        """Return it as the format writes it."""
        return {
            "snapshots": sorted(self.snapshots),
            "studies": dict(self.studies),
            "lost": sorted(blob.hex() for blob in self.lost),
        }


@dataclass(slots=True)
class VaultState:
    """The union of some snapshots, and of journals; reads shards and manifests as needed."""

    vault: Vault
    links: Sequence[Link]
    states: Sequence[SnapshotState]
    journals: Sequence[Journal] = ()
    #: Of the present, whatever the time looked at: what is forgotten is forgotten for all times.
    forgotten: Forgotten = field(default_factory=Forgotten)
    #: Of the present: what a snapshot of it names as parents.
    parents: Sequence[Link] = ()
    _shards: dict[bytes, dict[str, StudyEntry]] = field(default_factory=dict)
    #: What journals say, by study; made when it is first needed.
    _fresh: dict[str, list[RecordsRef]] | None = field(init=False, default=None, repr=False)

    def shard_names(self) -> list[str]:
        """List the shards that hold any study."""
        names = {name for state in self.states for name in state.shards}
        names |= {shard_of(ref.study_instance_uid) for ref in _refs_of(self.journals)}
        return sorted(names)

    def entries(self, shard: str) -> dict[str, list[StudyEntry]]:
        """Return the entries of one shard, by study; several where heads differ."""
        found: dict[str, list[StudyEntry]] = {}
        for listed in self._lists(shard):
            for uid, entry in listed.items():
                found.setdefault(uid, []).append(entry)
        return found

    def entries_of(self, study_instance_uid: str) -> list[StudyEntry]:
        """Return the entries of one study; several where heads differ."""
        return [
            listed[study_instance_uid]
            for listed in self._lists(shard_of(study_instance_uid))
            if study_instance_uid in listed
        ]

    def _lists(self, shard: str) -> Iterator[dict[str, StudyEntry]]:
        """Read what each head says of a shard; what was given up says nothing."""
        for blob in dict.fromkeys(
            state.shards[shard] for state in self.states if shard in state.shards
        ):
            if not self.is_given_up(BlobType.STATE, blob):
                yield self._shard(blob)

    def studies(self) -> Iterator[str]:
        """List the UIDs of all studies that hold any record, by shard."""
        pending: dict[str, set[str]] = {}
        for ref in _refs_of(self.journals):
            uid = ref.study_instance_uid
            pending.setdefault(shard_of(uid), set()).add(uid)
        for shard in self.shard_names():
            uids = set(self.entries(shard)) | pending.get(shard, set())
            for uid in sorted(uids):
                if uid not in self.forgotten.studies or self.records(uid):
                    yield uid

    def about(self, study_instance_uid: str) -> Mapping[str, str]:
        """Return the attributes that a study is found by."""
        for entry in self.entries_of(study_instance_uid):
            return entry.about
        for stored in self.stored(study_instance_uid):
            return about(stored.attributes._asdict(), stored.series)
        return {}

    def refs(self, study_instance_uid: str) -> list[RecordsRef]:
        """List the blobs of records of one study."""
        found: dict[bytes, RecordsRef] = {}
        for entry in self.entries_of(study_instance_uid):
            for ref in self.manifest(entry):
                found[ref.id] = ref
        if self._fresh is None:
            # A first backup has all its studies in journals: none is gone through for each.
            self._fresh = {}
            for ref in _refs_of(self.journals):
                self._fresh.setdefault(ref.study_instance_uid, []).append(ref)
        found |= {ref.id: ref for ref in self._fresh.get(study_instance_uid, ())}
        return list(found.values())

    def manifest(self, entry: StudyEntry) -> list[RecordsRef]:
        """Return the blobs of records that a manifest names; none for one that was given up."""
        if self.is_given_up(BlobType.STATE, entry.manifest):
            return []
        return read_manifest(self.vault, entry)

    def stored(self, study_instance_uid: str) -> list[StudyRecords]:
        """Return the blobs of records of one study that count, oldest first."""
        return sorted(
            (
                self.without_lost(part)
                for _ref, part in self.counting(self.refs(study_instance_uid))
            ),
            key=lambda part: part.stored_at,
        )

    def counting(self, refs: Iterable[RecordsRef]) -> Iterator[tuple[RecordsRef, StudyRecords]]:
        """Read blobs of records; leave out what was forgotten, or was lost and given up."""
        for ref in refs:
            since = self.forgotten.studies.get(ref.study_instance_uid, "")
            if self.is_given_up(BlobType.RECORDS, ref.id):
                continue
            try:
                part = read_records(self.vault, ref.id)
            except VaultDamagedError:
                if since and not _is_in_a_pack(self.vault, ref):
                    continue  # forgotten, and pruned
                raise
            if part.stored_at > since:
                yield ref, part

    def is_given_up(self, kind: BlobType, blob: bytes) -> bool:
        """Say whether a blob was lost, and nobody stored it anew since."""
        return blob in self.forgotten.lost and not self.vault.index.places(kind, blob)

    def without_lost(self, part: StudyRecords) -> StudyRecords:
        """Leave out files that need a blob which was given up."""
        if not self.forgotten.lost:
            return part
        kept = tuple(
            record
            for record in part.instances
            if not any(self.is_given_up(BlobType(kind), blob) for kind, blob in record.blob_ids())
        )
        return replace(part, instances=kept)

    def records(self, study_instance_uid: str) -> list[InstanceRecord]:
        """Return the records of one study that count."""
        return current(
            [record for part in self.stored(study_instance_uid) for record in part.instances]
        )

    def holds(self) -> dict[str, dict[str, str]]:
        """Return the studies under legal hold, with reason and time."""
        found: dict[str, dict[str, str]] = {}
        for blob in {state.holds for state in self.states if state.holds}:
            found |= _state_blob(self.vault, blob).get("studies", {})
        return found

    def _shard(self, blob: bytes) -> dict[str, StudyEntry]:
        if blob not in self._shards:
            self._shards[blob] = decode_shard(self.vault.read_blob(BlobType.STATE, blob))
        return self._shards[blob]


def _refs_of(journals: Iterable[Journal]) -> Iterator[RecordsRef]:
    for journal in journals:
        yield from journal.records


def _is_in_a_pack(vault: Vault, ref: RecordsRef) -> bool:
    """Ask the store: an index may name packs that a prune has removed, or removes just now."""
    places = vault.index.places(BlobType.RECORDS, ref.id)
    return any(vault.packs.size(place.pack) is not None for place in places)


def present_state(vault: Vault, forgotten: Forgotten | None = None) -> VaultState:
    """Return what the vault holds now: all heads and all journals.

    `forgotten` stands in for what the heads say of it, which a repair may find unreadable.
    """
    for _look in range(_LOOKS):
        vault.refresh()
        # Before snapshots are listed: what one of them has taken up meanwhile may count twice.
        journals = vault.journals()
        every = vault.links()
        top = heads(every)
        try:
            states = [vault.state(link) for link in top]
            break
        except ObjectMissingError as error:  # a prune removed it just now, with its descendants
            missing = error
    else:
        raise missing
    if forgotten is None:
        forgotten = forgotten_of(vault, states)
    gone = forgotten.snapshots
    return VaultState(
        vault,
        [link for link in top if link.name not in gone],
        [state for link, state in zip(top, states, strict=True) if link.name not in gone],
        journals,
        forgotten,
        # Also those that nobody else will name once what is forgotten is gone: they never look
        # like heads.
        heads([link for link in every if link.name not in gone]),
    )


def state_at(vault: Vault, links: Collection[Link]) -> VaultState:
    """Return what the vault held when the youngest of these snapshots were taken."""
    now = present_state(vault)
    top = heads(links)
    return VaultState(vault, top, [vault.state(link) for link in top], (), now.forgotten)


def forgotten_of(vault: Vault, states: Sequence[SnapshotState]) -> Forgotten:
    """Return the union of what these snapshots say was forgotten."""
    blobs = {state.forgotten for state in states if state.forgotten}
    return united(decode_forgotten(vault.read_blob(BlobType.STATE, blob)) for blob in blobs)


def united(every: Iterable[Forgotten]) -> Forgotten:
    """Return what any of these says was forgotten."""
    snapshots: set[str] = set()
    studies: dict[str, str] = {}
    lost: set[bytes] = set()
    for one in every:
        snapshots |= one.snapshots
        lost |= one.lost
        for uid, since in one.studies.items():
            studies[uid] = max(since, studies.get(uid, ""))
    return Forgotten(frozenset(snapshots), studies, frozenset(lost))


def decode_forgotten(content: bytes) -> Forgotten:
    """Read a blob that says what was forgotten; VaultDamagedError if it does not."""
    document = read_json(content)
    try:
        return Forgotten(
            frozenset(document.get("snapshots", ())),
            dict(document.get("studies", {})),
            frozenset(bytes.fromhex(blob) for blob in document.get("lost", ())),
        )
    except (TypeError, ValueError) as error:
        raise VaultDamagedError("what was forgotten cannot be read") from error


def decode_shard(content: bytes) -> dict[str, StudyEntry]:
    """Read a list of studies; VaultDamagedError if it is none."""
    try:
        return {
            uid: StudyEntry(
                uid,
                bytes.fromhex(entry["manifest"]),
                int(entry["instances"]),
                int(entry["bytes"]),
                entry["about"],
            )
            for uid, entry in read_json(content)["studies"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VaultDamagedError("a list of studies cannot be read") from error


def read_manifest(vault: Vault, entry: StudyEntry) -> list[RecordsRef]:
    """Return the blobs of records that a study's manifest names."""
    content = vault.read_blob(BlobType.STATE, entry.manifest)
    return decode_manifest(entry.study_instance_uid, content)


def decode_manifest(study_instance_uid: str, content: bytes) -> list[RecordsRef]:
    """Read a study's manifest; VaultDamagedError if it is none."""
    try:
        return [
            RecordsRef(study_instance_uid, bytes.fromhex(blob), int(instances))
            for blob, instances in read_json(content)["records"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise VaultDamagedError("a study's manifest cannot be read") from error


def read_records(vault: Vault, blob: bytes) -> StudyRecords:
    """Return one blob of records."""
    return StudyRecords.decode(vault.read_blob(BlobType.RECORDS, blob))


def about(attributes: Mapping[str, str], series: Mapping[str, Any]) -> dict[str, str]:
    """Return what a study is found by: its attributes, and the modalities of its series."""
    found = {name: value for name, value in attributes.items() if value}
    modalities = sorted({one.modality for one in series.values() if one.modality})
    if modalities:
        found["modalities"] = " ".join(modalities)
    return found


def _state_blob(vault: Vault, blob: bytes) -> dict[str, Any]:
    return read_json(vault.read_blob(BlobType.STATE, blob))
