"""Encoding 3: samples of frames as lossless JPEG XL (format page, 7).

Whatever the samples mean, all bits that are allocated are coded, so overlay bits and sign
extension come back. What cannot be coded so, or gains nothing by it, is encoded as bytes.
"""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.codec_bytes import encode_bytes
from dcmvault.vault.profile import Profile

IMAGE = 3

_CODESTREAM = b"\xff\x0a"
#: How a file begins that has a codestream in a box, and how a box does: length, kind.
_FILE = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_BOX = struct.Struct(">I4s")
#: Encoding, bytes per sample, flags, base, columns, rows, samples per pixel, 0.
_HEAD = struct.Struct("<BBBHIIBB")
_SIGN, _PLANAR = 1, 2
#: Content that shrinks to less than one part in this many is often smaller as Zstandard yet,
#: and then takes it hardly any time to find out.
_WORTH_ANOTHER_TRY = 20

#: What libjxl's wrapper raises: its own errors are RuntimeError.
_CODEC_ERRORS = (RuntimeError, ValueError, TypeError, MemoryError)

_Samples = NDArray[Any]


def encode_samples(
    content: bytes | memoryview,
    *,
    columns: int,
    rows: int,
    samples: int,
    sample_bytes: int,
    signed: bool,
    planar: bool,
    profile: Profile,
) -> bytes:
    """Encode a frame, or a strip of its rows, little endian as native Pixel Data has it.

    Any content of any shape is taken: where JPEG XL cannot code it, or does not give exactly
    it back, it is encoded as bytes. `signed` is a hint. Safe for several threads; releases the
    interpreter lock while it works. Encoding takes up to 16 times the content's bytes of memory,
    180 MiB at most with frames of 16 MiB.
    """
    expected = columns * rows * samples * sample_bytes
    by_image = b""
    if (
        sample_bytes in (1, 2)
        and samples in (1, 3)
        and min(columns, rows) > 0
        and len(content) == expected >= profile.least_image_bytes
    ):
        shape = (3, rows, columns) if planar and samples == 3 else (rows, columns, samples)
        frame = np.frombuffer(content, f"<u{sample_bytes}").reshape(shape)
        frame = np.require(frame, requirements="A")
        by_image = _encode(frame, profile, signed=signed, planar=planar and samples == 3)
    if by_image and len(by_image) * _WORTH_ANOTHER_TRY > len(content):
        return by_image if len(by_image) < len(content) else encode_bytes(content, profile)
    as_bytes = encode_bytes(content, profile, width=max(sample_bytes, 1))
    return by_image if 0 < len(by_image) <= len(as_bytes) else as_bytes


def decode_samples(encoding: memoryview, content_length: int) -> bytes:
    """Decode encoding 3; VaultDamagedError for damage, and for any other length."""
    return _decode(encoding, content_length).tobytes()


def _encode(frame: _Samples, profile: Profile, *, signed: bool, planar: bool) -> bytes:
    """Encode a frame and see that it comes back; empty if it does not."""
    sample_bits = frame.itemsize * 8
    sign_bit = 1 << (sample_bits - 1)
    signed, low, high = _range(frame, sample_bits, signed=signed)
    # Inverting the highest bit is adding it, so base and sign are one number to subtract.
    offset = low % (1 << sample_bits)
    base = (offset ^ sign_bit) if signed else offset
    image = frame - frame.dtype.type(offset) if offset else frame
    if planar:
        image = np.ascontiguousarray(image.transpose(1, 2, 0))
    samples = image.shape[2]
    # Nine bits at least where a sample has two bytes: decoders then give two bytes again.
    bits = max((high - low).bit_length(), sample_bits - 7 if sample_bits == 16 else 1)
    try:
        codestream = imagecodecs.jpegxl_encode(
            image if samples == 3 else image[:, :, 0],
            effort=profile.image_effort,
            lossless=True,
            photometric="RGB" if samples == 3 else "GRAY",
            planar=False,
            bitspersample=bits,
            usecontainer=False,
            numthreads=1,
        )
    except _CODEC_ERRORS:
        return b""
    flags = (_SIGN if signed else 0) | (_PLANAR if planar else 0)
    rows, columns = image.shape[:2]
    head = _HEAD.pack(IMAGE, frame.itemsize, flags, base, columns, rows, samples, 0)
    encoding = head + _bare(bytes(codestream))
    try:
        back = _decode(memoryview(encoding), frame.nbytes)
    except VaultDamagedError:
        return b""
    return encoding if np.array_equal(back, frame) else b""


def _bare(image: bytes) -> bytes:
    """Take a codestream out of its file (ISO/IEC 18181-2).

    Samples of more than 12 bits come in one, whatever is asked for: only a file can say that they
    need a decoder of level 10. Whoever decodes learns it from the codestream itself.
    """
    if not image.startswith(_FILE):
        return image
    codestream = b""
    at = 0
    while at < len(image):
        length, kind = _BOX.unpack_from(image, at)
        begin, end = at + _BOX.size, at + length
        if length == 1:  # the length follows, in eight bytes
            begin, end = begin + 8, at + int.from_bytes(image[begin : begin + 8], "big")
        elif length == 0:  # the last box, to the end
            end = len(image)
        if kind == b"jxlc":
            codestream = image[begin:end]
        elif kind == b"jxlp":  # a number, then a part
            codestream += image[begin + 4 : end]
        at = end
    return codestream


def _range(frame: _Samples, bits: int, *, signed: bool) -> tuple[bool, int, int]:
    """Return whether to read the samples as signed, and the least and the greatest then.

    What the data set says of the sign is not always true: where a range needs all bits, the
    other reading is tried too.
    """
    readings = (frame.view(f"<i{bits // 8}"), frame)
    seen = readings[0] if signed else readings[1]
    low, high = int(seen.min()), int(seen.max())
    if (high - low).bit_length() < bits:
        return signed, low, high
    other = readings[1] if signed else readings[0]
    other_low, other_high = int(other.min()), int(other.max())
    if other_high - other_low < high - low:
        return not signed, other_low, other_high
    return signed, low, high


def _decode(encoding: memoryview, content_length: int) -> _Samples:
    """Decode to an array whose elements, in C order, are the content."""
    if len(encoding) < _HEAD.size + len(_CODESTREAM):
        raise VaultDamagedError("an image in the vault is cut off")
    _, sample_bytes, flags, base, columns, rows, samples, _ = _HEAD.unpack_from(encoding)
    codestream = encoding[_HEAD.size :]
    sound = (
        sample_bytes in (1, 2)
        and samples in (1, 3)
        and flags <= (_SIGN | _PLANAR if samples == 3 else _SIGN)
        and base < 1 << 8 * sample_bytes
        # Before any memory is spent: no image is larger than its content.
        and columns * rows * samples * sample_bytes == content_length > 0
        and codestream[:2] == _CODESTREAM
    )
    if not sound:
        raise VaultDamagedError("an image in the vault does not have the shape that it should have")
    dtype: np.dtype[Any] = np.dtype(f"=u{sample_bytes}")
    shape = (rows, columns, 3) if samples == 3 else (rows, columns)
    image = np.empty(shape, dtype)
    try:
        # The decoder refuses a codestream of any other shape before it decodes it.
        imagecodecs.jpegxl_decode(
            codestream,  # type: ignore[arg-type]  # any buffer will do
            index=0,
            numthreads=1,
            out=image,
        )
    except _CODEC_ERRORS as error:
        raise VaultDamagedError("an image in the vault does not decode") from error
    offset = base ^ (1 << (8 * sample_bytes - 1)) if flags & _SIGN else base
    if offset:
        np.add(image, dtype.type(offset), out=image)
    if samples == 1:
        image = image[:, :, np.newaxis]
    elif flags & _PLANAR:
        image = image.transpose(2, 0, 1)
    return image.astype(dtype.newbyteorder("<"), copy=False)
