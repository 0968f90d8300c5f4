"""Writing files into a vault: take apart, store what is not there yet, write down how to rebuild.

A file is safe when `flush` has returned: its blobs are in durable packs, and a durable journal
object says where they are and which files they make.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from dcmvault.dicom.byte_source import ByteSource
from dcmvault.errors import EntryChangedError, VaultBusyError
from dcmvault.model.instance import InstanceFile, SeriesAttributes, StudyAttributes
from dcmvault.vault.blob import BlobType
from dcmvault.vault.codec import encode_bytes
from dcmvault.vault.cutting import cut
from dcmvault.vault.effort import EffortGauge
from dcmvault.vault.index import Addition, RecordsRef
from dcmvault.vault.outgoing import OutgoingBlobs
from dcmvault.vault.pack import PackEntry
from dcmvault.vault.profile import Profile
from dcmvault.vault.records import (
    RECORDS_PER_BLOB,
    InstanceRecord,
    Skeleton,
    StudyRecords,
    file_digest,
    just_after,
)
from dcmvault.vault.repository import Vault
from dcmvault.vault.taking_apart import NewBlob, TakenApart, take_apart

#: Skeletons are compressed together in blocks of about this many bytes.
BLOCK_BYTES = 4 << 20
#: Longer than it takes to write down what a flush added.
_LONG = timedelta(hours=1)


class Stored(NamedTuple):
    """What became of one file."""

    file_sha256: bytes
    #: The vault had exactly this file already; nothing was written down anew.
    already_there: bool


class KnownFiles:
    """Which files a vault already holds, by study; read once per study. Safe for threads.

    `read_study` returns the records that count.
    `forgotten` tells for studies that were forgotten until when what is stored does not count.
    `lost` are files, by study and digest, of which parts are damaged or gone: they are stored anew.
    """

    def __init__(
        self,
        read_study: Callable[[str], Iterable[InstanceRecord]],
        forgotten: Mapping[str, str] = MappingProxyType({}),
        lost: set[tuple[str, bytes]] | None = None,
    ) -> None:
        self._lost = set() if lost is None else lost
        self._read_study = read_study
        self._forgotten = forgotten
        #: By study and file, the digest of the content that counts.
        self._studies: dict[str, dict[bytes, bytes]] = {}
        #: By study, when what is known of it was stored last.
        self._latest: dict[str, str] = {}
        self._lock = threading.Lock()
        #: By study that is read just now; whoever else wants to know waits.
        self._reading: dict[str, threading.Lock] = {}

    def has(self, study_instance_uid: str, record: InstanceRecord) -> bool:
        """Say whether the same content is recorded for the same file of the same source."""
        with self._lock:
            known = self._studies.get(study_instance_uid)
        if known is None:
            known = self._read(study_instance_uid)
        if (study_instance_uid, record.file_sha256) in self._lost:
            return False
        return known.get(file_digest(record)) == record.file_sha256

    def _read(self, study_instance_uid: str) -> dict[bytes, bytes]:
        with self._lock:
            reading = self._reading.setdefault(study_instance_uid, threading.Lock())
        with reading:
            with self._lock:
                known = self._studies.get(study_instance_uid)
            if known is not None:
                return known
            known, latest = {}, ""
            for old in self._read_study(study_instance_uid):
                known[file_digest(old)] = old.file_sha256
                latest = max(latest, old.stored_at)
            with self._lock:
                self._studies[study_instance_uid] = known
                self._latest[study_instance_uid] = max(
                    latest, self._latest.get(study_instance_uid, "")
                )
                self._reading.pop(study_instance_uid, None)
            return known

    def next_time(self, study_instance_uid: str) -> str:
        """Return the earliest time at which something of a study may be stored, so that it counts.

        Clocks differ and are set back: what comes later has a later time nevertheless.
        """
        with self._lock:
            latest = self._latest.get(study_instance_uid, "")
        latest = max(latest, self._forgotten.get(study_instance_uid, ""))
        return just_after(latest) if latest else ""

    def add(
        self, study_instance_uid: str, records: list[InstanceRecord], stored_at: str = ""
    ) -> None:
        """Take up what a flush made durable."""
        with self._lock:
            self._lost.difference_update((study_instance_uid, one.file_sha256) for one in records)
            if study_instance_uid in self._studies:
                known = self._studies[study_instance_uid]
                known.update((file_digest(record), record.file_sha256) for record in records)
            latest = self._latest.get(study_instance_uid, "")
            self._latest[study_instance_uid] = max(latest, stored_at)


def _pruned() -> VaultBusyError:
    return VaultBusyError(
        "a prune is removing, or has removed, what this batch would refer to",
        hint="It is stored anew when the batch is tried again.",
    )


@dataclass(slots=True)
class _Study:
    """Records of one study that the next flush writes."""

    attributes: StudyAttributes = field(default_factory=StudyAttributes)
    series: dict[str, SeriesAttributes] = field(default_factory=dict)
    records: list[InstanceRecord] = field(default_factory=list)


class _Waiting(NamedTuple):
    """A record whose header block has no id yet."""

    study: str
    record: InstanceRecord
    offset: int
    length: int


class VaultWriter:
    """One writer's session; used by one thread. Several may write into one vault at once."""

    def __init__(
        self,
        vault: Vault,
        known: KnownFiles,
        profile: Profile,
        encoders: ThreadPoolExecutor,
        *,
        source: str,
        run: str,
        gauge: EffortGauge | None = None,
    ) -> None:
        self._vault = vault
        self._known = known
        self._profile = profile
        self._encoders = encoders
        self._source = source
        self._run = run
        self._gauge = gauge or EffortGauge()
        self._begin()

    def _begin(self) -> None:
        """Begin what the next flush will end."""
        self._outgoing = OutgoingBlobs(self._vault, self._encoders, self._profile, self._gauge)
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._waiting: list[_Waiting] = []
        self._studies: dict[str, _Study] = {}

    def put(self, file: InstanceFile, source: ByteSource) -> Stored:
        """Take one file in. What it brings is durable after `flush`.

        Raises EntryChangedError when fewer bytes come than the file had.
        """
        header = file.header
        parts = take_apart(
            source,
            cut(source, header),
            self._profile,
            self._vault.blob_id,
            self._outgoing.offer,
            self._encoders,
        )
        if parts.size != file.fingerprint.size:
            raise EntryChangedError("The file changed while it was read.")
        record = self._record(file, parts)
        study = header.study_instance_uid if header is not None else ""
        if self._known.has(study, record):
            return Stored(parts.file_sha256, already_there=True)
        self._place_skeleton(study, record, parts.literal + parts.auxiliary)
        about = self._studies.setdefault(study, _Study())
        if header is not None:
            about.attributes = header.study
            about.series[header.series_instance_uid] = header.series
        return Stored(parts.file_sha256, already_there=False)

    def flush(self) -> int:
        """Make everything that was put durable; return the bytes written for it.

        Raises DestinationUnreachableError or DestinationStoppedError; then nothing of it counts.
        """
        try:
            return self._flush()
        finally:
            self._outgoing.abandon()
            self._begin()

    def _flush(self) -> int:
        self._close_block()
        if not self._studies or not any(study.records for study in self._studies.values()):
            return 0
        now = self._vault.now()
        refs: list[RecordsRef] = []
        stored: dict[str, str] = {}
        for uid, study in self._studies.items():
            stored[uid] = max(now, self._known.next_time(uid))
            refs += self._write_records(uid, study, stored[uid])
        packs, written = self._outgoing.finish()
        looked_at = self._vault.clock.now()
        self._check_pruned(packs)
        addition = Addition(packs, tuple(refs), self._source, self._run, now)
        key, size = self._vault.ledger.add_journal(addition)
        self._check_again(packs, key, looked_at)
        for uid, study in self._studies.items():
            self._known.add(uid, study.records, stored[uid])
        return written + size

    def close(self) -> None:
        """Drop what was not flushed."""
        self._outgoing.abandon()
        self._begin()

    def _check_pruned(self, packs: Sequence[PackEntry]) -> None:
        """Refer to no blob whose pack was condemned, or removed, since the index was read.

        A process may live for longer than the grace time of a prune. The new packs are garbage to
        a prune until they are written down.
        """
        condemned = self._vault.ledger.look_at_condemned()
        if any(pack.name in condemned for pack in packs):
            raise _pruned()
        sound: dict[bytes, bool] = {}
        gone: list[bytes] = []
        for identity, kind in self._outgoing.leans_on.items():
            for place in self._vault.index.places(kind, identity):
                if place.pack not in sound:
                    if self._vault.packs.size(place.pack) is None:
                        gone.append(place.pack)
                    sound[place.pack] = place.pack not in {*condemned, *gone}
                if sound[place.pack]:
                    break
            else:
                self._vault.index.drop(gone)
                raise _pruned()

    def _check_again(self, packs: Sequence[PackEntry], journal: str, looked_at: datetime) -> None:
        """Look once more when all is written down; take it back if a prune came between.

        A prune looks at journals after it has condemned something: one of the two sees the other,
        however short the grace time is. After a long time (a computer that slept) the prune may
        be over.
        """
        before = self._vault.ledger.condemned
        late = abs(self._vault.clock.now() - looked_at) > _LONG
        if not late and self._vault.ledger.look_at_condemned() <= before:
            return
        try:
            self._check_pruned(packs)
            if late and any(self._vault.packs.size(pack.name) is None for pack in packs):
                raise _pruned()
        except VaultBusyError:
            self._vault.ledger.withdraw_journal(journal)
            raise

    # Records

    def _record(self, file: InstanceFile, parts: TakenApart) -> InstanceRecord:
        header, fingerprint = file.header, file.fingerprint
        return InstanceRecord(
            sop_instance_uid=header.sop_instance_uid if header else "",
            series_instance_uid=header.series_instance_uid if header else "",
            sop_class_uid=header.sop_class_uid if header else "",
            transfer_syntax_uid=header.transfer_syntax_uid if header else "",
            instance_number=header.instance_number if header else "",
            locator=file.entry.locator,
            size=fingerprint.size,
            mtime_ns=fingerprint.mtime_ns,
            file_sha256=parts.file_sha256,
            skeleton=Skeleton(b"", 0, 0, len(parts.literal)),
            values=parts.values,
            opaque_reason="" if header else "not parsed as DICOM",
            source=self._source,
        )

    def _place_skeleton(self, study: str, record: InstanceRecord, skeleton: bytes) -> None:
        if self._block_bytes and self._block_bytes + len(skeleton) > BLOCK_BYTES:
            self._close_block()
        self._waiting.append(_Waiting(study, record, self._block_bytes, len(skeleton)))
        self._block.append(skeleton)
        self._block_bytes += len(skeleton)

    def _close_block(self) -> None:
        """Give the header block its id, and its records their place in it."""
        content = b"".join(self._block)
        identity = self._vault.blob_id(BlobType.HEADERS, content) if content else b""
        for study, record, offset, length in self._waiting:
            block = identity if length else b""
            skeleton = Skeleton(block, offset, length, record.skeleton.literal)
            self._studies[study].records.append(replace(record, skeleton=skeleton))
        if content:
            level = self._profile
            self._outgoing.offer(
                NewBlob(BlobType.HEADERS, identity, content, lambda: encode_bytes(content, level))
            )
        self._block, self._block_bytes, self._waiting = [], 0, []

    def _write_records(self, uid: str, study: _Study, stored_at: str) -> Iterator[RecordsRef]:
        for start in range(0, len(study.records), RECORDS_PER_BLOB):
            part = tuple(study.records[start : start + RECORDS_PER_BLOB])
            content = StudyRecords(
                uid, self._source, self._run, stored_at, study.attributes, study.series, part
            ).encode()
            identity = self._vault.blob_id(BlobType.RECORDS, content)
            self._outgoing.add(
                BlobType.RECORDS, identity, encode_bytes(content, self._profile), len(content)
            )
            yield RecordsRef(uid, identity, len(part))
