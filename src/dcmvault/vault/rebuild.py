"""Files put together again from their blobs, bit for bit (format page, 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.blob import BlobType
from dcmvault.vault.recoding import rebuild as rebuild_stream
from dcmvault.vault.records import BlobsValue, InstanceRecord, MoreValue, StreamValue, Value
from dcmvault.vault.taking_apart import reverse_words

#: Returns the content of a blob; raises VaultDamagedError.
ReadBlob = Callable[[BlobType, bytes], bytes]


def rebuild_file(record: InstanceRecord, read_blob: ReadBlob) -> Iterator[bytes]:
    """Yield a file's bytes in order; holds one blob at a time.

    After the last piece size and SHA-256 are compared: VaultDamagedError if they differ, so
    nothing may be taken for the file before the iterator ended.
    """
    digest, size = hashlib.sha256(), 0
    for piece in _pieces(record, read_blob):
        digest.update(piece)
        size += len(piece)
        yield piece
    if size != record.size or digest.digest() != record.file_sha256:
        raise VaultDamagedError(
            f"a rebuilt file is not what was stored (SHA-256 {record.file_sha256.hex()})"
        )


def _pieces(record: InstanceRecord, read_blob: ReadBlob) -> Iterator[bytes]:
    block, offset, length, literal_length = record.skeleton
    skeleton = b""
    if block:
        skeleton = read_blob(BlobType.HEADERS, block)[offset : offset + length]
    if len(skeleton) != length or literal_length > length:
        raise VaultDamagedError("a file's skeleton goes past the end of its header block")
    literal, auxiliary = skeleton[:literal_length], skeleton[literal_length:]
    position, left = 0, b""
    for number, value in enumerate(record.values):
        if not position <= value.position <= literal_length:
            raise VaultDamagedError("a record's values are out of order")
        if value.position > position:
            yield literal[position : value.position]
            position = value.position
        if isinstance(value, BlobsValue):
            yield from _blobs(value, read_blob)
            continue
        length = 0
        if isinstance(value, StreamValue):
            left = _stream(value, auxiliary, read_blob)
            length = len(left) - _lent_to(record.values[number + 1 :])
        else:
            length = value.length
        if not 0 <= length <= len(left):
            raise VaultDamagedError("a record takes more bytes from a stream than it has")
        yield left[:length]
        left = left[length:]
    if position < literal_length:
        yield literal[position:]


def _lent_to(following: Sequence[Value]) -> int:
    """Return how many bytes of a stream stand in further fragments."""
    lent = 0
    for value in following:
        if not isinstance(value, MoreValue):
            break
        lent += value.length
    return lent


def _blobs(value: BlobsValue, read_blob: ReadBlob) -> Iterator[bytes]:
    kind = BlobType.FRAME if value.kind == "f" else BlobType.VALUE
    for blob in value.blobs:
        content = read_blob(kind, blob)
        yield reverse_words(content, value.swap) if value.swap > 1 else content


def _stream(value: StreamValue, auxiliary: bytes, read_blob: ReadBlob) -> bytes:
    head, tail = (auxiliary[at : at + length] for at, length in (value.head, value.tail))
    samples = read_blob(BlobType.FRAME, value.blob)
    return rebuild_stream(value.kind, samples, value.shape, head, tail)
