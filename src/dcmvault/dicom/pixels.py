"""Pixels as they are decoded, frame by frame, and their digest: equal whatever they travel in.

The digest `px1` is SHA-256 over each pixel data element in order, icons included: rows, columns,
samples per pixel, bits allocated and frames (4 bytes each, little endian), then the samples of
all frames, little endian, colour by pixel, without padding. Native pixel data that are no plain
samples (single bits, subsampled colour) count as their bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise

from dcmvault.dicom.byte_source import ByteSource
from dcmvault.dicom.codestreams import begins_stream
from dcmvault.dicom.elements import ElementWalker
from dcmvault.dicom.encoding import PIXEL_DATA, Encoding
from dcmvault.dicom.frame_codecs import by_pixel, decode_frame
from dcmvault.dicom.nesting import FRAGMENT, FRAGMENTS, SEQUENCE_END, VALUE, Event
from dcmvault.dicom.pixel_shape import (
    MAX_FRAME_BYTES,
    MAX_PIXEL_BYTES,
    PixelShape,
    ShapeNotes,
)
from dcmvault.dicom.transfer_syntaxes import Family, NotTranscodableError

_CHUNK = 1 << 20
_EXTENDED_OFFSETS = 0x7FE00001
#: Longest compressed frame.
_MAX_STREAM_BYTES = 2 * MAX_FRAME_BYTES
_head = struct.Struct("<5I").pack


class PixelsDigest:
    """Computes `px1` from what it is told in order."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def begin(self, shape: PixelShape) -> None:
        """Begin a pixel data element."""
        self._sha256.update(
            _head(shape.rows, shape.columns, shape.samples, shape.bits_allocated, shape.frames)
        )

    def feed(self, samples: bytes) -> None:
        """Go on with samples, little endian and colour by pixel."""
        self._sha256.update(samples)

    def text(self) -> str:
        """Return the digest of everything so far."""
        return "px1:" + self._sha256.hexdigest()


class Fragments:
    """One encapsulated pixel data element, gathered from a walk: where its frames lie."""

    def __init__(self, source: ByteSource, extended_offsets: tuple[int, int]) -> None:
        self._source = source
        #: Where the extended offset table lies (7FE0,0001); of no length where there is none.
        self._extended_offsets = extended_offsets
        self._places: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> None:
        """Add the next fragment; the first is the basic offset table (PS3.5 section A.4)."""
        self._places.append((start, end))

    def frames(self, family: Family, shape: PixelShape) -> Iterator[bytes]:
        """Decode one frame after the other.

        Raises NotTranscodableError for damage, and where the frames cannot be told apart.
        """
        if shape.frame_bytes * shape.frames > MAX_PIXEL_BYTES:
            raise NotTranscodableError("its pixels would take more than the 4 GiB that DICOM knows")
        for places in self.by_frame(shape.frames):
            yield decode_frame(self.stream(places), family, shape)

    def stream(self, places: Sequence[tuple[int, int]]) -> bytes:
        """Return one frame as it is compressed; `places` are those that `by_frame` gives for it."""
        if sum(end - start for start, end in places) > _MAX_STREAM_BYTES:
            raise NotTranscodableError("a compressed frame is too long to be decoded at once")
        parts = [self._source.read(start, end - start) for start, end in places]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def by_frame(self, count: int) -> list[Sequence[tuple[int, int]]]:
        """Say which fragments make up each frame."""
        table, *places = self._places or [(0, 0)]
        if count == 1:
            self._require_one_frame(table, places)
            return [places] if places else []
        if len(places) < count:
            raise NotTranscodableError("there are fewer frames than the data set says")
        if len(places) == count:
            return [[place] for place in places]
        begins = self._offsets(table, count) or [
            start for start, _end in places if self._begins_stream(start)
        ]
        index = {start: number for number, (start, _end) in enumerate(places)}
        if len(begins) != count or begins[0] != places[0][0] or not index.keys() >= set(begins):
            raise NotTranscodableError("it cannot be told where each frame of its pixels begins")
        cuts = [*(index[start] for start in begins), len(places)]
        if any(first >= last for first, last in pairwise(cuts)):
            raise NotTranscodableError("it cannot be told where each frame of its pixels begins")
        return [places[first:last] for first, last in pairwise(cuts)]

    def _require_one_frame(self, table: tuple[int, int], places: Sequence[tuple[int, int]]) -> None:
        """Refuse fragments of several frames where one is said: decoders read the first only."""
        offsets = max(
            (table[1] - table[0]) // 4, (self._extended_offsets[1] - self._extended_offsets[0]) // 8
        )
        if offsets > 1 or any(self._begins_stream(start) for start, _end in places[1:]):
            raise NotTranscodableError("there are more frames than the data set says")

    def _begins_stream(self, start: int) -> bool:
        return begins_stream(self._source.read(start, 12))

    def _offsets(self, table: tuple[int, int], count: int) -> list[int]:
        """Return where frames begin by the offset tables; nothing where there are none.

        A table of another length than `count` frames need is not read.
        """
        # An offset counts from the first item after the table, and an item's value is 8 later.
        base = table[1] + 8
        for (start, end), size, code in ((self._extended_offsets, 8, "Q"), (table, 4, "I")):
            if end - start == size * count:
                offsets = self._source.read(start, end - start)
                return [base + at for at in struct.unpack(f"<{count}{code}", offsets)]
        return []


class PixelElements:
    """Recognises pixel data elements in a walk and gathers what encapsulated ones need."""

    def __init__(self, source: ByteSource, *, big_endian: bool) -> None:
        self.notes = ShapeNotes(source, big_endian=big_endian)
        self._source = source
        self._extended_offsets = (0, 0)
        self._fragments: Fragments | None = None

    def note(self, event: Event) -> Fragments | None:
        """Take notice of an event; the end of encapsulated pixel data gives its fragments."""
        kind, tag, _vr, start, end = event
        self.notes.note(event)
        if kind == FRAGMENTS:
            if tag != PIXEL_DATA:
                raise NotTranscodableError("something else than pixel data is encapsulated")
            self._fragments = Fragments(self._source, self._extended_offsets)
            self._extended_offsets = (0, 0)
        elif kind == FRAGMENT and self._fragments is not None:
            self._fragments.add(start, end)
        elif kind == SEQUENCE_END and self._fragments is not None:
            whole, self._fragments = self._fragments, None
            return whole
        elif kind == VALUE and tag == _EXTENDED_OFFSETS:
            self._extended_offsets = (start, end)
        return None


def native_samples(source: ByteSource, shape: PixelShape, start: int, end: int) -> Iterator[bytes]:
    """Yield a native value's samples in pieces, colour by pixel, without padding.

    Raises NotTranscodableError where there are less than the data set says.
    """
    whole = shape.frame_bytes * shape.frames
    if not shape.is_plain:
        whole = end - start
    elif whole > end - start:
        raise NotTranscodableError("there are fewer pixels than the data set says")
    if not (shape.by_plane and shape.is_plain):
        for at in range(start, start + whole, _CHUNK):
            yield source.read(at, min(_CHUNK, start + whole - at))
        return
    if shape.frame_bytes > MAX_FRAME_BYTES:
        raise NotTranscodableError(
            f"a frame has more than the {MAX_FRAME_BYTES} bytes that are decoded at once"
        )
    for number in range(shape.frames):
        frame = source.read(start + number * shape.frame_bytes, shape.frame_bytes)
        yield by_pixel(frame, shape)


def pixels_digest(
    source: ByteSource, position: int, encoding: Encoding, family: Family | None
) -> str:
    """Return the `px1` digest of a little endian data set; `family` decodes encapsulated pixels.

    Raises MalformedDicomError. Memory is that of the largest frame.
    """
    digest = PixelsDigest()
    elements = PixelElements(source, big_endian=False)
    for event in ElementWalker(source, position, encoding):
        kind, tag, _vr, start, end = event
        fragments = elements.note(event)
        if fragments is not None and family is not None:
            shape = elements.notes.shape()
            digest.begin(shape)
            for frame in fragments.frames(family, shape):
                digest.feed(frame)
        elif kind == VALUE and tag == PIXEL_DATA:
            shape = elements.notes.shape()
            digest.begin(shape)
            for samples in native_samples(source, shape, start, end):
                digest.feed(samples)
    return digest.text()
