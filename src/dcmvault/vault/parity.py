"""Parity of packs: an erasure code that gives back what a disk lost (format page, 11)."""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import zfec  # type: ignore[import-untyped]  # has neither annotations nor stubs

from dcmvault.errors import VaultDamagedError

#: Data shards of a pack, and parity shards: any 3 of 45 may be lost, for 7.2 % more space.
_DATA_SHARDS = 42
_PARITY_SHARDS = 3
#: Smaller packs are cut into fewer shards, not into smaller ones.
_LEAST_SHARD_BYTES = 3840

_MAGIC = b"DCMVPAR1"
_HEADER = struct.Struct("<8sHHIQ")
_DIGEST_BYTES = 16
#: So much of each shard is encoded at once: that of all shards fits into a processor's cache.
_STRIPE_BYTES = 16 << 10
#: Of GF(256): the code has no more shards than that.
_MOST_SHARDS = 256
#: What of a parity object says how the pack was cut, at most.
HEAD_BYTES = _HEADER.size + _MOST_SHARDS * _DIGEST_BYTES


class _Shape(NamedTuple):
    """How a pack is cut: what the beginning of a parity object says."""

    data_shards: int
    parity_shards: int
    shard_bytes: int
    pack_bytes: int

    @property
    def shards(self) -> int:
        return self.data_shards + self.parity_shards

    @property
    def table_end(self) -> int:
        """Where the parity shards begin."""
        return _HEADER.size + self.shards * _DIGEST_BYTES


def make_parity(*pieces: bytes) -> bytes:
    """Return the whole parity object of a pack, whose bytes may come in several pieces.

    They are never put together. Safe for several threads, which run at once.
    """
    pack = _Pieces(pieces)
    data_shards = min(max(pack.size // _LEAST_SHARD_BYTES, 1), _DATA_SHARDS)
    parity_shards = min(_PARITY_SHARDS, data_shards + 1)
    shard_bytes = max(-(-pack.size // data_shards), 1)
    shape = _Shape(data_shards, parity_shards, shard_bytes, pack.size)
    encoder = zfec.Encoder(data_shards, shape.shards)
    numbers = tuple(range(data_shards, shape.shards))
    digests = [hashlib.sha256() for _ in range(shape.shards)]
    parity = [bytearray() for _ in numbers]
    for at in range(0, shard_bytes, _STRIPE_BYTES):
        length = min(_STRIPE_BYTES, shard_bytes - at)
        data = [pack.read(number * shard_bytes + at, length) for number in range(data_shards)]
        made: Sequence[bytes] = encoder.encode(data, numbers)
        for digest, stripe in zip(digests, (*data, *made), strict=True):
            digest.update(stripe)
        for shard, stripe in zip(parity, made, strict=True):
            shard += stripe
    table = (digest.digest()[:_DIGEST_BYTES] for digest in digests)
    return b"".join((_HEADER.pack(_MAGIC, *shape), *table, *parity))


class _Pieces:
    """Bytes that stand in several pieces, one behind the other."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._views = [memoryview(piece) for piece in pieces]
        self._ends = list(accumulate(map(len, pieces)))
        self.size = self._ends[-1] if pieces else 0

    def read(self, start: int, length: int) -> bytes | memoryview:
        """Return bytes, filled up with zeros behind the end."""
        which = bisect_right(self._ends, start)
        parts: list[bytes | memoryview] = []
        missing = length
        while missing and which < len(self._views):
            view = self._views[which]
            at = start - (self._ends[which] - len(view))
            part = view[at : at + missing]
            parts.append(part)
            start, missing, which = start + len(part), missing - len(part), which + 1
        if len(parts) == 1 and not missing:
            return parts[0]
        return b"".join((*parts, bytes(missing)))


def parity_key(pack_sha: bytes, parity: bytes) -> str:
    """Return the key of a pack's parity object."""
    pack = pack_sha.hex()
    return f"parity/{pack[:2]}/{pack}.{hashlib.sha256(parity).hexdigest()}"


def mend_pack(damaged: bytes | None, parity: bytes, pack_sha256: bytes) -> bytes | None:
    """Return the whole pack, or None where more of it is lost than its parity can make up for.

    `damaged` is what is left of the pack: with flipped bits, zeroed, cut short or grown; None if
    nothing is. The parity object may be damaged, too, as long as its beginning is not
    (VaultDamagedError). What is returned has the SHA-256 asked for, whatever the parity says.
    """
    rest = damaged or b""
    if _is_pack(rest, pack_sha256):
        return rest
    shape = _read_shape(parity)
    found: dict[int, bytes | memoryview] = {}
    for number in range(shape.shards):
        at = _HEADER.size + number * _DIGEST_BYTES
        wanted = parity[at : at + _DIGEST_BYTES]
        if number < shape.data_shards:
            # Of a pack that grew, what is behind its end does not belong to the last shard.
            left = memoryview(rest)[: shape.pack_bytes]
            shard = _shard(left, number, shape.shard_bytes, padded=True)
        else:
            behind = memoryview(parity)[shape.table_end :]
            number_there = number - shape.data_shards
            shard = _shard(behind, number_there, shape.shard_bytes, padded=False)
        if len(shard) == shape.shard_bytes and _digest(shard) == wanted:
            found[number] = shard
        if len(found) == shape.data_shards:
            break
    else:
        return None
    decoder = zfec.Decoder(shape.data_shards, shape.shards)
    shards: Sequence[bytes] = decoder.decode(tuple(found.values()), tuple(found))
    pack = b"".join(shards)[: shape.pack_bytes]
    return pack if _is_pack(pack, pack_sha256) else None


def check_parity(parity: bytes) -> None:
    """Raise VaultDamagedError for a parity object that cannot be one."""
    shape = _read_shape(parity)
    if len(parity) != shape.table_end + shape.parity_shards * shape.shard_bytes:
        raise VaultDamagedError("A parity object of the vault is cut short.")


def fits_pack(parity: bytes, pack: bytes) -> bool:
    """Say whether a parity object, of which the first `HEAD_BYTES` do, is that of this pack."""
    try:
        shape = _read_shape(parity, whole=False)
    except VaultDamagedError:
        return False
    if shape.pack_bytes != len(pack) or shape.table_end > len(parity):
        return False
    return all(
        _digest(_shard(pack, number, shape.shard_bytes, padded=True))
        == parity[_HEADER.size + number * _DIGEST_BYTES :][:_DIGEST_BYTES]
        for number in range(shape.data_shards)
    )


def _read_shape(parity: bytes, *, whole: bool = True) -> _Shape:
    """Read how the pack was cut; sizes that are returned are bounded by those of `parity`."""
    if len(parity) < _HEADER.size:
        raise VaultDamagedError("A parity object of the vault is cut short.")
    magic, *numbers = _HEADER.unpack_from(parity)
    shape = _Shape(*numbers)
    if (
        magic != _MAGIC
        or shape.data_shards == 0
        or shape.parity_shards == 0
        or shape.shards > _MOST_SHARDS
        or shape.shard_bytes == 0
        or (whole and shape.shard_bytes > len(parity))
        or shape.pack_bytes > shape.data_shards * shape.shard_bytes
    ):
        raise VaultDamagedError("The beginning of a parity object of the vault is damaged.")
    return shape


def _shard(
    data: bytes | memoryview, number: int, shard_bytes: int, *, padded: bool
) -> bytes | memoryview:
    """Return one shard of what is there, filled up with zeros if its end is not."""
    shard = memoryview(data)[number * shard_bytes : (number + 1) * shard_bytes]
    if padded and len(shard) < shard_bytes:
        return bytes(shard).ljust(shard_bytes, b"\0")
    return shard


def _digest(shard: bytes | memoryview) -> bytes:
    return hashlib.sha256(shard).digest()[:_DIGEST_BYTES]


def _is_pack(data: bytes, pack_sha256: bytes) -> bool:
    return hashlib.sha256(data).digest() == pack_sha256
