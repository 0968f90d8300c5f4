"""Frames decoded and encoded, one at a time: compressed bytes to samples and back.

Samples are always little endian, colour by pixel, in the bits that are allocated. Decoders are
chosen by correctness: libjpeg-turbo for JPEG (it conceals damage, so a second reader looks, too),
CharLS for JPEG-LS, OpenJPEG for JPEG 2000. None converts colours.
"""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
from jpeg_ls.CharLS import encode_buffer
from numpy.typing import NDArray

from dcmvault.dicom.codestreams import (
    StreamHeader,
    jpeg_2000_codestream,
    read_jpeg_2000_header,
    read_jpeg_header,
)
from dcmvault.dicom.pixel_shape import MAX_FRAME_BYTES, PixelShape
from dcmvault.dicom.transfer_syntaxes import (
    JPEG_2000_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    Family,
    NotTranscodableError,
)

#: What the codecs raise: their own errors are RuntimeError.
_CODEC_ERRORS = (RuntimeError, ValueError, TypeError, MemoryError, OverflowError)
_RLE_HEADER = struct.Struct("<16I")
#: 2 bytes stand for at most 128 (PS3.5 section G.3).
_RLE_RATIO = 64
_Words = NDArray[Any]


def decode_frame(data: bytes, family: Family, shape: PixelShape) -> bytes:
    """Return the samples of one compressed frame: exactly `shape.frame_bytes`.

    Raises NotTranscodableError for what is damaged, cut off, too large to be decoded as a whole,
    or not what the data set says.
    """
    if shape.bits_allocated not in (8, 16, 32) or not shape.frame_bytes:
        raise NotTranscodableError(f"samples of {shape.bits_allocated} bits cannot be decoded")
    if shape.frame_bytes > MAX_FRAME_BYTES:
        raise NotTranscodableError(
            f"a frame has more than the {MAX_FRAME_BYTES} bytes that are decoded at once"
        )
    try:
        if family is Family.RLE:
            return _decode_rle(data, shape)
        if family is Family.JPEG_2000:
            words, header = _decode_jpeg_2000(data, shape)
        elif family is Family.JPEG_LS:
            header = read_jpeg_header(data)
            _check_header(header, shape)
            words = imagecodecs.jpegls_decode(data)
        else:
            words, header = _decode_jpeg(data, shape)
    except _CODEC_ERRORS as error:
        raise NotTranscodableError("a frame of its pixel data cannot be decoded") from error
    if words.size != shape.rows * shape.columns * shape.samples:
        raise NotTranscodableError("a frame is not as large as the data set says")
    return _in_allocated_bits(words, header, shape)


def _check_header(header: StreamHeader, shape: PixelShape) -> None:
    """See that the frame is what the data set says, before memory is spent on it."""
    said = (shape.rows, shape.columns, shape.samples)
    if (header.rows, header.columns, header.samples) != said:
        raise NotTranscodableError("a frame is not as large as the data set says")
    if header.precision > min(shape.bits_allocated, 16):
        raise NotTranscodableError("a frame has more bits than the data set allocates")


def _decode_jpeg(data: bytes, shape: PixelShape) -> tuple[_Words, StreamHeader]:
    header = read_jpeg_header(data)
    _check_header(header, shape)
    colours = "GRAYSCALE" if header.samples == 1 else "YCBCR"
    # Named alike on both sides, so that nothing is converted.
    words = imagecodecs.jpeg8_decode(data, colorspace=colours, outcolorspace=colours)
    if header.lossless_process:
        if not np.array_equal(words, imagecodecs.jpegsof3_decode(data)):
            raise NotTranscodableError("two decoders do not read the same in a JPEG stream")
        return words, header
    if header.colour and header.colour != ("RGB" if shape.photometric == "RGB" else "YCbCr"):
        raise NotTranscodableError(
            f"a JPEG stream says that its colours are {header.colour},"
            f" the data set says {shape.photometric}"
        )
    if header.precision == 8:
        # It reads the stream to the last bit, and fails where libjpeg-turbo conceals.
        imagecodecs.jpegxl_encode_jpeg(data, usecontainer=True, numthreads=1)
    return words, header


def _decode_jpeg_2000(data: bytes, shape: PixelShape) -> tuple[_Words, StreamHeader]:
    codestream = jpeg_2000_codestream(data)
    header = read_jpeg_2000_header(codestream)
    _check_header(header, shape)
    transformed = shape.photometric in ("YBR_RCT", "YBR_ICT")
    if transformed is not bool(header.colour) and (transformed or shape.photometric != "RGB"):
        raise NotTranscodableError(
            "a JPEG 2000 stream and the data set do not agree about its colours"
        )
    return imagecodecs.jpeg2k_decode(codestream, numthreads=1), header


def _in_allocated_bits(words: _Words, header: StreamHeader, shape: PixelShape) -> bytes:
    """Widen samples to the allocated bits; the sign goes with them (two's complement)."""
    width = shape.sample_bytes
    if header.signed and not shape.signed and int(words.min()) < 0:
        raise NotTranscodableError("a frame has negative samples where the data set has none")
    spare = 8 * width - header.precision
    if shape.signed and not header.signed and spare:
        doubtful = header.precision < shape.bits_stored
        if doubtful and int(words.max()) >> (header.precision - 1):
            # Whether its highest bit is a sign, only whoever coded it knows.
            raise NotTranscodableError("a frame has fewer bits than its signed samples")
        raised = words.astype(f"<u{width}") << spare
        return (raised.view(f"<i{width}") >> spare).tobytes()
    kind = "i" if header.signed else "u"
    return words.astype(f"<{kind}{width}", copy=False).tobytes()


def _decode_rle(data: bytes, shape: PixelShape) -> bytes:
    if len(data) * _RLE_RATIO < shape.frame_bytes:
        raise NotTranscodableError("a frame of RLE is cut off")
    if data[:4] != (shape.samples * shape.sample_bytes).to_bytes(4, "little"):
        raise NotTranscodableError("a frame of RLE has not one segment for each byte of a pixel")
    # With a length the decoder fails where there is more, instead of taking memory for it.
    planes: Any = imagecodecs.dicomrle_decode(
        data, f"<u{shape.sample_bytes}", out=shape.frame_bytes
    )
    if len(planes) != shape.frame_bytes:
        raise NotTranscodableError("a frame of RLE is cut off")
    return by_pixel(bytes(planes), shape)


def by_pixel(planes: bytes, shape: PixelShape) -> bytes:
    """Turn colour by plane into colour by pixel."""
    if shape.samples == 1:
        return planes
    words = np.frombuffer(planes, f"V{shape.sample_bytes}")
    return words.reshape(shape.samples, -1).T.tobytes()


def by_plane(pixels: bytes, shape: PixelShape) -> bytes:
    """Turn colour by pixel into colour by plane."""
    words = np.frombuffer(pixels, f"V{shape.sample_bytes}")
    return words.reshape(-1, shape.samples).T.tobytes()


def encode_frame(samples: bytes, transfer_syntax_uid: str, shape: PixelShape) -> bytes:
    """Return a frame for one of COMPRESSED_TARGETS, of even length and without loss.

    The caller decodes and compares. Raises NotTranscodableError for shapes that the coder cannot
    take.
    """
    if shape.bits_allocated not in (8, 16) or shape.samples not in (1, 3):
        raise NotTranscodableError("its samples are none that can be compressed without loss")
    if shape.frame_bytes > MAX_FRAME_BYTES:
        raise NotTranscodableError(
            f"a frame has more than the {MAX_FRAME_BYTES} bytes that are decoded at once"
        )
    words: _Words = np.frombuffer(samples, f"<u{shape.sample_bytes}")
    words = words.reshape(shape.rows, shape.columns, shape.samples)
    if shape.samples == 1:
        words = words[:, :, 0]
    try:
        if transfer_syntax_uid == JPEG_2000_LOSSLESS:
            stream = _encode_jpeg_2000(words, shape)
        elif transfer_syntax_uid == JPEG_LS_LOSSLESS:
            stream = _encode_jpeg_ls(words, shape)
        elif transfer_syntax_uid == JPEG_LOSSLESS_SV1:
            stream = _encode_jpeg_lossless(words, shape)
        else:
            stream = _encode_rle(words, shape)
    except _CODEC_ERRORS as error:
        raise NotTranscodableError("a frame of its pixel data cannot be compressed") from error
    return stream + b"\0" * (len(stream) % 2)


def _low_bits(words: _Words, shape: PixelShape) -> _Words:
    """Cut samples to the stored bits; nothing may stand in the others but the sign."""
    if not 2 <= shape.bits_stored <= shape.bits_allocated:
        raise NotTranscodableError("its samples are none that can be compressed without loss")
    low = words & words.dtype.type((1 << shape.bits_stored) - 1)
    spare = shape.bits_allocated - shape.bits_stored
    back = (low << spare).view(f"<i{shape.sample_bytes}") >> spare if shape.signed else low
    if not np.array_equal(back.view(words.dtype), words):
        raise NotTranscodableError("its samples use more bits than Bits Stored says")
    cut: _Words = low.astype("<u1" if shape.bits_stored <= 8 else "<u2")
    return cut


def _encode_jpeg_2000(words: _Words, shape: PixelShape) -> bytes:
    low = _low_bits(words, shape)
    if shape.signed:
        spare = 8 * low.itemsize - shape.bits_stored
        low = (low << spare).view(f"<i{low.itemsize}") >> spare
    return bytes(
        imagecodecs.jpeg2k_encode(
            np.ascontiguousarray(low),
            level=0,
            codecformat="J2K",
            reversible=True,
            mct=False,
            bitspersample=shape.bits_stored,
            numthreads=1,
        )
    )


def _encode_jpeg_ls(words: _Words, shape: PixelShape) -> bytes:
    interleave = 2 if shape.samples > 1 else 0
    low = _low_bits(words, shape).tobytes()
    made = encode_buffer(
        low, shape.rows, shape.columns, shape.samples, shape.bits_stored, 0, interleave
    )
    return bytes(made)


def _encode_jpeg_lossless(words: _Words, shape: PixelShape) -> bytes:
    """Encode by process 14 with selection value 1.

    Colours always as RGB, which means that nothing transforms them, whatever they are; and all
    components then share a Huffman table: libjpeg-turbo decodes others wrongly.
    """
    colours = "GRAYSCALE" if shape.samples == 1 else "RGB"
    return bytes(
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(_low_bits(words, shape)),
            lossless=True,
            predictor=1,
            bitspersample=shape.bits_stored,
            colorspace=colours,
            outcolorspace=colours,
            subsampling="444",
        )
    )


def _encode_rle(words: _Words, shape: PixelShape) -> bytes:
    """Encode by PS3.5 Annex G: a segment for each byte of a pixel, the highest first."""
    planes = words.reshape(shape.rows, shape.columns, shape.samples, 1).view("u1")
    segments: list[bytes] = []
    for sample in range(shape.samples):
        for byte in reversed(range(shape.sample_bytes)):
            plane = np.ascontiguousarray(planes[:, :, sample, byte])
            # Row by row, as G.3.1 wants it.
            packed = b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in plane)
            segments.append(packed + b"\0" * (len(packed) % 2))
    offsets, at = [], _RLE_HEADER.size
    for segment in segments:
        offsets.append(at)
        at += len(segment)
    head = _RLE_HEADER.pack(len(segments), *offsets, *(0,) * (15 - len(segments)))
    return head + b"".join(segments)
