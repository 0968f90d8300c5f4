"""Runs of plain values: the two hot loops of the scanner, one per kind of header.

A plain value has a known VR, a defined length, and fits. Everything else (sequences but short
ones, pixel data, delimiters, damage) ends the run, and code written for clarity takes over. In a
typical header nine elements of ten are stepped over here, so the loops use local variables only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dcmvault.dicom.byte_source import ByteSource
from dcmvault.dicom.encoding import ITEM_BYTES, UNDEFINED_LENGTH, Encoding

#: Longest value kept of an attribute, bytes; text attributes are a tenth of it by PS3.5 6.2.
MAX_TEXT = 4096
#: A sequence shorter than this cannot be too deep; of defined length it is a value like others.
DEEP_BYTES = 1024


class Run(NamedTuple):
    """Where a run ended."""

    position: int
    #: Elements that may still come; negative when the run went over it.
    allowance: int
    #: Position of the first element with an odd length, or 0.
    odd_at: int


def run_over(
    source: ByteSource,
    encoding: Encoding,
    start: int,
    end: int,
    allowance: int,
    wanted: Mapping[int, int],
    found: dict[int, bytes],
) -> Run:
    """Step over plain values from `start` up to `end`.

    Values of tags in `wanted` (raw tag to tag) are kept in `found`, at most MAX_TEXT bytes of
    each; of a repeated tag the last.
    """
    run = _explicit_run if encoding.explicit else _implicit_run
    return run(source, encoding, start, end, allowance, wanted, found)


def _explicit_run(
    source: ByteSource,
    encoding: Encoding,
    position: int,
    end: int,
    allowance: int,
    wanted: Mapping[int, int],
    found: dict[int, bytes],
) -> Run:
    read_header, read_long = encoding.raw_header, encoding.long_length
    short_vrs, long_vrs = encoding.raw_short_vrs, encoding.raw_long_vrs
    pixel_tags, sequence = encoding.raw_pixel_tags, encoding.raw_sq
    odd_at = 0
    while allowance > 0:
        buffer, base = source.window(position)
        at, total, filled = position - base, end - base, len(buffer)
        last = min(filled, total) - 8
        if at > last:
            break
        while at <= last:
            raw, vr, length = read_header(buffer, at)
            if vr in short_vrs:
                value = at + 8
            elif vr in long_vrs and raw not in pixel_tags:
                value = at + 12
                if value > filled:
                    return Run(base + at, allowance, odd_at)
                length = read_long(buffer, at + 8)[0]
                if vr == sequence and length >= DEEP_BYTES:
                    return Run(base + at, allowance, odd_at)
            else:
                return Run(base + at, allowance, odd_at)
            stop = value + length
            if stop > total or length == UNDEFINED_LENGTH:
                return Run(base + at, allowance, odd_at)
            if raw in wanted:
                if length <= MAX_TEXT and stop <= filled:
                    found[wanted[raw]] = buffer[value:stop]
                else:
                    found[wanted[raw]] = source.read(base + value, min(length, MAX_TEXT))
            if length & 1 and not odd_at:
                odd_at = base + at
            at = stop
            allowance -= 1
        position = base + at
    return Run(position, allowance, odd_at)


def _implicit_run(
    source: ByteSource,
    encoding: Encoding,
    position: int,
    end: int,
    allowance: int,
    wanted: Mapping[int, int],
    found: dict[int, bytes],
) -> Run:
    read_header, pixel_tags = encoding.raw_header, encoding.raw_pixel_tags
    odd_at = 0
    while allowance > 0:
        buffer, base = source.window(position)
        at, total, filled = position - base, end - base, len(buffer)
        last = min(filled, total) - 8
        if at > last:
            break
        while at <= last:
            raw, low, high = read_header(buffer, at)
            length = high << 16 | low
            value = at + 8
            stop = value + length
            # Group 0000 is no group of a data set, and FFFE delimits.
            if stop > total or length == UNDEFINED_LENGTH or raw & 0xFFFF in (0, 0xFFFE):
                return Run(base + at, allowance, odd_at)
            if raw in wanted:
                if length <= MAX_TEXT and stop <= filled:
                    found[wanted[raw]] = buffer[value:stop]
                else:
                    found[wanted[raw]] = source.read(base + value, min(length, MAX_TEXT))
            elif raw in pixel_tags or (
                length >= DEEP_BYTES
                and (value + 4 > filled or buffer[value : value + 4] == ITEM_BYTES)
            ):
                return Run(base + at, allowance, odd_at)
            if length & 1 and not odd_at:
                odd_at = base + at
            at = stop
            allowance -= 1
        position = base + at
    return Run(position, allowance, odd_at)
