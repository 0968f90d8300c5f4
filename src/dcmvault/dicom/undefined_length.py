"""Stepping over sequences of undefined length: the only ones that the scanner must look into.

Items and sequences of defined length inside are stepped over by their length, so what is open at
any time has no length, and two loops with a depth suffice. They are the hot loops of enhanced
multi-frame instances and structured reports: local variables only, and `struct` notices where a
buffer ends.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dcmvault.dicom.byte_source import ByteSource
from dcmvault.dicom.encoding import (
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITATION,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    Encoding,
    name_of,
    parse_header,
)
from dcmvault.dicom.nesting import (
    MAX_DEPTH,
    MAX_ELEMENTS,
    DepthLimitError,
    ElementLimitError,
    TruncatedError,
)
from dcmvault.errors import MalformedDicomError

#: Elements that one left by the hot loops counts for: it takes about as long.
_RARE_COST = 8
_DELIMITER_GROUP = 0xFFFE
_ITEM_END = ITEM_DELIMITATION & 0xFFFF
_SEQUENCE_END = SEQUENCE_DELIMITATION & 0xFFFF
_ITEM_OR_END = frozenset({ITEM & 0xFFFF, _SEQUENCE_END})


class Place(NamedTuple):
    """Where a walk is, and inside what."""

    position: int
    #: Elements, items and delimiters that may still come.
    allowance: int
    #: Sequences that are open.
    depth: int
    #: Whether elements come next, not items.
    in_item: bool = False
    #: Position of the first element of the item that was opened last.
    item_start: int = -1


def skip_sequence(
    source: ByteSource, encoding: Encoding, position: int, allowance: int
) -> tuple[int, int]:
    """Step over the items of a sequence of undefined length, and its end.

    `encoding` is that of the items. Returns the position after it, and the allowance left.
    Raises TruncatedError if the data end inside, ElementLimitError, DepthLimitError, and
    MalformedDicomError where something stands that leaves no way to go on.
    """
    place = Place(position, allowance, 1)
    if not encoding.explicit:
        place = _implicit_items(source, place)
        return place.position, place.allowance
    while True:
        place = _explicit_items(source, encoding, place)
        if not place.depth:
            return place.position, place.allowance
        place = _step(source, encoding, place)


def _step(source: ByteSource, encoding: Encoding, place: Place) -> Place:
    """Take one element, in explicit VR by right, that has no VR or an unknown one, or is UN."""
    position, allowance, depth, in_item, item_start = place
    allowance -= _RARE_COST
    buffer, base = source.window(position)
    header = parse_header(buffer, position - base, base, encoding)
    if header is None:
        raise _cut_off(position)
    if not in_item:
        raise _no_item(header.tag, position)
    delimits = header.tag >> 16 == _DELIMITER_GROUP
    if position == item_start and not header.vr and not delimits:
        # Some writers change to implicit VR without notice. Only this item is open then.
        return _implicit_items(source, place._replace(allowance=allowance))
    if header.length != UNDEFINED_LENGTH:
        return Place(header.start + header.length, allowance, depth, in_item=True)
    if delimits:
        raise _no_item(header.tag, position)
    inside = Place(header.start, allowance, depth + 1)
    if depth >= MAX_DEPTH:
        raise _too_deep(position)
    # PS3.5 6.2.2: a sequence of unknown VR is written in implicit VR little endian.
    return _implicit_items(source, inside) if header.vr == b"UN" else inside


def _explicit_items(source: ByteSource, encoding: Encoding, place: Place) -> Place:
    """Go on until no sequence is open, or something comes that needs thought."""
    position, allowance, depth, in_item, item_start = place
    read_header, read_long = encoding.raw_header, encoding.long_length
    short_vrs, long_vrs, unknown = encoding.raw_short_vrs, encoding.raw_long_vrs, encoding.raw_un
    item, item_end, sequence_end = encoding.raw_delimiters
    while True:
        buffer, base = source.window(position)
        at, left = position - base, allowance
        try:
            for left in range(allowance, 0, -1):
                raw, vr, length = read_header(buffer, at)
                if in_item and vr in short_vrs:
                    at += 8 + length
                elif in_item and vr in long_vrs:
                    length = read_long(buffer, at + 8)[0]
                    if length != UNDEFINED_LENGTH:
                        at += 12 + length
                    elif vr == unknown:
                        return Place(base + at, left, depth, in_item, item_start)
                    elif depth == MAX_DEPTH:
                        raise _too_deep(base + at)
                    else:
                        at, depth, in_item = at + 12, depth + 1, False
                elif in_item and raw == item_end:
                    at, in_item = at + 8, False
                elif in_item or raw not in (item, sequence_end):
                    return Place(base + at, left, depth, in_item, item_start)
                elif raw == sequence_end:
                    at, depth, in_item = at + 8, depth - 1, True
                    if not depth:
                        return Place(base + at, left, depth)
                else:
                    length = read_long(buffer, at + 4)[0]
                    in_item = length == UNDEFINED_LENGTH
                    at += 8 if in_item else 8 + length
                    item_start = base + at
            raise _too_many(base + at)
        except struct.error:
            position, allowance = _refilled_at(source, position, base + at), left


def _implicit_items(source: ByteSource, place: Place) -> Place:
    """Go on until the sequence, or the item, that was opened last is over."""
    position, allowance, depth, in_item, _ = place
    last_item, last_sequence = (depth, -1) if in_item else (-1, depth)
    read_header = IMPLICIT_LITTLE.plain_header
    while True:
        buffer, base = source.window(position)
        at, left = position - base, allowance
        try:
            for left in range(allowance, 0, -1):
                group, element, length = read_header(buffer, at)
                at += 8
                if in_item and group != _DELIMITER_GROUP:
                    if length != UNDEFINED_LENGTH:
                        at += length
                    elif depth == MAX_DEPTH:
                        raise _too_deep(base + at)
                    else:
                        depth, in_item = depth + 1, False
                elif in_item and element == _ITEM_END:
                    if depth == last_item:
                        return Place(base + at, left, depth)
                    in_item = False
                elif in_item and length != UNDEFINED_LENGTH:
                    # A delimiter that closes nothing.
                    at += length
                elif in_item or group != _DELIMITER_GROUP or element not in _ITEM_OR_END:
                    raise _no_item(group << 16 | element, base + at - 8)
                elif element == _SEQUENCE_END:
                    if depth == last_sequence:
                        return Place(base + at, left, depth - 1, in_item=True)
                    depth, in_item = depth - 1, True
                elif length != UNDEFINED_LENGTH:
                    at += length
                else:
                    in_item = True
            raise _too_many(base + at)
        except struct.error:
            position, allowance = _refilled_at(source, position, base + at), left


def _refilled_at(source: ByteSource, window_position: int, position: int) -> int:
    """Return where the next window must begin, if there is anything left to read."""
    if position == window_position or position >= source.size:
        raise _cut_off(position)
    return position


def _cut_off(position: int) -> TruncatedError:
    return TruncatedError(f"The data end in a sequence that goes on to byte {position} or beyond.")


def _too_many(position: int) -> ElementLimitError:
    return ElementLimitError(
        f"More elements than the limit of {MAX_ELEMENTS} up to byte {position}."
    )


def _too_deep(position: int) -> DepthLimitError:
    return DepthLimitError(f"Sequences are nested deeper than {MAX_DEPTH} at byte {position}.")


def _no_item(tag: int, position: int) -> MalformedDicomError:
    return MalformedDicomError(
        f"{name_of(tag)} stands at byte {position} where an item must begin."
    )
