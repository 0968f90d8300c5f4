"""Encodings 0, 1 and 2: bytes as they are, or as Zstandard, or byte planes (format page, 7)."""

from __future__ import annotations

import threading

import numpy as np
import zstandard

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.profile import Profile

RAW, ZSTD, PLANES = 0, 1, 2

#: Zstandard looks back over a whole header block; a smaller content shortens the window itself.
_WINDOW_LOG = 23
#: Windows of more than this are refused when reading: no blob has more content.
_MAX_WINDOW = 64 << 20


class _Contexts(threading.local):
    """Zstandard contexts of one thread: making one takes ten times as long as a small value."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        compressor = self.compressors.get(level)
        if compressor is None:
            parameters = zstandard.ZstdCompressionParameters(
                compression_level=level, window_log=_WINDOW_LOG
            )
            compressor = zstandard.ZstdCompressor(compression_params=parameters)
            self.compressors[level] = compressor
        return compressor


_contexts = _Contexts()


def encode_bytes(content: bytes | memoryview, profile: Profile, *, width: int = 1) -> bytes:
    """Encode bytes of any kind: the smallest of encodings 0 and 1, and 2 where width is above 1.

    `width` is that of the numbers that the content consists of (at most 255). Safe for several
    threads; releases the interpreter lock while it compresses.
    """
    compressor = _contexts.compressor(profile.zstd_level)
    best = compressor.compress(content)
    head = bytes((ZSTD,))
    if 1 < width <= 255 and len(content) >= width:
        planes = compressor.compress(_to_planes(content, width))
        if len(planes) + 1 < len(best):
            best, head = planes, bytes((PLANES, width))
    encoding = head + best
    # Nothing is stored that was not seen to come back, whatever the library's version.
    if len(encoding) > len(content) or not _comes_back(encoding, content):
        return bytes((RAW,)) + content
    return encoding


def _comes_back(encoding: bytes, content: bytes | memoryview) -> bool:
    try:
        return decode_bytes(memoryview(encoding), len(content)) == content
    except VaultDamagedError:
        return False


def decode_bytes(encoding: memoryview, content_length: int) -> bytes:
    """Decode encodings 0, 1 and 2; VaultDamagedError for what is not `content_length` bytes."""
    kind = encoding[0]
    if kind == RAW:
        content = bytes(encoding[1:])
    elif kind == ZSTD:
        content = unzstd(encoding[1:], content_length)
    else:
        width = encoding[1] if len(encoding) > 1 else 0
        if not width:
            raise VaultDamagedError("an encoding of the vault has numbers without bytes")
        content = _from_planes(unzstd(encoding[2:], content_length), width)
    if len(content) != content_length:
        raise VaultDamagedError("an encoding of the vault holds fewer or more bytes than it should")
    return content


def unzstd(data: memoryview, content_length: int) -> bytes:
    """Decompress one Zstandard frame, at most `content_length` bytes of it.

    Raises VaultDamagedError for what is none, for a frame of another length that says so, and for
    bytes behind it, before memory is spent on it.
    """
    try:
        stated = zstandard.get_frame_parameters(data).content_size
        if stated not in (content_length, zstandard.CONTENTSIZE_UNKNOWN):
            raise VaultDamagedError("an encoding of the vault states another length than it should")
        return _contexts.decompressor.decompress(
            data, max_output_size=content_length, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise VaultDamagedError("compressed bytes in the vault do not decompress") from error


def _to_planes(content: bytes | memoryview, width: int) -> bytes:
    """Put byte 0 of each word first, then byte 1 of each ..., then what is no whole word."""
    whole = len(content) - len(content) % width
    words = np.frombuffer(content, np.uint8, whole).reshape(-1, width)
    return words.T.tobytes() + content[whole:]


def _from_planes(planes: bytes, width: int) -> bytes:
    whole = len(planes) - len(planes) % width
    words = np.empty((whole // width, width), np.uint8)
    # Plane by plane: twice as fast as transposing, and without the interpreter lock.
    for at, plane in enumerate(np.frombuffer(planes, np.uint8, whole).reshape(width, -1)):
        words[:, at] = plane
    return words.tobytes() + planes[whole:]
