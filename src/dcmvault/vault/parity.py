"""Parity of packs: an erasure code that gives back what a disk lost (format page, 11)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
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


def make_parity(pack: bytes) -> bytes:
    """Return the whole parity object of a pack. Safe for several threads, which run at once."""
    data_shards = min(max(len(pack) // _LEAST_SHARD_BYTES, 1), _DATA_SHARDS)
    parity_shards = min(_PARITY_SHARDS, data_shards + 1)
    shard_bytes = max(-(-len(pack) // data_shards), 1)
    shape = _Shape(data_shards, parity_shards, shard_bytes, len(pack))
    data: list[bytes | memoryview] = [
        _shard(pack, number, shard_bytes, padded=True) for number in range(data_shards)
    ]
    numbers = range(data_shards, shape.shards)
    parity: Sequence[bytes] = zfec.Encoder(data_shards, shape.shards).encode(data, tuple(numbers))
    digests = (_digest(shard) for shard in (*data, *parity))
    return b"".join((_HEADER.pack(_MAGIC, *shape), *digests, *parity))


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
