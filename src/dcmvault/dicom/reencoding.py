"""A data set written again in another transfer syntax: the same values, another encoding.

PS3.5 chapter 7 and Annex A. Values are copied as bytes and never decoded; only big endian ones
are turned. What is left out: group lengths (retired, and wrong after it) and, with encapsulated
pixel data, the offset tables that belong to it. VRs that implicit VR forgot come from PS3.6;
private attributes get UN, whose value is the same bytes (PS3.5 section 6.2.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from pydicom.datadict import dictionary_VR

from dcmvault.dicom.byte_source import ByteSource
from dcmvault.dicom.digest import turned, width_of
from dcmvault.dicom.element_writer import ElementWriter
from dcmvault.dicom.elements import ElementWalker, is_item_list
from dcmvault.dicom.encoding import (
    HEADER_SIZES,
    PIXEL_DATA,
    UNDEFINED_LENGTH,
    Encoding,
)
from dcmvault.dicom.file_meta import IMPLICIT_VR_LITTLE_ENDIAN
from dcmvault.dicom.frame_codecs import by_pixel, by_plane, encode_frame
from dcmvault.dicom.nesting import (
    ITEM_END,
    ITEM_START,
    SEQUENCE,
    SEQUENCE_END,
    VALUE,
    Event,
)
from dcmvault.dicom.pixel_shape import (
    BITS_ALLOCATED,
    MAX_FRAME_BYTES,
    MAX_PIXEL_BYTES,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLES_PER_PIXEL,
    PixelShape,
)
from dcmvault.dicom.pixels import Fragments, PixelElements, PixelsDigest, native_samples
from dcmvault.dicom.transfer_syntaxes import (
    FAMILIES,
    NATIVE,
    RLE_LOSSLESS,
    Family,
    NotTranscodableError,
)

_CHUNK = 1 << 20
#: Attributes whose values the form of the pixel data dictates.
DICTATED_TAGS = frozenset({PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION})
#: (7FE0,0001) and (7FE0,0002) tell of fragments, (7FE0,0003) of their total length.
ENCAPSULATION_TAGS = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00003})


class Reencoder:
    """Writes one data set anew, front to back; memory is that of one frame at most."""

    def __init__(
        self,
        source: ByteSource,
        position: int,
        encoding: Encoding,
        syntaxes: tuple[str, str],
        out: BinaryIO,
    ) -> None:
        self._source = source
        self._big_endian = encoding.big_endian
        source_syntax, self._target = syntaxes
        self._family: Family | None = FAMILIES.get(source_syntax)
        self._compresses = self._target not in NATIVE
        self._out = ElementWriter(out, explicit=self._target != IMPLICIT_VR_LITTLE_ENDIAN)
        self._elements = PixelElements(source, big_endian=encoding.big_endian)
        self._walker = ElementWalker(source, position, encoding, sequence_hint=self._is_sequence)
        self._depth = 0
        self._pixels_written = False
        #: Digest of all pixels that were met.
        self.pixels = PixelsDigest()
        #: Top-level attributes whose values the target dictates, and that differ now.
        self.changed: set[int] = set()

    @property
    def decodes(self) -> bool:
        """Whether pixels change their form: they are compressed before, after, or both."""
        return self._compresses or self._family is not None

    def run(self) -> None:
        """Write it; MalformedDicomError (NotTranscodableError) where that cannot be done."""
        for event in self._walker:
            kind, tag = event[:2]
            fragments = self._elements.note(event)
            if kind == VALUE:
                self._value(event)
            elif kind == SEQUENCE:
                self._depth += 1
                self._out.header(tag, b"SQ", UNDEFINED_LENGTH)
            elif kind == ITEM_START:
                self._out.item()
            elif kind == ITEM_END:
                self._out.end_item()
            elif fragments is not None:
                self._encapsulated(fragments)
            elif kind == SEQUENCE_END:
                self._depth -= 1
                self._out.end_sequence()
        if self._compresses and not self._pixels_written:
            raise NotTranscodableError("it has no pixel data that could be compressed")

    def _value(self, event: Event) -> None:
        _kind, tag, vr, start, end = event
        group = tag >> 16
        if not tag & 0xFFFF or group in (0x0002, 0xFFFE):
            return
        if tag in ENCAPSULATION_TAGS and self.decodes:
            return
        if self._big_endian and not vr and self._is_big_endian_header(tag, start):
            raise NotTranscodableError("a value without VR stands in big endian")
        if tag == PIXEL_DATA and self.decodes:
            self._native(event)
            return
        if not self._depth and tag in DICTATED_TAGS:
            dictated = self._dictated(tag)
            if dictated is not None and dictated != self._source.read(start, end - start):
                self.changed.add(tag)
                self._out.header(tag, self._vr(tag, vr), len(dictated))
                self._out.value(dictated)
                return
        self._copy(event)

    def _is_big_endian_header(self, tag: int, start: int) -> bool:
        """Say whether a header without VR is read in big endian: then nobody knows its words.

        Items of implicit VR are little endian, whatever is around them (PS3.5 section 6.2.2).
        """
        return int.from_bytes(self._source.read(start - 8, 4), "big") == tag

    def _copy(self, event: Event) -> None:
        _kind, tag, vr, start, end = event
        width = ""
        if self._big_endian and vr:
            if vr not in HEADER_SIZES:
                raise NotTranscodableError("a value of unknown VR stands in big endian")
            if tag == PIXEL_DATA:
                self._refuse_doubtful(vr)
            width = width_of(vr)
        written_vr = self._vr(tag, vr)
        if written_vr == b"SQ" and end > start:
            written_vr = b"UN"  # it does not read as a sequence
        self._out.header(tag, written_vr, end - start)
        for piece in self._pieces(start, end):
            self._out.value(turned(piece, width))

    def _refuse_doubtful(self, vr: bytes) -> None:
        """Refuse samples whose bytes readers take in different orders.

        PS3.5 turns the words of OW, and nothing in OB; many turn whole samples instead.
        """
        allocated = self._elements.notes.number(BITS_ALLOCATED)
        if allocated > 16 or (allocated > 8 and vr == b"OB"):
            raise NotTranscodableError(
                f"readers do not agree about samples of {allocated} bits in Big Endian"
            )

    def _pieces(self, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, _CHUNK):
            piece = self._source.read(at, min(_CHUNK, end - at))
            if len(piece) != min(_CHUNK, end - at):
                raise NotTranscodableError("its data set is cut off")
            yield piece

    def _dictated(self, tag: int) -> bytes | None:
        """Return the value that the target asks for, None where the present one may stay."""
        notes = self._elements.notes
        if tag == PLANAR_CONFIGURATION:
            if self._compresses and notes.number(SAMPLES_PER_PIXEL, 1) > 1:
                return b"\1\0" if self._target == RLE_LOSSLESS else b"\0\0"
            return None
        if self._family is None:
            return None
        stated = notes.text(PHOTOMETRIC_INTERPRETATION)
        if self._family is Family.JPEG_2000 and stated in ("YBR_RCT", "YBR_ICT"):
            return b"RGB "
        if stated == "YBR_FULL_422":
            return b"YBR_FULL"  # decoded, each pixel has all its samples
        if stated.endswith(("_422", "_420")):
            raise NotTranscodableError(f"colours of the kind {stated} cannot be decoded")
        return None

    def _native(self, event: Event) -> None:
        """Take native pixel data: an icon's as they are, those of the instance compressed."""
        _kind, _tag, vr, start, end = event
        shape = self._elements.notes.shape()
        if not self._depth and not self._compresses:
            raise NotTranscodableError("its pixel data are not compressed as it says")
        if self._depth:
            if self._big_endian:
                raise NotTranscodableError("an icon image stands in big endian")
            self.pixels.begin(shape)
            for samples in native_samples(self._source, shape, start, end):
                self.pixels.feed(samples)
            self._copy(event)
            return
        if not shape.is_plain or shape.frame_bytes > MAX_FRAME_BYTES:
            raise NotTranscodableError("its samples are none that can be compressed without loss")
        if self._big_endian and vr:
            self._refuse_doubtful(vr)
        if not 0 <= end - start - shape.frame_bytes * shape.frames <= 1:
            raise NotTranscodableError("its pixel data are not as long as the data set says")
        width = width_of(vr) if self._big_endian else ""
        self._compress(self._native_frames(shape, start, width), shape)

    def _native_frames(self, shape: PixelShape, start: int, width: str) -> Iterator[bytes]:
        for number in range(shape.frames):
            at = number * shape.frame_bytes
            # In big endian, a frame of odd length begins or ends inside a word.
            first, last = at & ~1, (at + shape.frame_bytes + 1) & ~1
            words = turned(self._source.read(start + first, last - first), width)
            frame = words[at - first : at - first + shape.frame_bytes]
            yield by_pixel(frame, shape) if shape.by_plane else frame

    def _encapsulated(self, fragments: Fragments) -> None:
        shape = self._elements.notes.shape()
        if self._family is None:
            raise NotTranscodableError("its pixel data are compressed, though it says otherwise")
        frames = fragments.frames(self._family, shape)
        if self._compresses and not self._depth:
            self._compress(frames, shape)
            return
        if self._depth and shape.photometric.startswith("YBR") and self._family is not Family.RLE:
            raise NotTranscodableError("the colours of a compressed icon image would change")
        length = shape.frame_bytes * shape.frames
        if length > MAX_PIXEL_BYTES:
            raise NotTranscodableError("its pixels would take more than the 4 GiB that DICOM knows")
        self.pixels.begin(shape)
        self._out.header(
            PIXEL_DATA, b"OW" if shape.bits_allocated > 8 else b"OB", length + length % 2
        )
        written = 0
        for frame in frames:
            self.pixels.feed(frame)
            self._out.value(by_plane(frame, shape) if shape.by_plane else frame)
            written += len(frame)
        if written != length:
            raise NotTranscodableError("there are fewer frames than the data set says")
        self._out.value(b"\0" * (length % 2))

    def _compress(self, frames: Iterator[bytes], shape: PixelShape) -> None:
        """Write encapsulated pixel data, a fragment for each frame (PS3.5 section A.4)."""
        self.pixels.begin(shape)
        self._out.header(PIXEL_DATA, b"OB", UNDEFINED_LENGTH)
        self._out.item(0)
        count = 0
        for frame in frames:
            self.pixels.feed(frame)
            stream = encode_frame(frame, self._target, shape)
            self._out.item(len(stream))
            self._out.value(stream)
            count += 1
        if count != shape.frames:
            raise NotTranscodableError("there are fewer frames than the data set says")
        self._out.end_sequence()
        self._pixels_written = True

    def _vr(self, tag: int, vr: bytes) -> bytes:
        """Return the VR to write: the one that stands, else that of PS3.6, else UN."""
        if vr:
            return vr if vr in HEADER_SIZES else b"UN"
        known = _dictionary_vr(tag)
        if known == "US or SS":
            return b"SS" if self._elements.notes.is_signed() else b"US"
        if known == "OB or OW" and tag == PIXEL_DATA:
            return b"OW" if self._elements.notes.number(BITS_ALLOCATED) != 8 else b"OB"
        if " or " in known:
            return b"OW"
        return known.encode("ascii")

    def _is_sequence(self, tag: int, vr: bytes, start: int, end: int) -> bool:
        """Say whether a value in implicit VR is a sequence by PS3.6, and reads as one."""
        if vr or _dictionary_vr(tag) != "SQ":
            return False
        walker = self._walker
        answer, walker.allowance = is_item_list(self._source, start, end, walker.allowance)
        return answer


def _dictionary_vr(tag: int) -> str:
    """Return the VR of PS3.6; LO for private creators (PS3.5 section 7.8.1), UN if unknown."""
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"
