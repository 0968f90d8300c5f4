"""What the pixels of an instance look like, as the codecs need to know it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class PixelAttributes(NamedTuple):
    """Attributes of the Image Pixel module (PS3.3 C.7.6.3) as they stand; 0 where absent."""

    columns: int
    rows: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    pixel_representation: int  #: 1: two's complement
    planar_configuration: int  #: 1: plane after plane
    number_of_frames: int  #: 1 where absent


class CutKind(Enum):
    """What lies in a cut."""

    #: Bytes with no structure that helps.
    BYTES = "bytes"
    #: Native frames, one behind the other.
    FRAMES = "frames"
    #: One fragment of encapsulated pixel data that holds one whole frame, or its beginning.
    STREAM = "stream"
    #: A further fragment of the frame before it.
    MORE = "more"


class Cut(NamedTuple):
    """A range of a file that is stored apart from its skeleton."""

    start: int
    end: int
    kind: CutKind
    #: FRAMES: bytes of each frame (`end - start` is a multiple of it); else 0.
    frame_bytes: int = 0
    #: FRAMES: width of the words whose bytes are reversed (big endian), 1 for none.
    swap: int = 1


class CutFile(NamedTuple):
    """A file taken apart: cuts in ascending order, everything between them is skeleton."""

    cuts: tuple[Cut, ...]
    transfer_syntax_uid: str = ""
    pixels: PixelAttributes | None = None


class StreamShape(NamedTuple):
    """The shape that is recorded with a recoded stream (format page, 8)."""

    columns: int
    rows: int
    samples: int
    sample_bytes: int
    precision: int


class Recoded(NamedTuple):
    """A compressed frame as samples and what it takes to make the same stream from them again.

    `samples` has rows x columns x samples x sample_bytes bytes, pixel after pixel, little endian:
    what native Pixel Data of the same instance would hold. For RLE `head` is the control part.
    """

    kind: str  #: "jls", "ljpeg" or "rle"
    samples: bytes
    shape: StreamShape
    head: bytes
    tail: bytes
