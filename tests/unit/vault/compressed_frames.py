"""Compressed frames made from nothing, for the tests of recoding."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
from jpeg_ls.CharLS import encode_buffer

from dcmvault.vault.recoding import rebuild, recode
from dcmvault.vault.recoding.jpeg_markers import (
    EOI,
    SOF_LOSSLESS,
    SOI,
    SOS,
    Frame,
    frame_segment,
    restart_segment,
    segment,
    table_segment,
)
from dcmvault.vault.shape import PixelAttributes, Recoded, StreamShape

JLS, JLS_NEAR = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
LJPEG, LJPEG_SV1 = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
RLE = "1.2.840.10008.1.2.5"

#: 17 codes of five bits: all categories.
ALL_CATEGORIES = bytes((0, 0, 0, 0, 17, *[0] * 11)) + bytes(range(17))
#: Codes of 1 to 16 bits.
LONG_CODES = bytes([1] * 16) + bytes((5, 4, 6, 3, 7, 2, 8, 1, 9, 0, 10, 11, 12, 13, 14, 15))


def picture(rows: int, columns: int, count: int, precision: int) -> npt.NDArray[np.uint16]:
    """Smooth with noise, and a flat corner; uses the whole range."""
    made = np.random.default_rng(precision * 100 + count)
    y, x, c = np.mgrid[:rows, :columns, :count]
    top = (1 << precision) - 1
    values = (x * top // columns + y * 3 + c * 7 + made.integers(0, 9, x.shape)) & top
    values[: rows // 2, : columns // 3] = top
    made_words: npt.NDArray[np.uint16] = values.astype(np.uint16)
    return made_words


def attributes(
    shape: tuple[int, int, int], allocated: int, *, stored: int = 0, signed: int = 0
) -> PixelAttributes:
    rows, columns, count = shape
    return PixelAttributes(columns, rows, count, allocated, stored or allocated, signed, 0, 1)


def jls_stream(words: npt.NDArray[np.uint16], precision: int, mode: int = 0) -> bytes:
    rows, columns, count = words.shape
    narrow = words.astype("<u1" if precision <= 8 else "<u2")
    planes = narrow.transpose(2, 0, 1) if mode == 0 else narrow
    return bytes(encode_buffer(planes.tobytes(), rows, columns, count, precision, 0, mode))


def ljpeg_stream(
    words: npt.NDArray[np.uint16],
    precision: int,
    *,
    predictor: int = 1,
    shift: int = 0,
    restart_rows: int = 0,
    tables: tuple[bytes, ...] = (ALL_CATEGORIES,),
    separate: bool = False,
) -> bytes:
    """Our own encoder; `check_decoded` has libjpeg's opinion of it."""
    rows, columns, count = words.shape
    frame = Frame(SOF_LOSSLESS, precision, rows, columns, tuple(range(1, count + 1)))
    head = bytes((0xFF, SOI)) + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
    for number, table in enumerate(tables):
        head += table_segment(number, table)
    if restart_rows:
        head += restart_segment(restart_rows * columns)
    head += frame_segment(frame)
    selectors = [
        bytes((name, min(at, len(tables) - 1) << 4)) for at, name in enumerate(frame.components)
    ]
    end = bytes((predictor, 0, shift))
    if separate:
        for selector in selectors:
            head += segment(SOS, b"\x01" + selector + end)
    else:
        head += segment(SOS, bytes((count,)) + b"".join(selectors) + end)
    width = 1 if precision <= 8 else 2
    shape = StreamShape(columns, rows, count, width, precision)
    samples = words.astype(f"<u{width}").tobytes()
    return rebuild("ljpeg", samples, shape, head, bytes((0xFF, EOI)))


def recoded(stream: bytes, syntax: str, pixels: PixelAttributes) -> Recoded:
    """Recode, and see for ourselves that it can be undone."""
    found = recode(stream, syntax, pixels)
    assert found is not None
    assert rebuild(found.kind, found.samples, found.shape, found.head, found.tail) == stream
    return found


def rle_stream(segments: list[bytes], order: list[int] | None = None) -> bytes:
    """A frame whose segments lie in some order in the file."""
    order = order or list(range(len(segments)))
    offsets, at = [0] * 15, 64
    for number in order:
        offsets[number] = at
        at += len(segments[number])
    body = b"".join(segments[number] for number in order)
    return struct.pack("<16I", len(segments), *offsets) + body
