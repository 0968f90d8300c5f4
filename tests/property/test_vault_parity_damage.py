"""Any damage of up to m shards is mended, more is refused, and nothing ever gives nonsense."""

from __future__ import annotations

import contextlib
import hashlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.parity import make_parity, mend_pack

_PACK = random.Random(1).randbytes(171_717)
_SHA = hashlib.sha256(_PACK).digest()
_PARITY = make_parity(_PACK)
_K, _M = 42, 3
_SHARD = -(-len(_PACK) // _K)
_TABLE = 24 + (_K + _M) * 16


def _harm(data: bytes, start: int, end: int, how: str) -> bytes:
    piece = data[start:end]
    if how == "flip":
        return data[:start] + bytes([piece[0] ^ 1]) + data[start + 1 :]
    if how == "zero":
        return data[:start] + bytes(len(piece)) + data[end:]
    return data[:start] + bytes(255 - byte for byte in piece) + data[end:]


_SHARDS = st.sets(st.integers(0, _K + _M - 1), min_size=1, max_size=6)
_HOW = st.sampled_from(["flip", "zero", "invert"])


@settings(max_examples=60, deadline=None)
@given(_SHARDS, _HOW, st.booleans())
def test_damaged_shards(numbers: set[int], how: str, table_too: bool) -> None:
    pack, parity = _PACK, _PARITY
    for number in numbers:
        if number < _K:
            pack = _harm(pack, number * _SHARD, min((number + 1) * _SHARD, len(pack)), how)
        elif table_too:
            parity = _harm(parity, 24 + number * 16, 24 + number * 16 + 16, "invert")
        else:
            start = _TABLE + (number - _K) * _SHARD
            parity = _harm(parity, start, start + _SHARD, how)
    mended = mend_pack(pack, parity, _SHA)
    whole = pack == _PACK
    assert mended == (_PACK if whole or len(numbers) <= _M else None)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(_PACK) - 1))
def test_a_pack_cut_short(length: int) -> None:
    lost = -(-(len(_PACK) - length) // _SHARD)
    if (len(_PACK) - length) % _SHARD and length % _SHARD:
        lost = _K - length // _SHARD
    assert mend_pack(_PACK[:length], _PARITY, _SHA) == (_PACK if lost <= _M else None)


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=10_000), st.integers(0, len(_PACK) - 1))
def test_a_pack_that_grew(more: bytes, at: int) -> None:
    assert mend_pack(_PACK + more, _PARITY, _SHA) == _PACK
    flipped = _harm(_PACK, at, at + 1, "flip")
    assert mend_pack(flipped + more, _PARITY, _SHA) == _PACK


@settings(max_examples=30, deadline=None)
@given(st.integers(0, len(_PACK) - 2), st.integers(1, 2 * _SHARD))
def test_a_zeroed_range_of_two_shards(start: int, length: int) -> None:
    end = min(start + length, len(_PACK))
    assert mend_pack(_harm(_PACK, start, end, "zero"), _PARITY, _SHA) == _PACK


@settings(max_examples=200, deadline=None)
@given(st.integers(0, _TABLE - 1), st.integers(1, 255), st.integers(0, len(_PARITY)))
def test_a_damaged_parity_object_never_gives_nonsense(at: int, mask: int, length: int) -> None:
    pack = _harm(_PACK, 0, _SHARD, "zero")
    parity = _PARITY[:at] + bytes([_PARITY[at] ^ mask]) + _PARITY[at + 1 :]
    for damaged in (parity, _PARITY[:length], parity[:length]):
        try:
            assert mend_pack(pack, damaged, _SHA) in (None, _PACK)
        except VaultDamagedError:
            assert at < 24 or length < 24 + _SHARD


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_bytes_that_nobody_wrote(pack: bytes, parity: bytes) -> None:
    for candidate in (parity, b"DCMVPAR1" + parity):
        with contextlib.suppress(VaultDamagedError):
            assert mend_pack(pack, candidate, _SHA) is None
