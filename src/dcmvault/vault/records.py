"""Records: how files are put together from blobs, and what they are (format page, 8)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple

import zstandard

from dcmvault.errors import VaultDamagedError
from dcmvault.model.instance import SeriesAttributes, StudyAttributes
from dcmvault.vault.shape import StreamShape

#: Records of a blob at most; a manifest names as many blobs as it takes.
RECORDS_PER_BLOB = 500
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


def time_text(moment: datetime) -> str:
    """Return an aware UTC time as the format writes it; such texts sort as the times do."""
    return moment.strftime(_TIME)


def read_time_text(text: str) -> datetime:
    """Read a time as `time_text` writes it; ValueError for another text."""
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def just_after(text: str) -> str:
    """Return the next time that the format can tell from this one."""
    return time_text(read_time_text(text) + timedelta(microseconds=1))


class Skeleton(NamedTuple):
    """Where a file's skeleton lies: in a header block."""

    block: bytes  #: id; empty for an empty skeleton
    offset: int
    length: int
    literal: int  #: how many of the bytes belong to the file; the rest is auxiliary


class BlobsValue(NamedTuple):
    """A value stored as blobs: bytes ("v") or frames ("f")."""

    position: int
    kind: str
    swap: int
    blobs: tuple[bytes, ...]


class StreamValue(NamedTuple):
    """A compressed frame that is made anew from its samples."""

    position: int
    kind: str  #: "jls", "ljpeg", "rle"
    blob: bytes
    shape: StreamShape
    head: tuple[int, int]  #: (offset, length) in the auxiliary part
    tail: tuple[int, int]  #: as `head`; (0, 0) for RLE


class MoreValue(NamedTuple):
    """Bytes of the stream before it that stand in a further fragment."""

    position: int
    length: int


Value = BlobsValue | StreamValue | MoreValue


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """One file of a study in a vault."""

    sop_instance_uid: str  #: empty for an opaque file
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    instance_number: str
    locator: str
    size: int
    mtime_ns: int
    file_sha256: bytes
    skeleton: Skeleton
    values: tuple[Value, ...]
    #: Why it does not parse; empty for an instance.
    opaque_reason: str = ""
    #: From the blob that it stands in.
    source: str = ""
    stored_at: str = ""
    run: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What a later version of the same file has, too."""
        return (self.source, self.locator, self.sop_instance_uid)

    @property
    def version(self) -> tuple[str, str, bytes]:
        """What puts the versions of a file in order: the greatest counts."""
        return (self.stored_at, self.run, self.file_sha256)

    def blob_ids(self) -> list[tuple[str, bytes]]:
        """List (type letter, id) of all blobs that the file is made of."""
        found = [("H", self.skeleton.block)] if self.skeleton.block else []
        for value in self.values:
            if isinstance(value, StreamValue):
                found.append(("F", value.blob))
            elif isinstance(value, BlobsValue):
                found += [(value.kind.upper(), blob) for blob in value.blobs]
        return found


@dataclass(frozen=True, slots=True)
class StudyRecords:
    """The content of one blob of records: files of one study, stored together."""

    study_instance_uid: str  #: empty for files that are no DICOM
    source: str
    run: str
    stored_at: str
    attributes: StudyAttributes
    series: Mapping[str, SeriesAttributes]
    instances: tuple[InstanceRecord, ...] = field(default=())

    def encode(self) -> bytes:
        """Return the blob's content (JSON)."""
        document = {
            "study": self.study_instance_uid,
            "source": self.source,
            "run": self.run,
            "stored_at": self.stored_at,
            "attributes": filled(self.attributes),
            "series": {uid: filled(series) for uid, series in self.series.items()},
            "instances": [_instance_json(record) for record in self.instances],
        }
        return json_bytes(document)

    @classmethod
    def decode(cls, content: bytes) -> StudyRecords:
        """Read a blob's content; VaultDamagedError if it is none."""
        document = read_json(content)
        try:
            source, stored_at, run = document["source"], document["stored_at"], document["run"]
            return cls(
                document["study"],
                source,
                run,
                stored_at,
                StudyAttributes(**_known(document["attributes"], StudyAttributes._fields)),
                {
                    uid: SeriesAttributes(**_known(series, SeriesAttributes._fields))
                    for uid, series in document["series"].items()
                },
                tuple(
                    _read_instance(item, source, stored_at, run) for item in document["instances"]
                ),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise VaultDamagedError("records of a study cannot be read") from error


def current(records: Sequence[InstanceRecord]) -> list[InstanceRecord]:
    """Leave out records that a later one of the same file replaces; the order is kept."""
    newest: dict[tuple[str, str, str], InstanceRecord] = {}
    for record in records:
        before = newest.get(record.key)
        if before is None or record.version >= before.version:
            newest[record.key] = record
    return list(newest.values())


def file_digest(record: InstanceRecord) -> bytes:
    """Return 16 bytes that stand for the file that a record is of, whatever its version."""
    key = "\0".join(record.key).encode(errors="surrogatepass")
    return hashlib.blake2b(key, digest_size=16).digest()


def filled(attributes: StudyAttributes | SeriesAttributes) -> dict[str, str]:
    """Return the attributes that are not empty."""
    return {name: value for name, value in attributes._asdict().items() if value}


def read_json(content: bytes) -> dict[str, Any]:
    """Read a JSON object; VaultDamagedError if it is none."""
    try:
        document = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise VaultDamagedError("a part of the vault is no JSON") from error
    if not isinstance(document, dict):
        raise VaultDamagedError("a part of the vault is no JSON object")
    return document


def json_bytes(document: Mapping[str, object]) -> bytes:
    """Return a document as compact JSON.

    Lone surrogates, which stand for bytes of a path that are no UTF-8, are escaped: UTF-8 has none.
    """
    try:
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":")).encode()


def pack_json(document: Mapping[str, object]) -> bytes:
    """Return a document as JSON, compressed."""
    return zstandard.compress(json_bytes(document), 6)


def unpack_json(packed: bytes) -> dict[str, Any]:
    """Read what `pack_json` made; VaultDamagedError if it is none or far too large."""
    try:
        raw = zstandard.decompress(packed, max_output_size=1 << 30)
    except zstandard.ZstdError as error:
        raise VaultDamagedError("a part of the vault cannot be decompressed") from error
    return read_json(raw)


def _known(members: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    return {name: str(value) for name, value in members.items() if name in names}


def _instance_json(record: InstanceRecord) -> dict[str, object]:
    block, offset, length, literal = record.skeleton
    return {
        "sop": record.sop_instance_uid,
        "series": record.series_instance_uid,
        "class": record.sop_class_uid,
        "syntax": record.transfer_syntax_uid,
        "number": record.instance_number,
        "locator": record.locator,
        "size": record.size,
        "mtime_ns": record.mtime_ns,
        "sha256": record.file_sha256.hex(),
        "opaque": record.opaque_reason,
        "skeleton": [block.hex(), offset, length, literal],
        "values": [_value_json(value) for value in record.values],
    }


def _value_json(value: Value) -> list[object]:
    if isinstance(value, StreamValue):
        shared: list[object] = [
            value.position,
            value.kind,
            value.blob.hex(),
            list(value.shape),
            list(value.head),
        ]
        return shared if value.kind == "rle" else [*shared, list(value.tail)]
    if isinstance(value, MoreValue):
        return [value.position, "more", value.length]
    blobs = [blob.hex() for blob in value.blobs]
    if value.kind == "f":
        return [value.position, "f", value.swap, blobs]
    return [value.position, "v", blobs]


#: Skeletons of files that come together stand in one blob.
_block_of = lru_cache(maxsize=64)(bytes.fromhex)


def _read_instance(
    item: Mapping[str, Any], source: str, stored_at: str, run: str
) -> InstanceRecord:
    block, offset, length, literal = item["skeleton"]
    return InstanceRecord(
        sop_instance_uid=item["sop"],
        # What many files share is one text: of a study there may be a hundred thousand.
        series_instance_uid=intern(item["series"]),
        sop_class_uid=intern(item["class"]),
        transfer_syntax_uid=intern(item["syntax"]),
        instance_number=item["number"],
        locator=item["locator"],
        size=int(item["size"]),
        mtime_ns=int(item["mtime_ns"]),
        file_sha256=bytes.fromhex(item["sha256"]),
        skeleton=Skeleton(_block_of(block), int(offset), int(length), int(literal)),
        values=tuple(_read_value(value) for value in item["values"]),
        opaque_reason=item["opaque"],
        source=source,
        stored_at=stored_at,
        run=run,
    )


def _read_value(value: Sequence[Any]) -> Value:
    position, kind = int(value[0]), str(value[1])
    if kind == "v":
        return BlobsValue(position, kind, 1, tuple(map(bytes.fromhex, value[2])))
    if kind == "f":
        return BlobsValue(position, kind, int(value[2]), tuple(map(bytes.fromhex, value[3])))
    if kind == "more":
        return MoreValue(position, int(value[2]))
    if kind not in ("jls", "ljpeg", "rle"):
        raise ValueError(kind)
    head, tail = tuple(value[4]), tuple(value[5]) if kind != "rle" else (0, 0)
    blob = bytes.fromhex(value[2])
    return StreamValue(position, kind, blob, StreamShape(*value[3]), head, tail)
