"""Evidence about files in a vault: are their objects there, and do they come back as they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    ObjectMissingError,
    VaultDamagedError,
)
from dcmvault.model.evidence import ExpectedInstance, ExpectedStudy, Finding
from dcmvault.model.identifiers import VersionId
from dcmvault.ports.object_store import CacheEviction, Checksums
from dcmvault.vault.blob import BlobType
from dcmvault.vault.pack import pack_key
from dcmvault.vault.reading import FileReader
from dcmvault.vault.records import RECORDS_PER_BLOB, InstanceRecord
from dcmvault.vault.repository import Vault


class VaultInspection:
    """Looks at the files of one study and counts what it did.

    `decoders` read files back; without them their packs are looked for. With `checksums` the
    store's own of each pack must be its name, too.
    """

    def __init__(
        self,
        vault: Vault,
        study: ExpectedStudy,
        decoders: ThreadPoolExecutor | None,
        checksums: Checksums | None = None,
    ) -> None:
        self._vault = vault
        self._decoders = decoders
        self._checksums = checksums
        #: What the store has of each pack that was asked for; None where it has no checksum.
        self._committed: dict[bytes, bytes | None] = {}
        self._packs: dict[bytes, bool] = {}
        self._bytes_read = 0
        self._cache_dropped = 0
        #: What is true of each file ...
        self.findings: dict[VersionId, Finding] = dict.fromkeys(
            (one.version_id for one in study.instances), Finding.MISSING
        )
        #: ... and why of those that are not held.
        self.reasons: dict[VersionId, str] = {}
        #: Digests of files of which the vault has a record, and not all parts.
        self.lost: set[bytes] = set()
        #: What no record was found of yet.
        self.unrecorded: set[VersionId] = set(self.findings)
        self._study = study

    def look_through(self, parts: Iterable[Sequence[InstanceRecord]]) -> None:
        """Look at files of which no record was found yet, by records of the study.

        A part of them at a time, oldest first.
        """
        meant = _Meant(one for one in self._study.instances if one.version_id in self.unrecorded)
        for records in _together(parts):
            wanted = [(record, some) for record in records if (some := meant.by(record))]
            reader = None
            if self._decoders is not None:
                reader = FileReader(self._vault, [record for record, _ in wanted], self._decoders)
            for record, some in wanted:
                self._look_for(some, record, reader)
        for version_id in self.unrecorded:
            self.reasons[version_id] = "no record of it is in the vault"

    def _look_for(
        self, some: Iterable[ExpectedInstance], record: InstanceRecord, reader: FileReader | None
    ) -> None:
        """Look at a file for those that it is; of one whose content is unknown the last counts."""
        doubted = [
            one.version_id
            for one in some
            if not one.file_sha256 or self.findings[one.version_id] is not Finding.HELD
        ]
        if not doubted:
            return
        finding, reason = self._look_at(record, reader)
        if finding in (Finding.MISSING, Finding.DAMAGED):
            self._distrust_packs(record)
            self.lost.add(record.file_sha256)
        elif finding is Finding.HELD:
            self.lost.discard(record.file_sha256)
        for version_id in doubted:
            self.unrecorded.discard(version_id)
            self.findings[version_id] = finding
            self.reasons.pop(version_id, None)
            if reason:
                self.reasons[version_id] = reason

    def _look_at(self, record: InstanceRecord, reader: FileReader | None) -> tuple[Finding, str]:
        for letter, blob in record.blob_ids():
            if not self._has(BlobType(letter), blob):
                return Finding.MISSING, "a pack that it needs is missing or cut short"
        if self._checksums is not None:
            return self._commitment(record)
        if reader is None:
            return Finding.HELD, ""
        try:
            for piece in reader.pieces(record):
                self._bytes_read += len(piece)
        except VaultDamagedError as error:
            return Finding.DAMAGED, error.message
        return Finding.HELD, ""

    def proof(self) -> dict[str, object]:
        """Return what was done and found, without patient data."""
        counts = Counter(finding.value for finding in self.findings.values())
        proof: dict[str, object] = {
            "method": self._method(),
            "packs": len(self._packs),
            "findings": dict(counts),
        }
        if self._decoders is not None:
            proof |= {"bytes_read": self._bytes_read, "cache_dropped": self._cache_dropped}
        return proof

    def _distrust_packs(self, record: InstanceRecord) -> None:
        """Find the packs that do not give what a file needs: nothing new refers to them."""
        for letter, blob in record.blob_ids():
            for place in self._vault.index.places(BlobType(letter), blob):
                try:
                    self._vault.read_at(place, BlobType(letter), blob)
                except (DestinationUnreachableError, DestinationStoppedError):
                    raise
                except DestinationError:
                    self._vault.index.distrust(place.pack)

    def _method(self) -> str:
        if self._checksums is not None:
            return "the store's SHA-256 of packs"
        return "packs and their sizes" if self._decoders is None else "read back, SHA-256"

    def _commitment(self, record: InstanceRecord) -> tuple[Finding, str]:
        """Compare the store's checksums of a file's packs, of which any place will do."""
        worst = (Finding.HELD, "")
        for letter, blob in record.blob_ids():
            names = [place.pack for place in self._vault.index.places(BlobType(letter), blob)]
            told = {name: self._checksum(name) for name in names if self._pack_is_whole(name)}
            if any(name == checksum for name, checksum in told.items()):
                continue
            if None not in told.values():
                return Finding.DAMAGED, "the store's checksum of a pack that it needs is another"
            worst = (Finding.UNKNOWN, "the store has no checksum of a pack that it needs")
        return worst

    def _checksum(self, name: bytes) -> bytes | None:
        assert self._checksums is not None
        if name not in self._committed:
            self._committed[name] = self._checksums.sha256(pack_key(name))
        return self._committed[name]

    def _has(self, kind: BlobType, blob: bytes) -> bool:
        return any(self._pack_is_whole(p.pack) for p in self._vault.index.places(kind, blob))

    def _pack_is_whole(self, name: bytes) -> bool:
        if name not in self._packs:
            pack = self._vault.index.pack(name)
            key = pack_key(name)
            self._packs[name] = pack is not None and self._vault.store.head(key) == pack.size
            if self._packs[name] and self._decoders is not None:
                self._evict(key)
        return self._packs[name]

    def _evict(self, key: str) -> None:
        if isinstance(self._vault.store, CacheEviction):
            try:
                self._cache_dropped += self._vault.store.evict(key)
            except ObjectMissingError:
                return


class _Meant:
    """Which expected instances a record is of: several may have one content, or one name."""

    def __init__(self, instances: Iterable[ExpectedInstance]) -> None:
        self._by_content: dict[bytes, tuple[ExpectedInstance, ...]] = {}
        #: Those whose digest nobody knows, by their SOP Instance UID.
        self._by_uid: dict[str, tuple[ExpectedInstance, ...]] = {}
        for one in instances:
            if sha256 := one.file_sha256:
                self._by_content[sha256] = (*self._by_content.get(sha256, ()), one)
            else:
                uid = one.identity.sop_instance_uid
                self._by_uid[uid] = (*self._by_uid.get(uid, ()), one)

    def by(self, record: InstanceRecord) -> list[ExpectedInstance]:
        """Return those that a record is of."""
        uid = record.sop_instance_uid
        found = self._by_content.get(record.file_sha256, ())
        return [
            *(one for one in found if one.identity.sop_instance_uid == uid),
            *self._by_uid.get(uid, ()),
        ]


def _together(parts: Iterable[Sequence[InstanceRecord]]) -> Iterator[list[InstanceRecord]]:
    """Put small parts together: what lies side by side in a pack is read at once."""
    records: list[InstanceRecord] = []
    for part in parts:
        records += part
        if len(records) >= RECORDS_PER_BLOB:
            yield records
            records = []
    if records:
        yield records
