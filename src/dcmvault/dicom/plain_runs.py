"""Runs of plain values: the two hot loops of the scanner, one per kind of header.

A plain value has a known VR and a defined length, and fits; a sequence of defined length is one
like others, for its length says where it ends. Everything else (undefined lengths, pixel data,
delimiters, damage) ends the run, and code written for clarity takes over. In a typical header
nine elements of ten are stepped over here, so the loops use local variables only, and leave it
to `struct` to notice that a buffer is at its end, and to an iterator to count.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from itertools import repeat
from operator import length_hint
from typing import NamedTuple

from dcmvault.dicom.byte_source import ByteSource
from dcmvault.dicom.encoding import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    UNDEFINED_LENGTH,
    Encoding,
)

#: Longest value that is kept though its length is of 32 bits, bytes.
MAX_TEXT = 4096

#: Groups in implicit VR of which no element is surely plain: 0000 is no group of a data set, 7FE0
#: has the pixel data, FFFE delimits.
_NEVER_PLAIN = frozenset({0x0000, 0x7FE0, 0xFFFE})
_NONE: Mapping[int, int] = {}


class Wanted:
    """Tags to look out for, arranged as the two loops read them."""

    __slots__ = ("by_group", "by_raw_tag")

    def __init__(self, tags: Collection[int]) -> None:
        #: By byte order (whether big endian), then by raw tag.
        self.by_raw_tag: dict[bool, dict[int, int]] = {
            encoding.big_endian: {encoding.raw_tag(tag): tag for tag in tags}
            for encoding in (EXPLICIT_LITTLE, EXPLICIT_BIG)
        }
        #: By group, then by element.
        self.by_group: dict[int, dict[int, int]] = {}
        for tag in tags:
            self.by_group.setdefault(tag >> 16, {})[tag & 0xFFFF] = tag


class Run(NamedTuple):
    """Where a run ended."""

    position: int
    #: Elements that may still come; 0 when the run ended for this.
    allowance: int
    #: Position of the first element with an odd length, or 0.
    odd_at: int


def run_over(
    source: ByteSource,
    encoding: Encoding,
    position: int,
    allowance: int,
    wanted: Wanted,
    found: dict[int, bytes],
) -> Run:
    """Step over plain values from `position` on; keep those of wanted tags in `found`.

    Of a repeated tag the last is kept. A wanted tag ends the run where its length is of 32 bits
    and more than MAX_TEXT.
    """
    run = _explicit_run if encoding.explicit else _implicit_run
    return run(source, encoding, position, allowance, wanted, found)


def _explicit_run(
    source: ByteSource,
    encoding: Encoding,
    position: int,
    allowance: int,
    wanted_tags: Wanted,
    found: dict[int, bytes],
) -> Run:
    read_header, read_long = encoding.raw_header, encoding.long_length
    short_vrs, long_vrs = encoding.raw_short_vrs, encoding.raw_long_vrs
    wanted = wanted_tags.by_raw_tag[encoding.big_endian]
    pixel_tags = encoding.raw_pixel_tags
    steps, odd_at = repeat(None, allowance), 0
    while True:
        buffer, base = source.window(position)
        total, at = source.size - base, position - base
        try:
            for _ in steps:
                raw, vr, length = read_header(buffer, at)
                if vr in short_vrs:
                    value = at + 8
                elif vr in long_vrs and raw not in pixel_tags:
                    value = at + 12
                    length = read_long(buffer, at + 8)[0]
                    if value + length > total or length == UNDEFINED_LENGTH:
                        return Run(base + at, length_hint(steps), odd_at)
                    if length > MAX_TEXT and raw in wanted:
                        return Run(base + at, length_hint(steps), odd_at)
                else:
                    return Run(base + at, length_hint(steps), odd_at)
                if raw in wanted:
                    found[wanted[raw]] = buffer[value : value + length]
                if length & 1:
                    odd_at = odd_at or base + at
                at = value + length
            return Run(base + at, 0, odd_at)
        except struct.error:
            # Short VRs are not asked whether they fit; now the last is.
            if at > len(buffer) and raw in wanted:
                found[wanted[raw]] = source.read(base + at - length, length)
            if at > total:
                found.pop(wanted.get(raw, 0), None)
                return Run(base + at - length - 8, length_hint(steps), odd_at)
        if base + at == position:
            return Run(position, length_hint(steps), odd_at)
        position = base + at


def _implicit_run(
    source: ByteSource,
    encoding: Encoding,
    position: int,
    allowance: int,
    wanted_tags: Wanted,
    found: dict[int, bytes],
) -> Run:
    read_header, wanted_in = encoding.plain_header, wanted_tags.by_group.get
    current, wanted, odd_at = -1, _NONE, 0
    steps = repeat(None, allowance)
    while True:
        buffer, base = source.window(position)
        # Without the first bytes an undefined length never fits, even in a file of 4 GiB.
        total, at = min(source.size - base, UNDEFINED_LENGTH), position - base
        try:
            for _ in steps:
                group, element, length = read_header(buffer, at)
                if group != current:
                    if group in _NEVER_PLAIN:
                        return Run(base + at, length_hint(steps), odd_at)
                    current, wanted = group, wanted_in(group, _NONE)
                stop = at + 8 + length
                if stop > total:
                    return Run(base + at, length_hint(steps), odd_at)
                if wanted and element in wanted:
                    if length > MAX_TEXT:
                        return Run(base + at, length_hint(steps), odd_at)
                    value = buffer[at + 8 : stop]
                    if len(value) < length:
                        value = source.read(base + at + 8, length)
                    found[wanted[element]] = value
                if length & 1:
                    odd_at = odd_at or base + at
                at = stop
            return Run(base + at, 0, odd_at)
        except struct.error:
            pass
        if base + at == position:
            return Run(position, length_hint(steps), odd_at)
        position = base + at
