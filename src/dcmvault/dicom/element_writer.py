"""Element headers and delimiters, written in little endian (PS3.5 sections 7.1 and 7.5)."""

from __future__ import annotations

import struct
from typing import BinaryIO

from dcmvault.dicom.encoding import (
    HEADER_SIZES,
    ITEM,
    ITEM_DELIMITATION,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
)

_tag_and_length = struct.Struct("<HHL").pack
_short_header = struct.Struct("<HH2sH").pack
_long_header = struct.Struct("<HH2sHL").pack
_MAX_SHORT = 0xFFFF


class ElementWriter:
    """Writes what stands around values; sequences and items always without a length."""

    def __init__(self, out: BinaryIO, *, explicit: bool) -> None:
        self._out = out
        self._explicit = explicit

    def value(self, piece: bytes) -> None:
        """Write a part of a value."""
        self._out.write(piece)

    def header(self, tag: int, vr: bytes, length: int) -> None:
        """Write an element's header; a value too long for its VR becomes UN (section 6.2.2)."""
        group, element = tag >> 16, tag & 0xFFFF
        if not self._explicit:
            self._out.write(_tag_and_length(group, element, length))
        elif HEADER_SIZES[vr] == 8 and length <= _MAX_SHORT:
            self._out.write(_short_header(group, element, vr, length))
        else:
            vr = b"UN" if HEADER_SIZES[vr] == 8 else vr
            self._out.write(_long_header(group, element, vr, 0, length))

    def item(self, length: int = UNDEFINED_LENGTH) -> None:
        """Begin an item, or write that of a fragment, which has a length."""
        self._delimiter(ITEM, length)

    def end_item(self) -> None:
        """End an item."""
        self._delimiter(ITEM_DELIMITATION)

    def end_sequence(self) -> None:
        """End a sequence, or encapsulated pixel data."""
        self._delimiter(SEQUENCE_DELIMITATION)

    def _delimiter(self, tag: int, length: int = 0) -> None:
        self._out.write(_tag_and_length(tag >> 16, tag & 0xFFFF, length))
