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
from typing import NamedTuple, TypeAlias

from dcmvault.dicom.byte_source import ByteSource
from dcmvault.dicom.encoding import (
    HEADER_SIZES,
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITATION,
    PIXEL_DATA,
    PIXEL_TAGS,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    Encoding,
    Header,
    looks_explicit,
    name_of,
    parse_header,
)
from dcmvault.dicom.plain_runs import run_over
from dcmvault.errors import MalformedDicomError

#: Items inside items, at most; real data sets need fewer than ten.
MAX_DEPTH = 64
#: Elements and fragments of one data set, at most; a sequence or an item counts as four.
MAX_ELEMENTS = 1_000_000
_CONTAINER_COST = 3

#: An item or the end of an empty sequence, in both byte orders.
_SEQUENCE_BEGINS = frozenset(
    struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    for order in "<>"
    for tag in (ITEM, SEQUENCE_DELIMITATION)
)

#: Kinds of events.
VALUE = 0
SEQUENCE = 1
SEQUENCE_END = 2
ITEM_START = 3
ITEM_END = 4
#: Encapsulated pixel data begins; its FRAGMENT events (the offset table first) and a
#: SEQUENCE_END follow.
FRAGMENTS = 5
FRAGMENT = 6


#: What the walker met: (kind, tag, VR, start, end). VR is empty in implicit VR; start and end are
#: positions of the value in the byte source, the end of undefined length is -1. A plain tuple,
#: because there is one per element.
Event: TypeAlias = tuple[int, int, bytes, int, int]


class TruncatedError(MalformedDicomError):
    """The bytes end before the element does."""


class DepthLimitError(MalformedDicomError):
    """More than MAX_DEPTH items inside each other."""


class ElementLimitError(MalformedDicomError):
    """More elements than allowed."""


class _Frame(NamedTuple):
    """An open container: the data set, a sequence, an item, or encapsulated pixel data."""

    kind: int  #: ITEM_START (also the data set), SEQUENCE or FRAGMENTS
    tag: int
    start: int
    end: int  #: of the container; of the container around it when the length is undefined
    undefined: bool
    encoding: Encoding


class ElementWalker:
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
        self.position = position
        #: Elements, items and fragments that may still come.
        self.allowance = MAX_ELEMENTS
        #: Position of the first element of odd length that `skip` found in a sequence, or 0.
        self.odd_at = 0
        #: Whether a top-level pixel data element was passed.
        self.pixels_seen = False
        #: Where bytes begin that are no part of the data set; -1 while there are none.
        self.trailing_start = -1
        self._source = source
        self._hint = sequence_hint
        self._last_tag = 0
        self._frames = [_Frame(ITEM_START, 0, position, source.size, False, encoding)]
        self._buffer, self._base = source.window(position)

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

    def skip(self, header: Header) -> None:
        """Step over the one top-level element at `position`, which has this header."""
        self._open_element(self._frames[0], header)
        while len(self._frames) > 1:
            frame = self._frames[-1]
            if frame.kind != ITEM_START:
                self._next_in(frame)
                continue
            run = run_over(
                self._source, frame.encoding, self.position, frame.end, self.allowance, {}, {}
            )
            self.position, self.allowance, odd_at = run
            self.odd_at = self.odd_at or odd_at
            self._next_in_item(frame)
        self.passed(header.tag)

    def passed(self, tag: int) -> None:
        """Note the top-level tag that was stepped over last."""
        self._last_tag = tag
        self.pixels_seen |= tag in PIXEL_TAGS

    def abandon(self, position: int) -> None:
        """Leave whatever is open and go on with a top-level element at `position`."""
        del self._frames[1:]
        self.position = position

    def items(self, start: int, end: int) -> Iterator[Event]:
        """Yield the events of a sequence's value alone."""
        self.position = start
        self._fill(start)
        encoding = self._frames[0].encoding
        self._frames = [_Frame(SEQUENCE, 0, start, end, False, encoding)]
        while self._frames:
            frame = self._frames[-1]
            if frame.kind != ITEM_START:
                yield self._next_in(frame)
            else:
                yield self._next_in_item(frame)

    # Headers

    def _fill(self, position: int) -> int:
        """Make the buffer reach past the header at `position`; return how many bytes are left."""
        at = position - self._base
        if at < 0 or at + 12 > len(self._buffer):
            self._buffer, self._base = self._source.window(position)
            at = position - self._base
        return len(self._buffer) - at

    def _header(self, encoding: Encoding) -> Header | None:
        """Parse the header at `position`; None if the bytes are too few."""
        self._fill(self.position)
        return parse_header(self._buffer, self.position - self._base, self._base, encoding)

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

    # Steps

    def _count(self) -> None:
        self.allowance -= 1
        if self.allowance < 0:
            raise ElementLimitError(
                f"More elements than the limit of {MAX_ELEMENTS} up to byte {self.position}."
            )

    def _next_in_item(self, frame: _Frame) -> Event:
        """Step out of the item if it is over, else over or into its next element."""
        position = self.position
        if position >= frame.end and not frame.undefined:
            if position > frame.end:
                raise MalformedDicomError(
                    f"An element before byte {position} runs past its item's end "
                    f"at byte {frame.end}."
                )
            self._frames.pop()
            return (ITEM_END, ITEM, b"", position, position)
        header = self._header(frame.encoding)
        if header is None:
            raise self._truncated(frame.tag, position)
        if header.tag == ITEM_DELIMITATION and frame.undefined:
            self.position = header.start
            self._frames.pop()
            return (ITEM_END, ITEM, b"", position, position)
        return self._open_element(frame, header)

    def _plain_values(self, frame: _Frame) -> Iterator[Event]:
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
            if at < 0 or at + 12 > len(self._buffer):
                if self._fill(position) < 12:
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

    def _open_element(self, frame: _Frame, header: Header) -> Event:
        """Step over a value, or into a sequence or encapsulated pixel data, at `position`."""
        self._count()
        tag, vr, length, start = header
        if length == UNDEFINED_LENGTH:
            return self._open_undefined(frame, header)
        stop = start + length
        if stop > frame.end:
            if frame.end < self._source.size:
                raise MalformedDicomError(
                    f"{name_of(tag)} at byte {self.position} runs past the end of its item "
                    f"at byte {frame.end}."
                )
            raise self._truncated(tag, stop)
        if vr == b"SQ":
            return self._push(_Frame(SEQUENCE, tag, start, stop, False, frame.encoding), stop)
        if self._hint is not None and length >= 8 and self._hint(tag, vr, start, stop):
            return self._push(_Frame(SEQUENCE, tag, start, stop, False, IMPLICIT_LITTLE), stop)
        self.position = stop
        return (VALUE, tag, vr, start, stop)

    def _open_undefined(self, frame: _Frame, header: Header) -> Event:
        tag, vr, _, start = header
        if vr in (b"OB", b"OW") or (tag == PIXEL_DATA and vr != b"SQ"):
            return self._push(_Frame(FRAGMENTS, tag, start, frame.end, True, frame.encoding), -1)
        if tag >> 16 == 0xFFFE:
            raise MalformedDicomError(
                f"The item delimiter {name_of(tag)} at byte {self.position} has no length."
            )
        encoding = IMPLICIT_LITTLE if vr == b"UN" else frame.encoding
        return self._push(_Frame(SEQUENCE, tag, start, frame.end, True, encoding), -1)

    def _push(self, frame: _Frame, end: int) -> Event:
        self._frames.append(frame)
        self.position = frame.start
        self.allowance -= _CONTAINER_COST
        # Sequences and items come in pairs.
        if len(self._frames) > 2 * MAX_DEPTH + 1:
            raise DepthLimitError(
                f"Sequences are nested deeper than {MAX_DEPTH} at byte {frame.start}."
            )
        vr = b"SQ" if frame.kind == SEQUENCE else b""
        return (frame.kind, frame.tag, vr, frame.start, end)

    def _next_in(self, frame: _Frame) -> Event:
        """Step to the next item or fragment of a sequence, or out of it."""
        at_end = self.position == frame.end
        if at_end and not frame.undefined:
            return self._close()
        if self._fill(self.position) < 8:
            raise self._truncated(frame.tag, self.position)
        at = self.position - self._base
        group, element, length = frame.encoding.plain_header(self._buffer, at)
        tag = group << 16 | element
        start = self.position + 8
        self._count()
        if tag == SEQUENCE_DELIMITATION and (frame.undefined or start == frame.end):
            event = self._close()
            self.position = start
            return event
        if tag != ITEM or start > frame.end:
            raise MalformedDicomError(
                f"{name_of(tag)} stands at byte {self.position} where an item of "
                f"{name_of(frame.tag)} must begin."
            )
        stop = start + length
        if length == UNDEFINED_LENGTH and frame.kind != FRAGMENTS:
            stop = -1
        elif stop > frame.end:
            if frame.end < self._source.size:
                raise MalformedDicomError(
                    f"An item at byte {self.position} runs past the end of {name_of(frame.tag)}."
                )
            raise self._truncated(frame.tag, stop)
        if frame.kind == FRAGMENTS:
            self.position = stop
            return (FRAGMENT, frame.tag, b"", start, stop)
        return self._open_item(frame, start, stop)

    def _open_item(self, frame: _Frame, start: int, stop: int) -> Event:
        encoding = frame.encoding
        if encoding.explicit and self._fill(start) >= 8:
            at = start - self._base
            head = self._buffer[at : at + 8]
            group = encoding.plain_header(head, 0)[0]
            if stop != start and group != 0xFFFE and not looks_explicit(head):
                encoding = IMPLICIT_LITTLE
        undefined = stop < 0
        end = frame.end if undefined else stop
        self._push(_Frame(ITEM_START, frame.tag, start, end, undefined, encoding), stop)
        return (ITEM_START, frame.tag, b"", start, stop)

    def _close(self) -> Event:
        frame = self._frames.pop()
        return (SEQUENCE_END, frame.tag, b"", frame.start, self.position)

    def _truncated(self, tag: int, needed: int) -> TruncatedError:
        top = self._frames[1].tag if len(self._frames) > 1 else tag
        size = self._source.size
        if self._frames and self._frames[-1].end < size:
            return TruncatedError(
                f"{name_of(top)} is cut off: byte {self.position} has no room for what must come."
            )
        return TruncatedError(
            f"{name_of(top)} is cut off: it goes on to byte {max(needed, size + 1)} or beyond, "
            f"and the data end at byte {size}."
        )


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
