"""JPEG lossless streams (ISO/IEC 10918-1, ITU-T T.81 Annex H, process 14) as samples and back.

libjpeg-turbo decodes (by imagecodecs, which releases the interpreter lock); the encoder is here,
because the Huffman tables must be those of the stream.
"""

from __future__ import annotations

import imagecodecs
import numpy as np
import numpy.typing as npt

from dcmvault.vault.recoding.huffman import HuffmanWriter
from dcmvault.vault.recoding.jpeg_markers import (
    EOI,
    JPEG_SCAN_END,
    SOF_LOSSLESS,
    SOI,
    SOS,
    Frame,
    Head,
    NotRecodableError,
    Scan,
    check_shape,
    frame_segment,
    join,
    read_head,
    restart_segment,
    segment,
    shape_of,
    split,
    table_segment,
)
from dcmvault.vault.recoding.sample_words import pixel_words, samples_of
from dcmvault.vault.shape import PixelAttributes, Recoded, StreamShape

_SOI, _EOI = bytes((0xFF, SOI)), bytes((0xFF, EOI))
#: Samples that are encoded at a time: bounds memory.
_BAND_SAMPLES = 1 << 18
#: Each takes a fixed time; real streams have at most one for each row.
_MAX_RESTART_INTERVALS = 8192


def take_apart(stream: bytes, pixels: PixelAttributes) -> Recoded:
    """Return samples and head of a stream (no tail); NotRecodableError if it is none of ours."""
    parts = split(stream, JPEG_SCAN_END)
    head = _read_head(parts.head)
    shape = shape_of(head.frame, pixels)
    decoded = [
        _decode(head.frame, scan, data) for scan, data in zip(head.scans, parts.scans, strict=True)
    ]
    words = decoded[0] if len(decoded) == 1 else np.stack(decoded, axis=-1)
    samples = samples_of(words, shape, signed=pixels.pixel_representation == 1)
    return Recoded("ljpeg", samples, shape, parts.head, b"")


def make(samples: bytes, shape: StreamShape, head: bytes, tail: bytes) -> bytes:
    """Return the stream of these samples; NotRecodableError if the head does not fit them."""
    header = _read_head(head)
    check_shape(header.frame, shape)
    words = pixel_words(samples, shape)
    scans = []
    at = 0
    for scan in header.scans:
        count = len(scan.components)
        scans.append(_encode(words[:, :, at : at + count], shape.precision, scan))
        at += count
    return join(head, header, scans, tail)


def _read_head(data: bytes) -> Head:
    head = read_head(data)
    frame = head.frame
    if frame.marker != SOF_LOSSLESS or head.presets:
        raise NotRecodableError("the stream is no JPEG lossless")
    for scan in head.scans:
        if not 1 <= scan.first <= 7 or scan.second or scan.low >= frame.precision:
            raise NotRecodableError("a scan has no predictor, or an impossible point transform")
        if scan.restart_interval % frame.columns:
            raise NotRecodableError("restart intervals are not whole rows")
        rows_each = scan.restart_interval // frame.columns
        if rows_each and frame.rows > rows_each * _MAX_RESTART_INTERVALS:
            raise NotRecodableError("there are too many restart intervals")
    return head


def _decode(frame: Frame, scan: Scan, data: bytes) -> npt.NDArray[np.generic]:
    """Decode one scan; what else stands in the head never reaches the decoder."""
    count = len(scan.components)
    if len(data) * 8 < frame.rows * frame.columns * count:
        raise NotRecodableError("a scan has less than a bit for each sample")
    selectors = b"".join(bytes((name, number << 4)) for number, name in enumerate(scan.components))
    header = bytes((count,)) + selectors + bytes((scan.first, 0, scan.low))
    tables = [table_segment(number, table) for number, table in enumerate(scan.tables)]
    restart = [restart_segment(scan.restart_interval)] if scan.restart_interval else []
    frame_header = frame_segment(frame._replace(components=scan.components))
    plain = b"".join((_SOI, *tables, *restart, frame_header, segment(SOS, header), data, _EOI))
    # Named alike on both sides, so that nothing is converted.
    colours = "RGB" if count == 3 else "GRAYSCALE"
    try:
        return imagecodecs.jpeg8_decode(plain, colorspace=colours, outcolorspace=colours)
    except (RuntimeError, ValueError) as error:
        raise NotRecodableError("the stream cannot be decoded") from error


def _encode(words: npt.NDArray[np.generic], precision: int, scan: Scan) -> bytes:
    """Return the entropy-coded data of one scan, restart markers included."""
    rows, columns, count = words.shape
    rows_each = scan.restart_interval // columns or rows
    band_rows = max(1, _BAND_SAMPLES // (columns * count))
    writer = HuffmanWriter(scan.tables)
    for number, first in enumerate(range(0, rows, rows_each)):
        if number:
            writer.restart(number - 1)
        last = min(rows, first + rows_each)
        for top in range(first, last, band_rows):
            # The row above is needed for prediction, except at the begin of an interval.
            band = words[max(first, top - 1) : min(last, top + band_rows)].astype(np.int32)
            band >>= scan.low
            predicted = _predict(band, scan.first, 1 << (precision - scan.low - 1))
            differences = band - predicted
            writer.write(differences[min(1, top - first) :])
    return writer.finish()


def _predict(band: npt.NDArray[np.int32], predictor: int, start: int) -> npt.NDArray[np.int32]:
    """Predict a band as an interval begins (T.81 H.1.2.1).

    That is: the first sample from `start`, the first row from the left, the first column from
    above.
    """
    predicted = np.empty_like(band)
    predicted[0, 0] = start
    predicted[0, 1:] = band[0, :-1]
    predicted[1:, 0] = band[:-1, 0]
    left, above, corner = band[1:, :-1], band[:-1, 1:], band[:-1, :-1]
    inner = predicted[1:, 1:]
    if predictor == 1:
        inner[:] = left
    elif predictor == 2:
        inner[:] = above
    elif predictor == 3:
        inner[:] = corner
    elif predictor == 4:
        inner[:] = left + above - corner
    elif predictor == 5:
        inner[:] = left + ((above - corner) >> 1)
    elif predictor == 6:
        inner[:] = above + ((left - corner) >> 1)
    else:
        inner[:] = (left + above) >> 1
    return predicted
