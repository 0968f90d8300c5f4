"""How data elements are written: tags, VRs, lengths, byte order (PS3.5 chapter 7)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_DELIMITATION = 0xFFFEE00D
SEQUENCE_DELIMITATION = 0xFFFEE0DD
#: How an item begins in little endian.
ITEM_BYTES = b"\xfe\xff\x00\xe0"
PIXEL_DATA = 0x7FE00010
#: Pixel Data, Float Pixel Data, Double Float Pixel Data.
PIXEL_TAGS = frozenset({PIXEL_DATA, 0x7FE00008, 0x7FE00009})

_SHORT_VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
_LONG_VRS = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
#: Bytes before the value by explicit VR (PS3.5 7.1.2).
HEADER_SIZES: dict[bytes, int] = {
    **dict.fromkeys(_SHORT_VRS, 8),
    **dict.fromkeys(_LONG_VRS, 12),
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How element headers are written.

    The last fields serve the hot loops, which read a tag as one 32-bit and a VR as one
    16-bit integer in the file's byte order ("raw").
    """

    explicit: bool
    big_endian: bool
    #: (group, element, VR, 16-bit length) and (group, element, 32-bit length) at an offset.
    explicit_header: Callable[[bytes, int], tuple[int, int, bytes, int]]
    plain_header: Callable[[bytes, int], tuple[int, int, int]]
    long_length: Callable[[bytes, int], tuple[int]]
    #: (raw tag, raw VR, 16-bit length).
    raw_header: Callable[[bytes, int], tuple[int, int, int]]
    #: (raw tag, 32-bit length).
    item_header: Callable[[bytes, int], tuple[int, int]]
    raw_short_vrs: frozenset[int]
    raw_long_vrs: frozenset[int]
    raw_un: int
    raw_pixel_tags: frozenset[int]
    #: Raw tags of item, item delimitation, sequence delimitation.
    raw_delimiters: tuple[int, int, int]

    def raw_tag(self, tag: int) -> int:
        """Return a tag as the integer that `raw_header` reads."""
        return tag if self.big_endian else (tag & 0xFFFF) << 16 | tag >> 16


def _encoding(order: str, *, explicit: bool) -> Encoding:
    name: Literal["big", "little"] = "big" if order == ">" else "little"

    def raw(tag: int) -> int:
        return tag if order == ">" else (tag & 0xFFFF) << 16 | tag >> 16

    return Encoding(
        explicit,
        order == ">",
        struct.Struct(order + "HH2sH").unpack_from,
        struct.Struct(order + "HHL").unpack_from,
        struct.Struct(order + "L").unpack_from,
        struct.Struct(order + "LHH").unpack_from,
        struct.Struct(order + "LL").unpack_from,
        frozenset(int.from_bytes(vr, name) for vr in _SHORT_VRS),
        frozenset(int.from_bytes(vr, name) for vr in _LONG_VRS),
        int.from_bytes(b"UN", name),
        frozenset(map(raw, PIXEL_TAGS)),
        (raw(ITEM), raw(ITEM_DELIMITATION), raw(SEQUENCE_DELIMITATION)),
    )


EXPLICIT_LITTLE = _encoding("<", explicit=True)
IMPLICIT_LITTLE = _encoding("<", explicit=False)
EXPLICIT_BIG = _encoding(">", explicit=True)


class Header(NamedTuple):
    """One element header. `vr` is empty where none is written."""

    tag: int
    vr: bytes
    length: int
    start: int  #: where the value begins


def name_of(tag: int) -> str:
    """Return a tag as people write it."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def looks_explicit(head: bytes) -> bool:
    """Say whether an element header carries a VR (two upper-case letters after the tag)."""
    return len(head) >= 6 and 0x41 <= head[4] <= 0x5A and 0x41 <= head[5] <= 0x5A


def parse_header(buffer: bytes, at: int, base: int, encoding: Encoding) -> Header | None:
    """Parse the element header at `buffer[at]`; None if the bytes are too few for one.

    `base` is the position of the buffer's first byte, from which `Header.start` counts.
    """
    left = len(buffer) - at
    if left < 8:
        return None
    group, element, length = encoding.plain_header(buffer, at)
    tag = group << 16 | element
    if not encoding.explicit or group == 0xFFFE:
        return Header(tag, b"", length, base + at + 8)
    _, _, vr, short = encoding.explicit_header(buffer, at)
    size = HEADER_SIZES.get(vr)
    if size is None:
        if not looks_explicit(buffer[at : at + 6]):
            # Some writers change to implicit VR without notice; the caller sees if it fits.
            return Header(tag, b"", length, base + at + 8)
        # PS3.5 6.2: VRs that may come have a 32-bit length after two reserved bytes.
        size = 8 if short else 12
    if size == 8:
        return Header(tag, vr, short, base + at + 8)
    if left < 12:
        return None
    return Header(tag, vr, encoding.long_length(buffer, at + 8)[0], base + at + 12)
