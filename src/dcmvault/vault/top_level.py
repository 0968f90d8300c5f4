"""What the top level of a data set consists of, as far as taking a file apart needs to know it.

The scanner has read the file before and said where the data set ends, so this walk only follows:
one pass over element headers, values are never read but those of the Image Pixel module.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from dcmvault.dicom.byte_source import ByteSource
from dcmvault.dicom.encoding import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ITEM_BYTES,
    PIXEL_TAGS,
    UNDEFINED_LENGTH,
    Encoding,
    Header,
    parse_header,
)
from dcmvault.dicom.nesting import MAX_ELEMENTS
from dcmvault.dicom.undefined_length import skip_sequence
from dcmvault.dicom.vr_table import ValueKind, value_kind
from dcmvault.errors import MalformedDicomError

#: Values of fewer bytes are not mentioned. Private headers of some 10 KiB, which MR scanners write,
#: differ little from one instance to the next: they take a tenth of the room among other headers.
MIN_VALUE_BYTES = 16 << 10
#: Sequences of fewer bytes are not mentioned.
MIN_SEQUENCE_BYTES = 64 << 10
#: After a fragment of this many bytes no more than the next header is read.
_FAR = 4096
#: Longest value of the Image Pixel module that is read.
_MAX_ATTRIBUTE = 64

SAMPLES_PER_PIXEL = 0x00280002
PHOTOMETRIC_INTERPRETATION = 0x00280004
PLANAR_CONFIGURATION = 0x00280006
NUMBER_OF_FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
BITS_ALLOCATED = 0x00280100
BITS_STORED = 0x00280101
PIXEL_REPRESENTATION = 0x00280103
_ATTRIBUTES = frozenset(
    {
        SAMPLES_PER_PIXEL,
        PHOTOMETRIC_INTERPRETATION,
        PLANAR_CONFIGURATION,
        NUMBER_OF_FRAMES,
        ROWS,
        COLUMNS,
        BITS_ALLOCATED,
        BITS_STORED,
        PIXEL_REPRESENTATION,
    }
)
_RAW_ATTRIBUTES = {
    encoding.big_endian: {encoding.raw_tag(tag): tag for tag in _ATTRIBUTES}
    for encoding in (EXPLICIT_LITTLE, EXPLICIT_BIG)
}
_IMAGE_GROUP = 0x0028
#: Groups in implicit VR that need a look: 7FE0 has the pixel data, FFFE delimits.
_NEVER_PLAIN = frozenset({0x7FE0, 0xFFFE})
#: VRs whose values may be sequences all the same: unknown, or none written (PS3.5 6.2.2).
_MAYBE_SEQUENCE = frozenset({b"", b"UN"})


class Span(NamedTuple):
    """A range of the file."""

    start: int
    end: int


class Pixels(NamedTuple):
    """A top-level pixel data element with its value."""

    tag: int
    vr: bytes
    value: Span
    #: Encapsulated: the fragments without the offset table; None for native pixels.
    fragments: tuple[Span, ...] | None
    #: Whether the value is all there.
    whole: bool


@dataclass(slots=True)
class TopLevel:
    """What a walk found, in the order of the file."""

    #: Values of MIN_VALUE_BYTES and more that are no sequences.
    values: list[Span] = field(default_factory=list)
    #: Sequences of MIN_SEQUENCE_BYTES and more.
    sequences: list[Span] = field(default_factory=list)
    #: Values of the Image Pixel module, as they stand.
    attributes: dict[int, bytes] = field(default_factory=dict)
    pixels: Pixels | None = None
    #: Where the walk had to give up, or the end of the data set.
    end: int = 0


def walk(source: ByteSource, encoding: Encoding, position: int, end: int) -> TopLevel:
    """Walk the elements from `position` to `end` or to what cannot be read as an element.

    A value that runs past `end` is cut there. Raises nothing but OSError.
    """
    return _Walk(source, encoding, end).run(position)


class _Walk:
    __slots__ = ("_allowance", "_encoding", "_end", "_found", "_source")

    def __init__(self, source: ByteSource, encoding: Encoding, end: int) -> None:
        self._source = source
        self._encoding = encoding
        self._end = end
        self._allowance = MAX_ELEMENTS
        self._found = TopLevel()

    def run(self, position: int) -> TopLevel:
        plain = self._explicit if self._encoding.explicit else self._implicit
        try:
            while position < self._end and self._allowance > 0:
                position = plain(position)
                if position < self._end and self._allowance > 0:
                    position = self._rare(position)
        except _StoppedError as stop:
            position = stop.position
        self._found.end = min(position, self._end)
        return self._found

    def _explicit(self, position: int) -> int:
        """Step over what has a known VR and a defined length; return where something else is."""
        source, encoding, end = self._source, self._encoding, self._end
        read_header, read_long = encoding.raw_header, encoding.long_length
        short_vrs, long_vrs = encoding.raw_short_vrs, encoding.raw_long_vrs
        pixel_tags, wanted = encoding.raw_pixel_tags, _RAW_ATTRIBUTES[encoding.big_endian]
        left = self._allowance
        while position < end:
            buffer, base = source.window(position)
            at, stop = position - base, end - base
            try:
                while at < stop and left:
                    left -= 1
                    raw, vr, length = read_header(buffer, at)
                    value = at + 8
                    if vr not in short_vrs:
                        if vr not in long_vrs or raw in pixel_tags:
                            break
                        value = at + 12
                        length = read_long(buffer, at + 8)[0]
                        if length == UNDEFINED_LENGTH:
                            break
                    if raw in wanted:
                        self._attribute(wanted[raw], base + value, length)
                    if length >= MIN_VALUE_BYTES:
                        tag = encoding.raw_tag(raw)
                        self._large(Header(tag, buffer[at + 4 : at + 6], length, base + value))
                    at = value + length
                self._allowance = left
                return base + at
            except struct.error:
                if base + at == position:
                    break
                position = base + at
        self._allowance = left
        return position

    def _implicit(self, position: int) -> int:
        """Step over what has a defined length; return where something else is."""
        source, end, read_header = self._source, self._end, self._encoding.plain_header
        left = self._allowance
        while position < end:
            buffer, base = source.window(position)
            at, stop = position - base, end - base
            try:
                while at < stop and left:
                    left -= 1
                    group, element, length = read_header(buffer, at)
                    if group in _NEVER_PLAIN or length == UNDEFINED_LENGTH:
                        break
                    if group == _IMAGE_GROUP and (tag := group << 16 | element) in _ATTRIBUTES:
                        self._attribute(tag, base + at + 8, length)
                    if length >= MIN_VALUE_BYTES:
                        self._large(Header(group << 16 | element, b"", length, base + at + 8))
                    at += 8 + length
                self._allowance = left
                return base + at
            except struct.error:
                if base + at == position:
                    break
                position = base + at
        self._allowance = left
        return position

    def _rare(self, position: int) -> int:
        """Take one element of undefined length, pixel data, a delimiter, an unknown VR."""
        self._allowance -= 1
        buffer, base = self._source.window(position)
        header = parse_header(buffer, position - base, base, self._encoding)
        if header is None or header.start > self._end:
            raise _StoppedError(position)
        is_pixels = header.tag in PIXEL_TAGS and header.vr != b"SQ" and self._found.pixels is None
        if header.length != UNDEFINED_LENGTH:
            stop = header.start + header.length
            if is_pixels:
                value = Span(header.start, min(stop, self._end))
                whole = stop <= self._end
                self._found.pixels = Pixels(header.tag, header.vr, value, None, whole)
            elif header.length >= MIN_VALUE_BYTES:
                self._large(header)
            return stop
        if is_pixels:
            return self._encapsulated(header)
        if header.tag >> 16 == 0xFFFE:
            raise _StoppedError(position)
        encoding = IMPLICIT_LITTLE if header.vr == b"UN" else self._encoding
        try:
            stop, self._allowance = skip_sequence(
                self._source, encoding, header.start, self._allowance
            )
        except MalformedDicomError:
            raise _StoppedError(position) from None
        self._sequence(header.start, stop)
        return stop

    def _encapsulated(self, header: Header) -> int:
        """Step over the items of encapsulated pixel data (PS3.5 A.4) and their delimiter."""
        source, read_item, end = self._source, self._encoding.item_header, self._end
        item, _, delimiter = self._encoding.raw_delimiters
        items: list[Span] = []
        position, length, whole = header.start, 0, False
        while self._allowance > 0:
            self._allowance -= 1
            if length < _FAR:
                buffer, base = source.window(position)
            else:
                buffer, base = source.read(position, 8), position
            if len(buffer) - (position - base) < 8 or position + 8 > end:
                break
            raw, length = read_item(buffer, position - base)
            if raw == delimiter:
                position, whole = position + 8, True
                break
            if raw != item or length == UNDEFINED_LENGTH:
                break
            items.append(Span(position + 8, min(position + 8 + length, end)))
            position += 8 + length
        value = Span(header.start, min(position, end))
        self._found.pixels = Pixels(header.tag, header.vr, value, tuple(items[1:]), whole)
        if not whole:
            raise _StoppedError(position)
        return position

    def _attribute(self, tag: int, start: int, length: int) -> None:
        self._found.attributes[tag] = self._source.read(start, min(length, _MAX_ATTRIBUTE))

    def _large(self, header: Header) -> None:
        """Note a value of defined length."""
        tag, vr, length, start = header
        stop = min(start + length, self._end)
        if vr == b"SQ" or (vr in _MAYBE_SEQUENCE and self._hides_sequence(tag, start)):
            self._sequence(start, stop)
        elif stop - start >= MIN_VALUE_BYTES:
            self._found.values.append(Span(start, stop))

    def _sequence(self, start: int, stop: int) -> None:
        stop = min(stop, self._end)
        if stop - start >= MIN_SEQUENCE_BYTES:
            self._found.sequences.append(Span(start, stop))

    def _hides_sequence(self, tag: int, start: int) -> bool:
        """Say whether a value is a sequence though no VR says so."""
        kind = value_kind(tag)
        if kind == ValueKind.UNKNOWN:
            return self._source.read(start, 4) == ITEM_BYTES
        return kind == ValueKind.SEQUENCE


class _StoppedError(Exception):
    """Nothing can be understood from `position` on."""

    def __init__(self, position: int) -> None:
        super().__init__()
        self.position = position
