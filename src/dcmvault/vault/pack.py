"""Packs: many sealed blobs in one object, with a sealed table of them at the end (page, 6)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.blob import BlobRow, BlobType
from dcmvault.vault.crypto import FOOTER_NUMBER, NO_ID, TAG_BYTES, Header, Sealer

#: A pack is closed when it has grown to this many bytes.
PACK_BYTES = 32 << 20
ROW = np.dtype(
    [("type", "u1"), ("id", "V32"), ("offset", "<u4"), ("length", "<u4"), ("content", "<u4")]
)
ROW_BYTES = ROW.itemsize  # 45
#: A pack is collected in pieces of about this many bytes, which are never put together.
_PIECE_BYTES = 1 << 20
_ROW = struct.Struct("<s32sIII")
_END = struct.Struct("<I4s")
_MAGIC = b"DCMV"
#: Enough of a pack's end for the footer of a usual pack in one read.
TAIL_BYTES = 64 << 10

Rows = npt.NDArray[np.void]


class PackEntry(NamedTuple):
    """One pack as an index knows it."""

    name: bytes  #: SHA-256 of its bytes
    size: int
    rows: Rows


def pack_key(name: bytes) -> str:
    """Return the object key of a pack."""
    digest = name.hex()
    return f"packs/{digest[:2]}/{digest}"


class PackBuilder:
    """Collects sealed blobs; used by one thread."""

    def __init__(self, header: Header, key: bytes) -> None:
        self._sealer = Sealer(header, key)
        self._digest = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._open = [header.pack()]
        self._open_bytes = self.size = len(self._open[0])
        self._rows: list[bytes] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, kind: BlobType, identity: bytes, encoding: bytes, content_length: int) -> None:
        """Seal a blob and append it."""
        sealed = self._sealer.seal(len(self._rows), kind.letter, identity, encoding)
        row = _ROW.pack(kind.letter, identity, self.size, len(sealed), content_length)
        self._rows.append(row)
        self._append(sealed)

    def finish(self) -> tuple[PackEntry, tuple[bytes, ...]]:
        """Return the pack's entry and its bytes, in pieces; the builder is used up."""
        rows = b"".join(self._rows)
        footer = self._sealer.seal(FOOTER_NUMBER, b"f", NO_ID, rows)
        self._append(footer)
        self._append(_END.pack(len(footer), _MAGIC))
        self._close_piece()
        pieces, self._pieces = tuple(self._pieces), []
        return PackEntry(self._digest.digest(), self.size, rows_of(rows)), pieces

    def _append(self, data: bytes) -> None:
        self._open.append(data)
        self._open_bytes += len(data)
        self.size += len(data)
        if self._open_bytes >= _PIECE_BYTES:
            self._close_piece()

    def _close_piece(self) -> None:
        piece = b"".join(self._open)
        if piece:
            self._digest.update(piece)
            self._pieces.append(piece)
        self._open, self._open_bytes = [], 0


def rows_of(data: bytes) -> Rows:
    """Read footer rows; VaultDamagedError if they are none."""
    if len(data) % ROW_BYTES:
        raise VaultDamagedError("a pack's table of blobs is cut short")
    return np.frombuffer(data, ROW)


def blob_rows(rows: Rows) -> Sequence[BlobRow]:
    """Return rows as values; VaultDamagedError for an unknown type."""
    try:
        return [
            BlobRow(BlobType(kind.decode("latin-1")), identity, offset, length, content)
            for kind, identity, offset, length, content in _ROW.iter_unpack(rows.tobytes())
        ]
    except ValueError as error:
        raise VaultDamagedError("a pack names a type of blob that does not exist") from error


def footer_length(end: bytes, size: int) -> int:
    """Return how many bytes at a pack's end are its footer and trailer, from its last 8 bytes."""
    length, magic = _END.unpack(end[-_END.size :])
    if magic != _MAGIC or length + _END.size > size:
        raise VaultDamagedError("a pack does not end as packs do")
    return int(length) + _END.size


def read_footer(header: Header, key: bytes, tail: bytes) -> Rows:
    """Open the footer, given the pack's bytes from the footer on."""
    sealed = memoryview(tail)[: -_END.size]
    if header.encrypted and len(sealed) < TAG_BYTES:
        raise VaultDamagedError("a pack's table of blobs is cut short")
    return rows_of(Sealer(header, key).open(FOOTER_NUMBER, b"f", NO_ID, sealed))
