"""Huffman coding of differences (T.81 H.1.2.2 and Annex F.1.2.1), many at a time."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dcmvault.vault.recoding.jpeg_markers import NotRecodableError

_Words = npt.NDArray[np.uint64]
#: In a table of codes: the low bits are the length of the code, the rest is the code.
_LENGTH_BITS = np.uint64(8)
_LENGTH_MASK = np.uint64(0xFF)
_LOW_WORD = np.uint64(0xFFFFFFFF)


class HuffmanWriter:
    """Writes one scan: differences of samples, one table for each component of a pixel."""

    def __init__(self, tables: tuple[bytes, ...]) -> None:
        self._codes = [_codes(table) for table in tables]
        self._made = bytearray()
        #: Bits that do not yet fill a byte, as the high bits of one.
        self._rest = 0
        self._rest_bits = 0

    def write(self, differences: npt.NDArray[np.int32]) -> None:
        """Append rows x columns x components differences (modulo 65536)."""
        coded = np.empty(differences.shape, np.uint64)
        for number, codes in enumerate(self._codes):
            coded[:, :, number] = codes[differences[:, :, number] & 0xFFFF]
        flat = coded.ravel()
        lengths = (flat & _LENGTH_MASK).astype(np.int64)
        if not lengths.all():
            raise NotRecodableError("a difference has no code in its Huffman table")
        ends = np.cumsum(lengths)
        ends += self._rest_bits
        starts = ends - lengths
        # Each code in a window of 64 bits that begins at a multiple of 32. Codes have at most 31
        # bits, so each window's first half is begun by at least one.
        window = starts >> 5
        placed = (flat >> _LENGTH_BITS) << (64 - lengths - (starts & 31)).astype(np.uint64)
        begins = np.flatnonzero(np.diff(window, prepend=-1))
        halves = np.bitwise_or.reduceat(placed, begins)
        words = np.zeros(len(halves) + 1, np.uint64)
        words[:-1] = halves >> np.uint64(32)
        words[1:] |= halves & _LOW_WORD
        words[0] |= np.uint64(self._rest << 24)
        self._append(words, int(ends[-1]))

    def restart(self, number: int) -> None:
        """End an interval: fill up the last byte, then a restart marker."""
        self._fill_up()
        self._made += bytes((0xFF, 0xD0 + number % 8))

    def finish(self) -> bytes:
        """Fill up the last byte and return the scan."""
        self._fill_up()
        return bytes(self._made)

    def _append(self, words: _Words, bits: int) -> None:
        data = words.astype(">u4").tobytes()
        whole, self._rest_bits = divmod(bits, 8)
        self._made += _stuffed(data[:whole])
        self._rest = data[whole] if self._rest_bits else 0

    def _fill_up(self) -> None:
        if self._rest_bits:
            self._made += _stuffed(bytes((self._rest | 0xFF >> self._rest_bits,)))
        self._rest = self._rest_bits = 0


def _stuffed(data: bytes) -> bytes:
    return data.replace(b"\xff", b"\xff\x00")


@lru_cache(maxsize=16)
def _codes(table: bytes) -> _Words:
    """Return the code of each difference modulo 65536, with its length; 0 where there is none.

    A code is that of the difference's category, then as many bits that tell the difference
    within it; category 16 is 32768 alone and needs none.
    """
    of_category, lengths = _category_codes(table)
    extra_bits = np.where(_CATEGORY == 16, 0, _CATEGORY)
    length = lengths[_CATEGORY]
    code = of_category[_CATEGORY] << extra_bits.astype(np.uint64) | _EXTRA
    total = (length + extra_bits).astype(np.uint64)
    found = np.where(length > 0, code << _LENGTH_BITS | total, np.uint64(0))
    found.setflags(write=False)
    return found


def _category_codes(table: bytes) -> tuple[_Words, npt.NDArray[np.int64]]:
    """Code and length of each category 0 to 16 (T.81 Annex C)."""
    codes = np.zeros(17, np.uint64)
    lengths = np.zeros(17, np.int64)
    code, at = 0, 16
    for length in range(1, 17):
        for _ in range(table[length - 1]):
            category = table[at]
            if code >> length:
                raise NotRecodableError("a Huffman table has more codes than there can be")
            if category <= 16 and not lengths[category]:
                codes[category], lengths[category] = code, length
            code, at = code + 1, at + 1
        code <<= 1
    return codes, lengths


def _categories() -> tuple[npt.NDArray[np.int64], _Words]:
    """Category of each difference modulo 65536, and its bits within it (T.81 table H.2)."""
    value = np.arange(65536)
    signed = np.where(value > 32768, value - 65536, value)
    magnitude = np.abs(signed)
    category = np.zeros(65536, np.int64)
    for bits in range(16):
        category[magnitude >= 1 << bits] = bits + 1
    extra = np.where(signed < 0, signed + (1 << category) - 1, signed)
    extra[32768] = 0
    return category, extra.astype(np.uint64)


_CATEGORY, _EXTRA = _categories()
