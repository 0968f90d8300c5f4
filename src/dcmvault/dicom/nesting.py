"""Containers that are open while a data set is walked: items in sequences in items ...

The stack is explicit, its depth and the number of steps are limited. `ElementWalker` drives it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from dcmvault.dicom.byte_source import HEADER_BYTES, ByteSource
from dcmvault.dicom.encoding import (
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITATION,
    PIXEL_DATA,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    Encoding,
    Header,
    looks_explicit,
    name_of,
    parse_header,
)
from dcmvault.errors import MalformedDicomError

#: Items inside items, at most; real data sets need fewer than ten.
MAX_DEPTH = 64
#: Elements and fragments of one data set, at most; a sequence or an item counts as four.
MAX_ELEMENTS = 1_000_000
_CONTAINER_COST = 3

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


class Frame(NamedTuple):
    """An open container: the data set, a sequence, an item, or encapsulated pixel data."""

    kind: int  #: ITEM_START (also the data set), SEQUENCE or FRAGMENTS
    tag: int
    start: int
    end: int  #: of the container; of the container around it when the length is undefined
    undefined: bool
    encoding: Encoding


class Nesting:
    """The open containers, innermost last, and the steps over and into what is in them."""

    def __init__(
        self,
        source: ByteSource,
        position: int,
        encoding: Encoding,
        sequence_hint: Callable[[int, bytes, int, int], bool] | None,
    ) -> None:
        self.position = position
        #: Elements, items and fragments that may still come.
        self.allowance = MAX_ELEMENTS
        self._source = source
        self._hint = sequence_hint
        self._frames = [Frame(ITEM_START, 0, position, source.size, False, encoding)]
        self._buffer, self._base = source.window(position)

    def _fill(self, position: int) -> int:
        """Make the buffer reach past the header at `position`; return how many bytes are left."""
        at = position - self._base
        if at < 0 or at + HEADER_BYTES > len(self._buffer):
            self._buffer, self._base = self._source.window(position)
            at = position - self._base
        return len(self._buffer) - at

    def _header(self, encoding: Encoding) -> Header | None:
        """Parse the header at `position`; None if the bytes are too few."""
        self._fill(self.position)
        return parse_header(self._buffer, self.position - self._base, self._base, encoding)

    def _count(self) -> None:
        self.allowance -= 1
        if self.allowance < 0:
            raise ElementLimitError(
                f"More elements than the limit of {MAX_ELEMENTS} up to byte {self.position}."
            )

    def _next_in_item(self, frame: Frame) -> Event:
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

    def _open_element(self, frame: Frame, header: Header) -> Event:
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
            return self._push(Frame(SEQUENCE, tag, start, stop, False, frame.encoding), stop)
        if self._hint is not None and length >= 8 and self._hint(tag, vr, start, stop):
            return self._push(Frame(SEQUENCE, tag, start, stop, False, IMPLICIT_LITTLE), stop)
        self.position = stop
        return (VALUE, tag, vr, start, stop)

    def _open_undefined(self, frame: Frame, header: Header) -> Event:
        tag, vr, _, start = header
        if vr in (b"OB", b"OW") or (tag == PIXEL_DATA and vr != b"SQ"):
            return self._push(Frame(FRAGMENTS, tag, start, frame.end, True, frame.encoding), -1)
        if tag >> 16 == 0xFFFE:
            raise MalformedDicomError(
                f"The item delimiter {name_of(tag)} at byte {self.position} has no length."
            )
        encoding = IMPLICIT_LITTLE if vr == b"UN" else frame.encoding
        return self._push(Frame(SEQUENCE, tag, start, frame.end, True, encoding), -1)

    def _push(self, frame: Frame, end: int) -> Event:
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

    def _next_in(self, frame: Frame) -> Event:
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

    def _open_item(self, frame: Frame, start: int, stop: int) -> Event:
        encoding = frame.encoding
        if encoding.explicit and self._fill(start) >= 8:
            at = start - self._base
            head = self._buffer[at : at + 8]
            group = encoding.plain_header(head, 0)[0]
            if stop != start and group != 0xFFFE and not looks_explicit(head):
                encoding = IMPLICIT_LITTLE
        undefined = stop < 0
        end = frame.end if undefined else stop
        self._push(Frame(ITEM_START, frame.tag, start, end, undefined, encoding), stop)
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
