"""What the header of a compressed frame says of it, read before a decoder spends any memory.

JPEG and JPEG-LS: ITU-T T.81 Annex B, T.87 Annex C. JPEG 2000: T.800 Annex A (codestream) and
Annex I (the JP2 file around it).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from dcmvault.dicom.transfer_syntaxes import NotTranscodableError

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SOS, _APP0, _APP14, _SOF_LOSSLESS, _SOF_JPEG_LS = 0xDA, 0xE0, 0xEE, 0xC3, 0xF7
#: Baseline, extended sequential, progressive; lossless; JPEG-LS.
_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2, _SOF_LOSSLESS, _SOF_JPEG_LS})
#: Markers without a length: TEM, RST0 to RST7, SOI.
_BARE = frozenset((0x01, *range(0xD0, 0xD9)))
_CODESTREAM = b"\xff\x4f\xff\x51"
_JP2 = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_COD, _SOT = 0xFF52, 0xFF90
#: A decoder keeps some kilobytes for each tile.
_MAX_TILES = 4096


class StreamHeader(NamedTuple):
    """The frame as its own header has it."""

    rows: int
    columns: int
    samples: int
    precision: int
    #: JPEG 2000 says so; other coders know no sign.
    signed: bool = False
    #: The lossless process of JPEG.
    lossless_process: bool = False
    #: "YCbCr" or "RGB" where JPEG markers say so, "transformed" for JPEG 2000 with its component
    #: transformation; else empty.
    colour: str = ""


def begins_stream(head: bytes) -> bool:
    """Say whether a fragment begins a JPEG, JPEG-LS or JPEG 2000 stream."""
    return head.startswith((_SOI + b"\xff", _CODESTREAM, _JP2))


def read_jpeg_header(stream: bytes) -> StreamHeader:
    """Read a JPEG or JPEG-LS stream up to its first scan; see that it has an end."""
    frame: tuple[int, int, int, int] | None = None
    names, colour, marker_of_frame = b"", "", 0
    scan = len(stream)
    for marker, start, end in _segments(stream):
        body = stream[start:end]
        if marker == _SOS:
            scan = end
            break
        if marker in _FRAME_MARKERS and frame is None and len(body) >= 6:
            frame = struct.unpack_from(">BHHB", body)
            names, marker_of_frame = body[6::3], marker
        elif marker == _APP0 and body[:5] == b"JFIF\0":
            colour = "YCbCr"
        elif marker == _APP14 and body[:5] == b"Adobe" and len(body) >= 12:
            colour = {0: "RGB", 1: "YCbCr"}.get(body[11], "")
    if frame is None:
        raise NotTranscodableError("a JPEG stream says nothing of its size")
    # Neither coding lets the marker stand in its data; in what is before, it may.
    if stream.find(_EOI, scan) < 0:
        raise NotTranscodableError("a JPEG stream is cut off")
    precision, rows, columns, samples = frame
    if names[:3] == b"RGB" and not colour:
        colour = "RGB"
    return StreamHeader(
        rows,
        columns,
        samples,
        precision,
        lossless_process=marker_of_frame == _SOF_LOSSLESS,
        colour=colour if samples == 3 else "",
    )


def _segments(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of marker segments, one behind the other."""
    at = 2 if stream[:2] == _SOI else len(stream)
    while at + 4 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _BARE:
            at += 2
        else:
            end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
            yield marker, at + 4, end
            at = end


def jpeg_2000_codestream(stream: bytes) -> bytes:
    """Return the codestream alone; a JP2 file around it may ask decoders for other colours."""
    if stream[: len(_JP2)] != _JP2:
        return stream
    at = 0
    while at + 8 <= len(stream):
        length, kind = int.from_bytes(stream[at : at + 4], "big"), stream[at + 4 : at + 8]
        head = 8
        if length == 1:
            length, head = int.from_bytes(stream[at + 8 : at + 16], "big"), 16
        if kind == b"jp2c":
            return stream[at + head : at + length if length else len(stream)]
        if length < head:
            break
        at += length
    raise NotTranscodableError("a JPEG 2000 file has no codestream")


def read_jpeg_2000_header(codestream: bytes) -> StreamHeader:
    """Read SIZ and COD of a codestream (T.800 A.5.1, A.6.1)."""
    if codestream[:4] != _CODESTREAM or len(codestream) < 45:
        raise NotTranscodableError("a JPEG 2000 stream does not begin as one")
    right, low, left, top, tile_width, tile_height, tile_x, tile_y, samples = struct.unpack_from(
        ">8IH", codestream, 8
    )
    components = codestream[42 : 42 + 3 * samples]
    depths = set(components[0::3])
    if (
        not samples
        or len(components) < 3 * samples
        or len(depths) != 1
        or set(components[1::3]) | set(components[2::3]) != {1}
    ):
        raise NotTranscodableError("the components of a JPEG 2000 stream differ in kind")
    (depth,) = depths
    columns, rows = right - left, low - top
    if min(tile_width, tile_height, columns, rows) < 1:
        raise NotTranscodableError("a JPEG 2000 stream says nothing of its size")
    tiles = -(-(right - tile_x) // tile_width) * -(-(low - tile_y) // tile_height)
    if tiles > _MAX_TILES:
        raise NotTranscodableError("a JPEG 2000 stream has too many tiles")
    transformed = samples > 1 and _has_transformation(codestream)
    return StreamHeader(
        rows,
        columns,
        samples,
        (depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
        colour="transformed" if transformed else "",
    )


def _has_transformation(codestream: bytes) -> bool:
    """Say whether the main header's COD asks for a multiple component transformation."""
    at = 2
    while at + 4 <= len(codestream):
        marker, length = struct.unpack_from(">HH", codestream, at)
        if marker == _COD:
            return codestream[at + 8 : at + 9] == b"\x01"
        if marker == _SOT or length < 2:
            break
        at += 2 + length
    return False
