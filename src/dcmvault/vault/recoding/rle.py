"""RLE frames (DICOM PS3.5 Annex G) as samples and control bytes, and back.

An encoder is free to choose its runs. So the control bytes are kept; they compress well, and the
samples are stored once, whatever they came in.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dcmvault.vault.recoding.jpeg_markers import NotRecodableError
from dcmvault.vault.shape import PixelAttributes, Recoded, StreamShape

_Bytes = npt.NDArray[np.uint8]
_Numbers = npt.NDArray[np.int64]
_HEADER = struct.Struct("<16I")
_NUMBER = struct.Struct("<I")
#: What one control byte and its payload take in the stream; 128 stands alone.
_STEPS = tuple(code + 2 if code < 128 else 1 if code == 128 else 2 for code in range(256))
_PAYLOAD = np.array(_STEPS, np.int64) - 1
#: What they stand for in the samples.
_STANDS_FOR = np.array(
    [code + 1 if code < 128 else 0 if code == 128 else 257 - code for code in range(256)], np.int64
)

#: Control bytes that are worked on at a time: bounds memory.
_BLOCK_CODES = 1 << 14


class _Segment(NamedTuple):
    plane: int  #: counted from 0, as the header names it
    start: int
    end: int


def take_apart(stream: bytes, pixels: PixelAttributes) -> Recoded:
    """Return samples and control part of a frame; NotRecodableError if it is none of ours."""
    width, count = pixels.bits_allocated // 8, pixels.samples_per_pixel
    shape = StreamShape(pixels.columns, pixels.rows, count, width, 8 * width)
    size = shape.columns * shape.rows
    # 2 bytes stand for at most 128.
    if len(stream) * 64 < size * count * width:
        raise NotRecodableError("the frame is too short for its samples")
    control = [stream[: _HEADER.size]]
    planes = np.empty((size, count, width), np.uint8)
    for segment in _segments(stream, count * width):
        data = stream[segment.start : segment.end]
        plane, codes, rest = _read_segment(data, size)
        sample, byte = divmod(segment.plane, width)
        planes[:, sample, width - 1 - byte] = plane
        control += (_NUMBER.pack(len(codes)), codes, _NUMBER.pack(len(rest)), rest)
    return Recoded("rle", planes.tobytes(), shape, b"".join(control), b"")


def make(samples: bytes, shape: StreamShape, control: bytes, tail: bytes) -> bytes:
    """Return the frame of these samples; NotRecodableError if the control part does not fit."""
    size, width = shape.columns * shape.rows, shape.sample_bytes
    planes = np.frombuffer(samples, np.uint8).reshape(size, shape.samples, width)
    made = [control[: _HEADER.size]]
    at = _HEADER.size
    for number in _order(control, shape.samples * width):
        codes, at = _part(control, at)
        rest, at = _part(control, at)
        sample, byte = divmod(number, width)
        made += (_write_segment(planes[:, sample, width - 1 - byte], codes), rest)
    if at != len(control):
        raise NotRecodableError("the control part is longer than its segments need")
    return b"".join((*made, tail))


def _order(header: bytes, planes: int) -> list[int]:
    """Return the segments' numbers in the order of their offsets."""
    if len(header) < _HEADER.size:
        raise NotRecodableError("the RLE header is cut short")
    count, *offsets = _HEADER.unpack_from(header)
    if count != planes:
        raise NotRecodableError("there are not as many segments as bytes in a pixel")
    return sorted(range(planes), key=offsets.__getitem__)


def _segments(stream: bytes, planes: int) -> list[_Segment]:
    order = _order(stream, planes)
    offsets = _HEADER.unpack_from(stream)[1:]
    starts = [offsets[number] for number in order]
    ends = [*starts[1:], len(stream)]
    if starts[0] != _HEADER.size or any(
        start > end for start, end in zip(starts, ends, strict=True)
    ):
        raise NotRecodableError("the segments do not lie one behind the other")
    return [_Segment(*row) for row in zip(order, starts, ends, strict=True)]


def _read_segment(data: bytes, size: int) -> tuple[_Bytes, bytes, bytes]:
    """Return the `size` bytes that a segment stands for, its control bytes, and what is behind."""
    plane = np.empty(size, np.uint8)
    control = bytearray()
    view = np.frombuffer(data, np.uint8)
    filled = at = 0
    while filled < size:
        positions: list[int] = []
        while at < len(data) and len(positions) < _BLOCK_CODES:
            positions.append(at)
            at += _STEPS[data[at]]
        where = np.array(positions, np.int64)
        codes = view[where]
        reached = filled + np.cumsum(_STANDS_FOR[codes])
        count = int(np.searchsorted(reached, size)) + 1
        if count <= len(codes):
            codes, where, reached = codes[:count], where[:count], reached[:count]
            at = int(where[-1]) + _STEPS[codes[-1]]
        if not positions or at > len(data) or reached[-1] > size:
            raise NotRecodableError("a segment does not stand for one byte of each sample")
        plane[filled : reached[-1]] = view[_sources(codes, where + 1)]
        filled = int(reached[-1])
        control += codes.tobytes()
    return plane, bytes(control), data[at:]


def _sources(codes: _Bytes, payloads: _Numbers) -> _Numbers:
    """Return where in the segment each byte comes from that the control bytes stand for."""
    lengths = _STANDS_FOR[codes]
    literal = np.repeat((codes < 128).astype(np.int64), lengths)
    return np.repeat(payloads, lengths) + _within(lengths) * literal


def _write_segment(plane: _Bytes, control: bytes) -> bytes:
    """Return the segment of a byte plane under these control bytes."""
    made = []
    filled = 0
    for at in range(0, len(control), _BLOCK_CODES):
        codes = np.frombuffer(control, np.uint8)[at : at + _BLOCK_CODES]
        lengths = _STANDS_FOR[codes]
        reached = filled + np.cumsum(lengths)
        if reached[-1] > len(plane):
            raise NotRecodableError("the control bytes stand for more than there is")
        payload = _PAYLOAD[codes]
        after = np.cumsum(payload + 1)
        block = np.empty(int(after[-1]), np.uint8)
        block[after - payload - 1] = codes
        within = _within(payload)
        target = np.repeat(after - payload, payload) + within
        block[target] = plane[np.repeat(reached - lengths, payload) + within]
        made.append(block.tobytes())
        filled = int(reached[-1])
    if filled != len(plane):
        raise NotRecodableError("the control bytes stand for less than there is")
    return b"".join(made)


def _within(lengths: _Numbers) -> _Numbers:
    """Count from 0 within each of some lengths, one behind the other."""
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1])) - np.repeat(ends - lengths, lengths)


def _part(control: bytes, at: int) -> tuple[bytes, int]:
    """Read a number and as many bytes."""
    if at + _NUMBER.size > len(control):
        raise NotRecodableError("the control part is cut short")
    (length,) = _NUMBER.unpack_from(control, at)
    start, end = at + _NUMBER.size, at + _NUMBER.size + length
    if end > len(control):
        raise NotRecodableError("the control part is cut short")
    return control[start:end], end
