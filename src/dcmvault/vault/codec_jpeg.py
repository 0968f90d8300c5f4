"""Encoding 4: JPEG files as JPEG XL from which the very same file comes back (format page, 7).

ISO/IEC 18181-2 prescribes the reconstruction, so a later decoder gives the same bytes.
"""

from __future__ import annotations

import imagecodecs

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.codec_bytes import encode_bytes
from dcmvault.vault.profile import Profile

JPEG = 4

#: Larger images are not recoded: the codec holds all coefficients of an image in memory, which
#: takes 32 bytes for each colour pixel.
_MAX_PIXELS_WRITTEN = 4 << 20
#: Larger images are not read. Some room is left for versions to come.
_MAX_PIXELS_READ = 16 << 20
#: Below this many bytes nothing can be gained.
_MIN_CONTENT = 256
#: Baseline and extended sequential, Huffman coding (ITU-T T.81 table B.1).
_FRAME_HEADERS = (0xC0, 0xC1)
#: Markers without a length: TEM, RST0 to RST7, SOI.
_BARE = frozenset((0x01, *range(0xD0, 0xD9)))
#: What libjxl's wrapper raises: its own errors are RuntimeError.
_CODEC_ERRORS = (RuntimeError, ValueError, TypeError, MemoryError)
_SIGNATURE = b"\x00\x00\x00\x0cJXL \r\n\x87\n"


def encode_jpeg(content: bytes | memoryview, profile: Profile) -> bytes:
    """Encode a JPEG stream by encoding 4, anything else as bytes.

    So is what libjxl does not give back bit for bit (it is tried), or not smaller. Safe for
    several threads; releases the interpreter lock while it works.
    """
    if len(content) >= _MIN_CONTENT and 0 < _pixels_of_jpeg(content) <= _MAX_PIXELS_WRITTEN:
        try:
            encoding = bytes((JPEG,)) + imagecodecs.jpegxl_encode_jpeg(
                content,  # type: ignore[arg-type]  # any buffer will do
                usecontainer=True,
                numthreads=1,
            )
            if len(encoding) < len(content) and _is(encoding, content):
                return encoding
        except _CODEC_ERRORS:
            pass
    return encode_bytes(content, profile)


def decode_jpeg(encoding: memoryview, content_length: int) -> bytes:
    """Decode encoding 4; VaultDamagedError for damage, and for any other length."""
    file = encoding[1:]
    if content_length <= 0 or not 0 < _pixels_of_jpegxl(file) <= _MAX_PIXELS_READ:
        raise VaultDamagedError("a JPEG XL file in the vault does not begin as one")
    try:
        # A buffer of this length that does not grow: more is an error.
        content = imagecodecs.jpegxl_decode_jpeg(
            file,  # type: ignore[arg-type]  # any buffer will do
            numthreads=1,
            out=content_length,
        )
    except _CODEC_ERRORS as error:
        raise VaultDamagedError("a JPEG XL file in the vault does not decode") from error
    if len(content) != content_length:
        raise VaultDamagedError("a JPEG file in the vault has fewer bytes than it should have")
    return bytes(content)


def _is(encoding: bytes, content: bytes | memoryview) -> bool:
    try:
        return decode_jpeg(memoryview(encoding), len(content)) == content
    except VaultDamagedError:
        return False


def _pixels_of_jpeg(stream: bytes | memoryview) -> int:
    """Return rows times columns of a sequential Huffman-coded JPEG stream; 0 for anything else."""
    if stream[:2] != b"\xff\xd8":
        return 0
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in _FRAME_HEADERS:
            return int.from_bytes(stream[at + 5 : at + 7], "big") * int.from_bytes(
                stream[at + 7 : at + 9], "big"
            )
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return 0
        if marker == 0xFF:
            at += 1
        elif marker in _BARE:
            at += 2
        else:
            at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return 0


def _pixels_of_jpegxl(file: memoryview) -> int:
    """Return rows times columns of a JPEG XL file (ISO/IEC 18181-2 chapter 9); 0 for damage."""
    if file[: len(_SIGNATURE)] != _SIGNATURE:
        return 0
    at = len(_SIGNATURE)
    while at + 8 <= len(file):
        length, kind = int.from_bytes(file[at : at + 4], "big"), bytes(file[at + 4 : at + 8])
        head = 8
        if length == 1:
            length, head = int.from_bytes(file[at + 8 : at + 16], "big"), 16
        if kind == b"jxlp":
            head += 4
        if kind in (b"jxlc", b"jxlp"):
            return _pixels_of_codestream(bytes(file[at + head : at + head + 16]))
        if length < head:
            return 0
        at += length
    return 0


def _pixels_of_codestream(head: bytes) -> int:
    """Read the SizeHeader (ISO/IEC 18181-1, D.2): bits from the lowest of each byte on."""
    if head[:2] != b"\xff\x0a" or len(head) < 16:
        return 0
    bits = int.from_bytes(head[2:], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    rows = side()
    ratio = take(3)
    if not ratio:
        return rows * side()
    numerator, denominator = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return rows * (rows * numerator // denominator)
