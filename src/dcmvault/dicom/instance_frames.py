"""Single frames of an instance: as they are stored, and as samples (PS3.18 section 10.4.1.1.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dcmvault.dicom.byte_source import ByteSource
from dcmvault.dicom.digest import turned, width_of
from dcmvault.dicom.elements import ElementWalker
from dcmvault.dicom.encoding import PIXEL_DATA, Encoding
from dcmvault.dicom.frame_codecs import by_plane, decode_frame
from dcmvault.dicom.nesting import SEQUENCE, SEQUENCE_END, VALUE
from dcmvault.dicom.pixel_shape import MAX_FRAME_BYTES, PixelShape
from dcmvault.dicom.pixels import Fragments, PixelElements
from dcmvault.dicom.transfer_syntaxes import FAMILIES, NotTranscodableError
from dcmvault.errors import MalformedDicomError

#: A bit for each sample.
_SINGLE_BITS = 1


@dataclass(frozen=True, slots=True)
class InstanceFrames:
    """The frames of one instance; numbers count from 1. Valid while its bytes are."""

    shape: PixelShape
    transfer_syntax_uid: str
    _source: ByteSource
    _encoding: Encoding
    #: Of native pixel data.
    _value: tuple[int, int]
    _vr: bytes
    #: Of encapsulated pixel data: what compresses them, and where each frame lies.
    _fragments: Fragments | None
    _places: Sequence[Sequence[tuple[int, int]]]

    @property
    def is_compressed(self) -> bool:
        """Whether the frames are stored compressed."""
        return self._fragments is not None

    def stored(self, number: int) -> bytes:
        """Return a frame as it is stored. Raises NotTranscodableError, as everything here."""
        if self._fragments is None:
            return self.samples(number)
        return self._fragments.stream(self._places[number - 1])

    def samples(self, number: int) -> bytes:
        """Return the samples of a frame, little endian, planes as the data set says."""
        if self._fragments is None:
            return self._native(number)
        family = FAMILIES.get(self.transfer_syntax_uid)
        if family is None:
            raise NotTranscodableError("its frames are compressed in a way that is not decoded")
        frame = decode_frame(self.stored(number), family, self.shape)
        return by_plane(frame, self.shape) if self.shape.by_plane else frame

    def _native(self, number: int) -> bytes:
        shape = self.shape
        start, end = self._value
        pixels = shape.rows * shape.columns * shape.samples
        bits = pixels * shape.bits_allocated
        if "422" in shape.photometric:
            bits = bits // shape.samples * 2
        first, last = (number - 1) * bits, number * bits
        if bits > 8 * MAX_FRAME_BYTES or start + (last + 7) // 8 > end:
            raise NotTranscodableError("there are fewer pixels than the data set says")
        # In big endian, a frame of odd length begins or ends inside a word.
        low, high = (first // 8) & ~1, ((last + 7) // 8 + 1) & ~1
        width = width_of(self._vr) if self._encoding.big_endian and self._vr else ""
        words = turned(self._source.read(start + low, min(high, end - start) - low), width)
        if shape.bits_allocated == _SINGLE_BITS:
            unpacked = np.unpackbits(np.frombuffer(words, np.uint8), bitorder="little")
            at = first - 8 * low
            return np.packbits(unpacked[at : at + bits], bitorder="little").tobytes()
        return words[first // 8 - low : last // 8 - low]


def frames_of(opened: tuple[ByteSource, int, Encoding], syntax: str) -> InstanceFrames:
    """Find the frames of a data set; MalformedDicomError, also where it has no pixel data."""
    data, position, encoding = opened
    elements = PixelElements(data, big_endian=encoding.big_endian)
    depth = 0
    for event in ElementWalker(data, position, encoding):
        kind, tag, vr, start, end = event
        fragments = elements.note(event)
        depth += (kind == SEQUENCE) - (kind == SEQUENCE_END and fragments is None)
        if depth:
            continue
        if fragments is not None:
            shape = elements.notes.shape()
            places = fragments.by_frame(shape.frames)
            return InstanceFrames(shape, syntax, data, encoding, (0, 0), vr, fragments, places)
        if kind == VALUE and tag == PIXEL_DATA:
            shape = elements.notes.shape()
            return InstanceFrames(shape, syntax, data, encoding, (start, end), vr, None, ())
    raise MalformedDicomError("it has no pixel data")
