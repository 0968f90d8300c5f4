"""What a data set says of the shape of its pixel data, noted while it is walked.

PS3.3 section C.7.6.3 (Image Pixel) and C.7.6.6 (Multi-frame). Images nest: an icon is one.
"""

from __future__ import annotations

from dataclasses import dataclass

from dcmvault.dicom.byte_source import ByteSource
from dcmvault.dicom.nesting import ITEM_END, ITEM_START, VALUE, Event
from dcmvault.dicom.transfer_syntaxes import NotTranscodableError

SAMPLES_PER_PIXEL = 0x00280002
PHOTOMETRIC_INTERPRETATION = 0x00280004
NUMBER_OF_FRAMES = 0x00280008
PLANAR_CONFIGURATION = 0x00280006
PIXEL_REPRESENTATION = 0x00280103
_ROWS, _COLUMNS = 0x00280010, 0x00280011
BITS_ALLOCATED, _BITS_STORED, _HIGH_BIT = 0x00280100, 0x00280101, 0x00280102
_TEXTS = frozenset({PHOTOMETRIC_INTERPRETATION, NUMBER_OF_FRAMES})
_NUMBERS = frozenset(
    {
        SAMPLES_PER_PIXEL,
        PLANAR_CONFIGURATION,
        PIXEL_REPRESENTATION,
        _ROWS,
        _COLUMNS,
        BITS_ALLOCATED,
        _BITS_STORED,
        _HIGH_BIT,
    }
)
#: Decoded bytes of a frame, at most: it is decoded as a whole, and a decoder needs some times that.
MAX_FRAME_BYTES = 128 << 20
#: Each frame has at least a byte, and (7FE0,0010) counts bytes with 32 bits.
_MAX_FRAMES = 0xFFFFFFFF
#: Native pixel data has a length of 32 bits, which is even (PS3.5 section 7.1).
MAX_PIXEL_BYTES = 0xFFFFFFFE


@dataclass(frozen=True, slots=True)
class PixelShape:
    """The shape of one pixel data element."""

    rows: int
    columns: int
    samples: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    #: Colour by plane in native form.
    by_plane: bool
    photometric: str

    @property
    def sample_bytes(self) -> int:
        """Bytes that a sample takes; meaningless for samples of single bits."""
        return self.bits_allocated // 8

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame with all samples, in whole bytes each."""
        return self.rows * self.columns * self.samples * self.sample_bytes

    @property
    def is_plain(self) -> bool:
        """Whether samples are whole numbers of bytes and no colour is subsampled."""
        return (
            self.bits_allocated in (8, 16, 32, 64)
            and self.frame_bytes > 0
            and "422" not in self.photometric
            and "420" not in self.photometric
        )


class ShapeNotes:
    """Notes the image attributes of the data set and of every item that is open."""

    def __init__(self, source: ByteSource, *, big_endian: bool) -> None:
        self._source = source
        self._big_endian = big_endian
        self._levels: list[dict[int, bytes]] = [{}]

    def note(self, event: Event) -> None:
        """Take notice of one event of the walk."""
        kind, tag, vr, start, end = event
        if kind == ITEM_START:
            self._levels.append({})
        elif kind == ITEM_END:
            self._levels.pop()
        elif kind == VALUE and (tag in _NUMBERS or tag in _TEXTS) and end - start <= 64:
            value = self._source.read(start, end - start)
            if tag in _NUMBERS and self._big_endian and vr:
                value = value[::-1]
            self._levels[-1][tag] = value

    def number(self, tag: int, default: int = -1) -> int:
        """Return a US of the innermost item; `default` where it does not stand as one."""
        value = self._levels[-1].get(tag, b"")
        return int.from_bytes(value, "little") if len(value) == 2 else default

    def text(self, tag: int) -> str:
        """Return a text of the innermost item without its padding."""
        return self._levels[-1].get(tag, b"").strip(b"\0 ").decode("ascii", "replace")

    def is_signed(self) -> bool:
        """Say whether samples are signed, by the innermost item or what is around it."""
        for level in reversed(self._levels):
            if PIXEL_REPRESENTATION in level:
                return level[PIXEL_REPRESENTATION][:1] == b"\x01"
        return False

    def shape(self) -> PixelShape:
        """Return the innermost item's image; NotTranscodableError where its size is not said."""
        frames = self.text(NUMBER_OF_FRAMES) or "1"
        allocated = self.number(BITS_ALLOCATED)
        sizes = (self.number(_ROWS), self.number(_COLUMNS), self.number(SAMPLES_PER_PIXEL, 1))
        if min(*sizes, allocated) < 1 or not (frames.isascii() and frames.isdecimal()):
            raise NotTranscodableError("the data set does not say how large its image is")
        if int(frames) > _MAX_FRAMES:
            raise NotTranscodableError("the data set says that it has more frames than fit in one")
        stored = self.number(_BITS_STORED, allocated)
        return PixelShape(
            *sizes,
            frames=max(int(frames), 1),
            bits_allocated=allocated,
            bits_stored=stored,
            high_bit=self.number(_HIGH_BIT, stored - 1),
            signed=self.number(PIXEL_REPRESENTATION, 0) == 1,
            by_plane=self.number(PLANAR_CONFIGURATION, 0) == 1 and sizes[2] > 1,
            photometric=self.text(PHOTOMETRIC_INTERPRETATION),
        )
