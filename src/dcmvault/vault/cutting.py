"""Taking a file apart: which ranges are stored apart from its skeleton (format page, 8).

Nothing is decoded here, and nothing is refused: what is not understood is cut as bytes. The
skeleton is what lies between the cuts, so any choice of cuts gives the file back.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

from dcmvault.dicom.byte_source import ByteSource
from dcmvault.dicom.file_meta import FileMeta, read_file_meta
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import InstanceHeader
from dcmvault.vault import top_level
from dcmvault.vault.shape import Cut, CutFile, CutKind, PixelAttributes
from dcmvault.vault.top_level import Pixels, Span, TopLevel, walk

#: Fragments and bytes that are no value stay with the skeleton if they are fewer.
MIN_BYTES = 4096
#: Native pixel data and frames of fewer bytes gain nothing by a place of their own.
MIN_FRAME_BYTES = 1024
#: So do compressed frames.
MIN_STREAM_BYTES = 256
#: Fragments of one frame that are put together to one stream, and their bytes, at most.
MAX_JOINED = 1024
MAX_JOINED_BYTES = 32 << 20
#: No run of the skeleton is longer.
MAX_RUN_BYTES = 1 << 20
#: Pieces of values have at most as many bytes.
MAX_PIECE_BYTES = 4 << 20
#: Larger frames are coded in strips of rows ...
MAX_FRAME_BYTES = 16 << 20
#: ... of at most as many bytes (one row at least).
MAX_STRIP_BYTES = 8 << 20

#: GE's private syntax: implicit VR little endian, but pixels big endian.
_GE_PRIVATE = "1.2.840.113619.5.2"
#: Bits Allocated of (7FE0,0008) and (7FE0,0009), PS3.3 C.7.6.24 and C.7.6.25.
_FLOAT_BITS = {0x7FE00008: 32, 0x7FE00009: 64}
_MAX_SAMPLES = 4


class Piece(NamedTuple):
    """What becomes one blob: a range of the file and, if it holds samples, their shape."""

    start: int
    end: int
    #: 0 where the bytes have no shape.
    columns: int = 0
    rows: int = 0
    samples: int = 0
    sample_bytes: int = 0
    #: Whether the samples stand plane after plane.
    planar: bool = False


def cut(source: ByteSource, header: InstanceHeader | None) -> CutFile:
    """Say which ranges of a file are stored apart, reading little more than its element headers.

    `header` is what the scanner found in the same bytes, None for an opaque file. Memory does not
    depend on the file's size, except for the number of its fragments. Raises only OSError.
    """
    size = source.size
    if header is None:
        return CutFile(tuple(_bytes(Span(0, size))))
    try:
        meta = read_file_meta(source)
    except MalformedDicomError:
        return CutFile(tuple(_bytes(Span(0, size))))
    if meta.deflated:
        return CutFile(tuple(_bytes(Span(meta.data_set_start, size))), meta.transfer_syntax_uid)
    end = min(max(header.data_set_end, meta.data_set_start), size)
    found = walk(source, meta.encoding, meta.data_set_start, end)
    pixels = _attributes(found, big_endian=meta.encoding.big_endian)
    cuts = [one for span in found.values for one in _bytes(span)]
    if found.pixels is not None and found.pixels.fragments is not None:
        cuts += _streams(found.pixels, found.pixels.fragments, pixels)
    elif found.pixels is not None:
        cuts += _frames(found.pixels, pixels, meta, _photometric(found))
    cuts += _bytes(Span(found.end, size))
    cuts.sort(key=_start_of)
    return CutFile(
        _without_long_runs(cuts, found.sequences, size), meta.transfer_syntax_uid, pixels
    )


def pieces(one: Cut, pixels: PixelAttributes | None) -> Iterator[Piece]:
    """Divide a cut into what becomes one blob each, in the order of the file.

    Frames stay whole up to MAX_FRAME_BYTES; larger ones are divided into strips of rows, plane by
    plane where their planes stand apart. Everything else, streams too where they are stored as
    they stand, is divided into pieces of at most MAX_PIECE_BYTES.
    """
    if one.kind is not CutKind.FRAMES or pixels is None:
        for start in range(one.start, one.end, MAX_PIECE_BYTES):
            yield Piece(start, min(start + MAX_PIECE_BYTES, one.end))
        return
    columns, rows, samples = pixels.columns, pixels.rows, pixels.samples_per_pixel
    planar = pixels.planar_configuration == 1 and samples > 1
    width = pixels.bits_allocated // 8
    whole = one.frame_bytes <= MAX_FRAME_BYTES
    strips = [] if whole else list(_strips(one, pixels, planar=planar))
    for start in range(one.start, one.end, one.frame_bytes):
        if whole:
            yield Piece(start, start + one.frame_bytes, columns, rows, samples, width, planar)
        for strip in strips:
            yield strip._replace(start=start + strip.start, end=start + strip.end)


def _strips(one: Cut, pixels: PixelAttributes, *, planar: bool) -> Iterator[Piece]:
    """Divide one large frame; positions count from its beginning."""
    columns, rows, width = pixels.columns, pixels.rows, pixels.bits_allocated // 8
    planes, samples = (pixels.samples_per_pixel, 1) if planar else (1, pixels.samples_per_pixel)
    row_bytes = one.frame_bytes // (planes * rows)
    step = max(MAX_STRIP_BYTES // row_bytes, 1)
    # Words whose bytes are swapped must not be divided between strips.
    step += -step % one.swap
    for plane in range(planes):
        for row in range(0, rows, step):
            count = min(step, rows - row)
            start = (plane * rows + row) * row_bytes
            yield Piece(start, start + count * row_bytes, columns, count, samples, width)


def _bytes(span: Span) -> Iterator[Cut]:
    """Cut a range as bytes, unless it is too small for that."""
    if span.end - span.start >= MIN_BYTES:
        yield Cut(span.start, span.end, CutKind.BYTES)


def _streams(
    pixels: Pixels, fragments: tuple[Span, ...], attributes: PixelAttributes
) -> Iterator[Cut]:
    """Cut fragments; each is one frame where there are as many as frames, or all are one."""
    if pixels.whole and len(fragments) == attributes.number_of_frames:
        for span in fragments:
            if span.end - span.start >= MIN_STREAM_BYTES:
                yield Cut(span.start, span.end, CutKind.STREAM)
        return
    filled = [span for span in fragments if span.end > span.start]
    joinable = len(filled) <= MAX_JOINED and sum(b - a for a, b in filled) <= MAX_JOINED_BYTES
    if pixels.whole and attributes.number_of_frames == 1 and joinable:
        for number, span in enumerate(filled):
            yield Cut(span.start, span.end, CutKind.MORE if number else CutKind.STREAM)
        return
    for span in fragments:
        yield from _bytes(span)


def _frames(
    pixels: Pixels, attributes: PixelAttributes, meta: FileMeta, photometric: bytes
) -> Iterator[Cut]:
    """Cut native pixel data into frames where the attributes say how."""
    start, end = pixels.value
    bits = _FLOAT_BITS.get(pixels.tag, attributes.bits_allocated)
    columns, rows, samples = attributes.columns, attributes.rows, attributes.samples_per_pixel
    frame_bytes = columns * rows * samples * bits // 8
    swap = _swap(pixels, meta, bits)
    frames = (end - start) // frame_bytes if frame_bytes else 0
    sound = (
        frames > 0
        and bits == attributes.bits_allocated
        and bits in (8, 16, 32, 64)
        and samples <= _MAX_SAMPLES
        # Subsampled colour (PS3.3 C.7.6.3.1.2) has fewer samples than the attributes say.
        and b"_42" not in photometric
        and frame_bytes >= MIN_FRAME_BYTES
        and frame_bytes % swap == 0
    )
    if not sound:
        yield from _bytes(pixels.value)
        return
    rest = start + frames * frame_bytes
    yield Cut(start, rest, CutKind.FRAMES, frame_bytes, swap)
    yield from _bytes(Span(rest, end))


def _swap(pixels: Pixels, meta: FileMeta, bits: int) -> int:
    """Return the width of the words whose bytes must be reversed to get little endian samples."""
    if meta.transfer_syntax_uid != _GE_PRIVATE and not meta.encoding.big_endian:
        return 1
    if bits <= 8:
        # PS3.5 A.3: bytes travel in words of two, unless the VR says that they do not.
        return 2 if pixels.vr == b"OW" else 1
    return bits // 8


def _attributes(found: TopLevel, *, big_endian: bool) -> PixelAttributes:
    """Read the attributes that the codecs need; 0 for what is not there."""

    def number(tag: int) -> int:
        value = found.attributes.get(tag, b"")[:2]
        return int.from_bytes(value, "big" if big_endian else "little")

    frames = found.attributes.get(top_level.NUMBER_OF_FRAMES, b"").strip(b"\0 ")
    return PixelAttributes(
        columns=number(top_level.COLUMNS),
        rows=number(top_level.ROWS),
        samples_per_pixel=number(top_level.SAMPLES_PER_PIXEL),
        bits_allocated=number(top_level.BITS_ALLOCATED),
        bits_stored=number(top_level.BITS_STORED),
        pixel_representation=number(top_level.PIXEL_REPRESENTATION),
        planar_configuration=number(top_level.PLANAR_CONFIGURATION),
        number_of_frames=int(frames) if frames.isdigit() else 1,
    )


def _photometric(found: TopLevel) -> bytes:
    return found.attributes.get(top_level.PHOTOMETRIC_INTERPRETATION, b"")


def _without_long_runs(cuts: list[Cut], sequences: list[Span], size: int) -> tuple[Cut, ...]:
    """Add cuts until no run of the skeleton is longer than MAX_RUN_BYTES.

    Large sequences go first: what is around them stays with the headers of other files.
    """
    for run in _long_runs(cuts, size):
        cuts += [
            Cut(span.start, span.end, CutKind.BYTES)
            for span in sequences
            if run.start <= span.start and span.end <= run.end
        ]
    cuts.sort(key=_start_of)
    cuts += [Cut(run.start, run.end, CutKind.BYTES) for run in _long_runs(cuts, size)]
    cuts.sort(key=_start_of)
    return tuple(cuts)


def _long_runs(cuts: list[Cut], size: int) -> list[Span]:
    """List the runs between cuts that are longer than MAX_RUN_BYTES."""
    starts = [0, *(one.end for one in cuts)]
    ends = [*(one.start for one in cuts), size]
    return [
        Span(start, end)
        for start, end in zip(starts, ends, strict=True)
        if end - start > MAX_RUN_BYTES
    ]


_start_of = itemgetter(0)
