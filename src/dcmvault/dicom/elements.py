"""One walk over the data elements of a data set: PS3.5 chapter 7, iterative and bounded.

The walker yields events and never decodes a value. It follows explicit and implicit VR, both
byte orders, sequences and items of defined and undefined length, UN of undefined length (implicit
VR inside, PS3.5 6.2.2), encapsulated pixel data, and what readers forgive in practice: items in
implicit VR inside explicit VR, delimiters where none is needed, unknown VRs.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator

from dcmvault.dicom.byte_source import HEADER_BYTES, ByteSource
from dcmvault.dicom.encoding import (
    HEADER_SIZES,
    IMPLICIT_LITTLE,
    ITEM,
    PIXEL_TAGS,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    Encoding,
    Header,
)
from dcmvault.dicom.nesting import ITEM_START, SEQUENCE, VALUE, Event, Frame, Nesting
from dcmvault.errors import MalformedDicomError

#: An item or the end of an empty sequence, in both byte orders.
_SEQUENCE_BEGINS = frozenset(
    struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    for order in "<>"
    for tag in (ITEM, SEQUENCE_DELIMITATION)
)


class ElementWalker(Nesting):
    """Walks one data set from `position`; iterate over it, or over one `element()` at a time.

    Every departure that leaves no way to go on raises MalformedDicomError with the position;
    `sequence_hint(tag, vr, start, end)` may say that a plain value is a sequence in implicit VR.
    """

    def __init__(
        self,
        source: ByteSource,
        position: int,
        encoding: Encoding,
        *,
        sequence_hint: Callable[[int, bytes, int, int], bool] | None = None,
    ) -> None:
        super().__init__(source, position, encoding, sequence_hint)
        #: Whether a top-level pixel data element was passed.
        self.pixels_seen = False
        #: Where bytes begin that are no part of the data set; -1 while there are none.
        self.trailing_start = -1
        self._last_tag = 0

    def __iter__(self) -> Iterator[Event]:
        """Yield every event up to the end of the data set."""
        while self.more():
            yield from self.element()

    def more(self) -> bool:
        """Say whether another top-level element follows; sets `trailing_start` if only rubbish."""
        left = self._fill(self.position)
        if self.trailing_start >= 0 or not left:
            return False
        header = self._header(self._frames[0].encoding)
        if header is not None and self._plausible(header):
            return True
        if header is not None and not (self.pixels_seen or self._only_padding()):
            raise MalformedDicomError(f"What follows at byte {self.position} is no data element.")
        self.trailing_start = self.position
        return False

    def peek(self) -> Header:
        """Return the header of the element at `position`; call `more` first."""
        header = self._header(self._frames[-1].encoding)
        if header is None:
            raise MalformedDicomError(f"No element header at byte {self.position}.")
        return header

    def element(self) -> Iterator[Event]:
        """Yield the events of the one top-level element at `position`; call `more` first."""
        header = self.peek()
        yield self._open_element(self._frames[0], header)
        while len(self._frames) > 1:
            frame = self._frames[-1]
            if frame.kind != ITEM_START:
                yield self._next_in(frame)
            else:
                yield from self._plain_values(frame)
                yield self._next_in_item(frame)
        self.passed(header.tag)

    def passed(self, tag: int) -> None:
        """Note the top-level tag that was stepped over last."""
        self._last_tag = tag
        self.pixels_seen |= tag in PIXEL_TAGS

    def items(self, start: int, end: int) -> Iterator[Event]:
        """Yield the events of a sequence's value alone."""
        self.position = start
        self._fill(start)
        encoding = self._frames[0].encoding
        self._frames = [Frame(SEQUENCE, 0, start, end, False, encoding)]
        while self._frames:
            frame = self._frames[-1]
            if frame.kind != ITEM_START:
                yield self._next_in(frame)
            else:
                yield self._next_in_item(frame)

    def _plausible(self, header: Header) -> bool:
        """Say whether a top-level header is one of this data set rather than rubbish after it."""
        encoding = self._frames[0].encoding
        if header.tag >> 16 == 0:
            return False
        fits = header.start + header.length <= self._source.size
        if encoding.explicit and not header.vr and header.tag >> 16 != 0xFFFE:
            return fits and header.tag > self._last_tag
        if self.pixels_seen:
            if header.length == UNDEFINED_LENGTH:
                fits = self._source.read(header.start, 4) in _SEQUENCE_BEGINS
            return fits and (encoding.explicit or header.tag > self._last_tag)
        return True

    def _only_padding(self) -> bool:
        """Say whether nothing but NULs and spaces follow (looked at: 1 MiB)."""
        left = self._source.size - self.position
        return left <= 1 << 20 and not self._source.read(self.position, left).strip(b"\0 ")

    def _plain_values(self, frame: Frame) -> Iterator[Event]:
        """Yield the run of values that need no thought; stop before anything else.

        This is the hot loop of every deep walk: locals only.
        """
        explicit = frame.encoding.explicit
        read_header = frame.encoding.explicit_header
        read_plain = frame.encoding.plain_header
        read_long = frame.encoding.long_length
        sizes, hint, end = HEADER_SIZES, self._hint, frame.end
        position = self.position
        while position < end:
            at = position - self._base
            if at < 0 or at + HEADER_BYTES > len(self._buffer):
                if self._fill(position) < HEADER_BYTES:
                    return
                at = position - self._base
            if explicit:
                group, element, vr, length = read_header(self._buffer, at)
                size = sizes.get(vr, 0)
                if size == 12:
                    if vr == b"SQ":
                        return
                    length = read_long(self._buffer, at + 8)[0]
                elif not size:
                    return
            else:
                group, element, length = read_plain(self._buffer, at)
                vr, size = b"", 8
            start = position + size
            stop = start + length
            tag = group << 16 | element
            if stop > end or length == UNDEFINED_LENGTH or group == 0xFFFE:
                return
            if hint is not None and length >= 8 and hint(tag, vr, start, stop):
                return
            self._count()
            self.position = position = stop
            yield (VALUE, tag, vr, start, stop)


def is_item_list(source: ByteSource, start: int, end: int, allowance: int) -> tuple[bool, int]:
    """Say whether a value is exactly a list of items in implicit VR little endian.

    Returns that and the allowance of elements left after looking.
    """
    walker = ElementWalker(source, start, IMPLICIT_LITTLE)
    walker.allowance = allowance
    try:
        deque(walker.items(start, end), maxlen=0)
    except MalformedDicomError:
        return False, max(walker.allowance, 0)
    return True, walker.allowance
