"""JPEG-LS streams (ISO/IEC 14495-1, ITU-T T.87) as samples and back.

Without loss T.87 leaves an encoder no choice but parameters that stand in the stream: the scan
follows from the samples. CharLS decodes (by imagecodecs, which releases the interpreter lock) and
encodes (by pyjpegls, which does not, but takes any precision and interleave mode; it has room for
twice the samples: noise of a few hundred pixels may need more, and is kept as it is).
"""

from __future__ import annotations

import imagecodecs
import numpy as np
import numpy.typing as npt
from jpeg_ls.CharLS import encode_buffer

from dcmvault.vault.recoding.jpeg_markers import (
    EOI,
    JPEG_LS_SCAN_END,
    SOF_JPEG_LS,
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
    segment,
    shape_of,
    split,
)
from dcmvault.vault.recoding.sample_words import pixel_words, samples_of
from dcmvault.vault.shape import PixelAttributes, Recoded, StreamShape

_SOI, _EOI = bytes((0xFF, SOI)), bytes((0xFF, EOI))
_PLANE, _LINE, _SAMPLE = 0, 1, 2


def take_apart(stream: bytes, pixels: PixelAttributes) -> Recoded:
    """Return samples and head of a stream (no tail); NotRecodableError if it is none of ours."""
    parts = split(stream, JPEG_LS_SCAN_END)
    head = _read_head(parts.head)
    shape = shape_of(head.frame, pixels)
    # Even the emptiest line takes a bit.
    if min(map(len, parts.scans)) * 8 < shape.rows:
        raise NotRecodableError("a scan is too short for its lines")
    decoded = [
        _decode(head.frame, scan, data) for scan, data in zip(head.scans, parts.scans, strict=True)
    ]
    words = decoded[0] if len(decoded) == 1 else np.stack(decoded, axis=-1)
    samples = samples_of(words, shape, signed=pixels.pixel_representation == 1)
    return Recoded("jls", samples, shape, parts.head, b"")


def make(samples: bytes, shape: StreamShape, head: bytes, tail: bytes) -> bytes:
    """Return the stream of these samples; NotRecodableError if the head does not fit them."""
    header = _read_head(head)
    check_shape(header.frame, shape)
    words = pixel_words(samples, shape)
    if len(header.scans) == 1:
        scans = [_encode(words, shape.precision, header.scans[0].second)]
    else:
        scans = [
            _encode(words[:, :, number : number + 1], shape.precision, _PLANE)
            for number in range(shape.samples)
        ]
    return join(head, header, scans, tail)


def _read_head(data: bytes) -> Head:
    head = read_head(data)
    if head.frame.marker != SOF_JPEG_LS:
        raise NotRecodableError("the stream is no JPEG-LS")
    default = _default_presets(head.frame.precision)
    for preset in head.presets:
        if any(value not in (0, usual) for value, usual in zip(preset, default, strict=True)):
            raise NotRecodableError("the coding parameters are not the default ones")
    for scan in head.scans:
        # A scan of one component is what it is, whatever the interleave mode that it names.
        interleaved = (_LINE, _SAMPLE) if len(scan.components) > 1 else (_PLANE,)
        if scan.first or scan.low or scan.restart_interval or scan.second not in interleaved:
            raise NotRecodableError("a scan has loss, a point transform or restart intervals")
    return head


def _default_presets(precision: int) -> tuple[int, ...]:
    """MAXVAL, T1, T2, T3 and RESET where no LSE segment says otherwise (T.87 C.2.4.1.1.1)."""
    largest = (1 << precision) - 1
    if largest >= 128:
        factor = (min(largest, 4095) + 128) // 256
        return largest, factor + 2, 4 * factor + 3, 17 * factor + 4, 64
    factor = 256 // (largest + 1)
    first = _clamp(max(2, 3 // factor), 1, largest)
    second = _clamp(max(3, 7 // factor), first, largest)
    third = _clamp(max(4, 21 // factor), second, largest)
    return largest, first, second, third, 64


def _clamp(value: int, low: int, high: int) -> int:
    """T.87's CLAMP, which gives `low` for what is too large, too."""
    return value if low <= value <= high else low


def _decode(frame: Frame, scan: Scan, data: bytes) -> npt.NDArray[np.generic]:
    """Decode one scan; what else stands in the head never reaches the decoder."""
    count = len(scan.components)
    selectors = b"".join(bytes((name, 0)) for name in scan.components)
    header = bytes((count,)) + selectors + bytes((0, scan.second, 0))
    frame_header = frame_segment(frame._replace(components=scan.components))
    plain = b"".join((_SOI, frame_header, segment(SOS, header), data, _EOI))
    try:
        return imagecodecs.jpegls_decode(plain)
    except (RuntimeError, ValueError) as error:
        raise NotRecodableError("the stream cannot be decoded") from error


def _encode(words: npt.NDArray[np.generic], precision: int, mode: int) -> bytes:
    """Return the entropy-coded data of one scan."""
    rows, columns, count = words.shape
    try:
        made = encode_buffer(words.tobytes(), rows, columns, count, precision, 0, mode)
        (scan,) = split(bytes(made), JPEG_LS_SCAN_END).scans
    except (RuntimeError, ValueError) as error:
        raise NotRecodableError("the samples cannot be encoded") from error
    return scan
