"""What a parity object is, and what it refuses."""

from __future__ import annotations

import hashlib
import random
import struct

import pytest

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.copies import digest_of_key
from dcmvault.vault.parity import make_parity, mend_pack, parity_key


def _pack(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def _sha(pack: bytes) -> bytes:
    return hashlib.sha256(pack).digest()


@pytest.mark.parametrize("size", [160 << 10, (160 << 10) + 1, 170_000, 1 << 20, 33_333_333])
def test_parity_costs_at_most_7_8_percent(size: int) -> None:
    assert len(make_parity(bytes(size))) <= size * 0.078


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        (0, (1, 2, 1)),
        (1, (1, 2, 1)),
        (7679, (1, 2, 7679)),
        (7680, (2, 3, 3840)),
        (100_001, (26, 3, 3847)),
        (42 * 3840, (42, 3, 3840)),
        (1 << 20, (42, 3, 24967)),
    ],
)
def test_how_a_pack_is_cut(size: int, shape: tuple[int, int, int]) -> None:
    pack = _pack(size)
    parity = make_parity(pack)
    assert struct.unpack_from("<8sHHIQ", parity) == (b"DCMVPAR1", *shape, size)
    data, more, length = shape
    assert len(parity) == 24 + (data + more) * 16 + more * length
    key = parity_key(_sha(pack), parity)
    assert key.startswith(f"parity/{_sha(pack).hex()[:2]}/{_sha(pack).hex()}.")
    assert digest_of_key(key) == _sha(parity)


def test_the_code_is_the_one_of_the_format_page() -> None:
    """Parity that was written once must be readable for ever: frozen bytes."""
    assert hashlib.sha256(make_parity(bytes(range(256)) * 1000)).hexdigest() == (
        "b34d03371f16694770d77e3c01cce4d88461ee2cc436e22d0ec2fced837cfa07"
    )


@pytest.mark.parametrize("size", [0, 1, 5000, 7680, 250_000])
def test_a_sound_pack_comes_back(size: int) -> None:
    pack = _pack(size)
    assert mend_pack(pack, make_parity(pack), _sha(pack)) == pack
    # However bad the parity is.
    assert mend_pack(pack, b"", _sha(pack)) == pack


@pytest.mark.parametrize("size", [1, 5000, 7680])
def test_a_small_pack_that_is_gone_comes_back(size: int) -> None:
    pack = _pack(size)
    assert mend_pack(None, make_parity(pack), _sha(pack)) == pack


def test_a_pack_that_is_gone_does_not() -> None:
    pack = _pack(250_000)
    assert mend_pack(None, make_parity(pack), _sha(pack)) is None
    assert mend_pack(b"", make_parity(pack), _sha(pack)) is None


def test_each_bit_of_a_pack() -> None:
    pack = _pack(9000)
    parity = make_parity(pack)
    for bit in range(0, len(pack) * 8, 7):
        damaged = bytearray(pack)
        damaged[bit >> 3] ^= 1 << (bit & 7)
        assert mend_pack(bytes(damaged), parity, _sha(pack)) == pack


def test_parity_of_another_pack() -> None:
    pack, other = _pack(250_000), _pack(250_001)
    assert mend_pack(other, make_parity(other), _sha(pack)) is None
    assert mend_pack(pack[:-1], make_parity(other), _sha(pack)) is None


@pytest.mark.parametrize(
    "header",
    [
        (0, 3, 10, 0),
        (42, 0, 10, 0),
        (254, 3, 10, 10),
        (65535, 65535, 10, 10),
        (42, 3, 0, 0),
        (42, 3, 4_294_967_295, 42 * 4_294_967_295),
        (42, 3, 10, 421),
        (1, 1, 10, 2**64 - 1),
    ],
)
def test_a_hostile_shape_is_refused(header: tuple[int, int, int, int]) -> None:
    parity = struct.pack("<8sHHIQ", b"DCMVPAR1", *header) + bytes(5000)
    with pytest.raises(VaultDamagedError):
        mend_pack(b"x" * 1000, parity, _sha(b"pack"))


@pytest.mark.parametrize("end", [0, 7, 23])
def test_a_parity_object_without_its_beginning(end: int) -> None:
    pack = _pack(9000)
    with pytest.raises(VaultDamagedError):
        mend_pack(pack[1:], make_parity(pack)[:end], _sha(pack))


@pytest.mark.parametrize("size", [0, 1, 3839, 3840, 160_001, 1_000_000])
@pytest.mark.parametrize("piece", [1, 997, 65_536, 1 << 20])
def test_pieces_make_the_same_parity_as_the_whole_pack(size: int, piece: int) -> None:
    if size > 1000 * piece:
        piece = size // 1000
    pack = random.Random(size).randbytes(size)
    pieces = [pack[at : at + piece] for at in range(0, size, piece)]
    assert make_parity(*pieces) == make_parity(pack)
