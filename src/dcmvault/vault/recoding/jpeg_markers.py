"""Marker segments of JPEG and JPEG-LS streams: what stands around the entropy-coded data.

ITU-T T.81 Annex B, T.87 Annex C. Only what a lossless stream of one frame may have is read;
anything else makes the stream one that is kept as it is.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from dcmvault.vault.shape import PixelAttributes, StreamShape

SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
SOF_LOSSLESS, SOF_JPEG_LS = 0xC3, 0xF7
_DHT, _DRI, _LSE, _COM = 0xC4, 0xDD, 0xF8, 0xFE
_APPLICATION = range(0xE0, 0xF0)

#: Head and tail may each have so much: they are stored with the headers, which are small.
MAX_FRAMING_BYTES = 256 << 10

#: Where entropy-coded data ends. T.81: FF is followed by 00, but for restart markers.
JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)
#: T.87: after FF the next bit is 0.
JPEG_LS_SCAN_END = re.compile(rb"\xff[\x80-\xff]", re.DOTALL)


class NotRecodableError(Exception):
    """The stream is none that can be made again from its samples; the message says why."""


class Frame(NamedTuple):
    """The frame header (SOFn)."""

    marker: int
    precision: int
    rows: int
    columns: int
    components: tuple[int, ...]  #: their identifiers


class Scan(NamedTuple):
    """A scan header (SOS), with the tables in force where it stands."""

    end: int  #: where the segment ends in the head
    components: tuple[int, ...]  #: identifiers
    #: One for each component: 16 counts of codes, then the symbols (T.81 B.2.4.2); JPEG-LS: empty.
    tables: tuple[bytes, ...]
    first: int  #: Ss: predictor; JPEG-LS: NEAR
    second: int  #: Se: 0; JPEG-LS: interleave mode
    low: int  #: Ah and Al
    restart_interval: int  #: in samples of each component, 0 for none


class Head(NamedTuple):
    """All segments before and between the scans."""

    frame: Frame
    scans: tuple[Scan, ...]
    #: JPEG-LS preset parameters (T.87 C.2.4.1.1): MAXVAL, T1, T2, T3, RESET of each LSE segment.
    presets: tuple[tuple[int, ...], ...]


class Split(NamedTuple):
    """A stream cut into its segments and its entropy-coded data; without what follows them."""

    head: bytes
    scans: tuple[bytes, ...]


def split(stream: bytes, scan_end: re.Pattern[bytes]) -> Split:
    """Cut a stream: the head is what stands before and between the scans.

    What follows the last scan (fill bytes, EOI, padding) is left out.
    """
    pieces: list[bytes] = []
    scans: list[bytes] = []
    at, framing = 0, 0
    while True:
        start = next((end for marker, _, end in _segments(stream, at) if marker == SOS), None)
        if start is None:
            raise NotRecodableError("there is no scan where one must be")
        framing += start - at
        found = scan_end.search(stream, start)
        end = found.start() if found else len(stream)
        if framing > MAX_FRAMING_BYTES or len(scans) == 3:
            raise NotRecodableError("there is too much around the scans")
        pieces.append(stream[at:start])
        scans.append(stream[start:end])
        at = end
        if _marker_at(stream, at)[0] in (EOI, None):
            break
    return Split(b"".join(pieces), tuple(scans))


def read_head(data: bytes) -> Head:
    """Read a head as `split` returns it; NotRecodableError for what is none."""
    frame: Frame | None = None
    scans: list[Scan] = []
    presets: list[tuple[int, ...]] = []
    tables: dict[int, bytes] = {}
    restart_interval = 0
    try:
        for marker, start, end in _segments(data, 0):
            body = data[start:end]
            if marker in (SOF_LOSSLESS, SOF_JPEG_LS) and frame is None:
                frame = _read_frame(marker, body)
            elif marker == SOS and frame is not None:
                scans.append(_read_scan(body, end, frame, tables, restart_interval))
            elif marker == _DHT:
                tables.update(_read_tables(body))
            elif marker == _DRI:
                (restart_interval,) = struct.unpack(">H", body)
            elif marker == _LSE and body[:1] == b"\x01":
                presets.append(struct.unpack(">5H", body[1:]))
            elif marker != _COM and marker not in _APPLICATION:
                raise NotRecodableError("there is a segment that a lossless frame has not")
    except (struct.error, IndexError, KeyError):
        raise NotRecodableError("a segment is too short, or names what is not there") from None
    if frame is None or not scans or scans[-1].end != len(data):
        raise NotRecodableError("the head does not end with a scan header")
    if [name for scan in scans for name in scan.components] != list(frame.components):
        raise NotRecodableError("the scans have not each component once, in order")
    return Head(frame, tuple(scans), tuple(presets))


def join(data: bytes, head: Head, scans: list[bytes], tail: bytes) -> bytes:
    """Put scans behind their headers, and the tail behind all: the inverse of `split`."""
    pieces: list[bytes] = []
    at = 0
    for header, scan in zip(head.scans, scans, strict=True):
        pieces += (data[at : header.end], scan)
        at = header.end
    return b"".join((*pieces, tail))


def shape_of(frame: Frame, pixels: PixelAttributes) -> StreamShape:
    """Return the stream's shape if the data set says the same; checked before any decoding."""
    said = (pixels.columns, pixels.rows, pixels.samples_per_pixel)
    if (frame.columns, frame.rows, len(frame.components)) != said:
        raise NotRecodableError("the frame is not as large as the data set says")
    width = pixels.bits_allocated // 8
    if width > 2 or not 2 <= frame.precision <= 8 * width:
        raise NotRecodableError("the precision does not fit into the allocated bits")
    return StreamShape(*said, width, frame.precision)


def check_shape(frame: Frame, shape: StreamShape) -> None:
    """Raise NotRecodableError unless a head's frame has the recorded shape."""
    said = (shape.columns, shape.rows, shape.samples, shape.precision)
    if (frame.columns, frame.rows, len(frame.components), frame.precision) != said:
        raise NotRecodableError("the head belongs to a frame of another shape")


def segment(marker: int, body: bytes) -> bytes:
    """Write a marker segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def frame_segment(frame: Frame) -> bytes:
    """Write a frame header in which no component is subsampled."""
    body = struct.pack(
        ">BHHB", frame.precision, frame.rows, frame.columns, len(frame.components)
    ) + b"".join(bytes((name, 0x11, 0)) for name in frame.components)
    return segment(frame.marker, body)


def table_segment(number: int, table: bytes) -> bytes:
    """Write a Huffman table (DHT)."""
    return segment(_DHT, bytes((number,)) + table)


def restart_segment(interval: int) -> bytes:
    """Write a restart interval (DRI)."""
    return segment(_DRI, struct.pack(">H", interval))


def _marker_at(data: bytes, at: int) -> tuple[int | None, int]:
    """Return the marker at `at` (None at the end of the data) and where it ends."""
    if at >= len(data) or data[at] != 0xFF:
        return None, at
    while at < len(data) and data[at] == 0xFF:
        at += 1
    return (data[at], at + 1) if at < len(data) else (None, at)


def _segments(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of the bodies of segments; behind an SOS the next follows."""
    if at == 0:
        if data[:2] != bytes((0xFF, SOI)):
            raise NotRecodableError("the stream does not begin with SOI")
        at = 2
    while at < len(data):
        marker, start = _marker_at(data, at)
        if marker is None or start + 2 > len(data):
            raise NotRecodableError("there is no marker where one must be")
        end = start + int.from_bytes(data[start : start + 2], "big")
        if end < start + 2 or end > len(data):
            raise NotRecodableError("a segment is longer than the stream")
        yield marker, start + 2, end
        at = end


def _read_frame(marker: int, body: bytes) -> Frame:
    precision, rows, columns, count = struct.unpack_from(">BHHB", body)
    if count not in (1, 3) or len(body) != 6 + 3 * count:
        raise NotRecodableError("the frame has not one or three components")
    sampling = {body[at + 1] for at in range(6, len(body), 3)}
    # A lone component is never subsampled, whatever factors it names (T.81 A.2.2).
    if (count > 1 and sampling != {0x11}) or not 2 <= precision <= 16 or not rows or not columns:
        raise NotRecodableError("the frame is subsampled, empty or of an odd precision")
    components = tuple(body[at] for at in range(6, len(body), 3))
    if len(set(components)) != count:
        raise NotRecodableError("two components have one identifier")
    return Frame(marker, precision, rows, columns, components)


def _read_scan(
    body: bytes, end: int, frame: Frame, tables: dict[int, bytes], restart_interval: int
) -> Scan:
    count = body[0]
    if len(body) != 4 + 2 * count or count not in (1, len(frame.components)):
        raise NotRecodableError("a scan has not one component or all")
    selectors = body[2 : 1 + 2 * count : 2]
    chosen: tuple[bytes, ...] = (b"",) * count
    if frame.marker == SOF_LOSSLESS:
        chosen = tuple(tables[selector >> 4] for selector in selectors)
    elif any(selectors):
        raise NotRecodableError("a mapping table stands between samples and values")
    first, second, low = body[1 + 2 * count :]
    names = tuple(body[1 : 1 + 2 * count : 2])
    return Scan(end, names, chosen, first, second, low, restart_interval)


def _read_tables(body: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(body):
        end = at + 17 + sum(body[at + 1 : at + 17])
        if end > len(body):
            raise NotRecodableError("a Huffman table is longer than its segment")
        found[body[at]] = body[at + 1 : end]
        at = end
    return found
