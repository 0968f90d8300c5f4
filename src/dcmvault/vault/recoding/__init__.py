"""Compressed frames as samples, and back to the very same stream (format page, 9).

A frame is taken apart only if its stream can be made again from the samples, bit for bit, by a
coder that has no freedom: JPEG-LS and JPEG lossless by their standards, RLE by its control bytes.
So a study that comes again in another of these syntaxes shares its samples with the first.
"""

from __future__ import annotations

from collections.abc import Callable

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.recoding import jpeg_lossless, jpeg_ls, rle
from dcmvault.vault.recoding.jpeg_markers import MAX_FRAMING_BYTES, NotRecodableError
from dcmvault.vault.shape import PixelAttributes, Recoded, StreamShape

__all__ = ["MAX_FRAME_BYTES", "rebuild", "recode"]

#: Larger frames (as samples) are not taken apart: it would take several times their memory.
MAX_FRAME_BYTES = 32 << 20

_TAKE_APART: dict[str, Callable[[bytes, PixelAttributes], Recoded]] = {
    "1.2.840.10008.1.2.4.80": jpeg_ls.take_apart,
    "1.2.840.10008.1.2.4.81": jpeg_ls.take_apart,
    "1.2.840.10008.1.2.4.57": jpeg_lossless.take_apart,
    "1.2.840.10008.1.2.4.70": jpeg_lossless.take_apart,
    "1.2.840.10008.1.2.5": rle.take_apart,
}
_MAKE: dict[str, Callable[[bytes, StreamShape, bytes, bytes], bytes]] = {
    "jls": jpeg_ls.make,
    "ljpeg": jpeg_lossless.make,
    "rle": rle.make,
}


def recode(stream: bytes, transfer_syntax_uid: str, pixels: PixelAttributes) -> Recoded | None:
    """Take one whole compressed frame apart, or return None where it must be kept as it is.

    What is returned was verified: `rebuild` of it gives exactly `stream`. None for other syntaxes,
    near-lossless streams, streams whose coder took liberties, those that do not look as `pixels`
    says, and frames of more than MAX_FRAME_BYTES as samples. Never raises for content. Safe for
    several threads.
    """
    take_apart = _TAKE_APART.get(transfer_syntax_uid)
    if take_apart is None or not _plausible(pixels):
        return None
    try:
        recoded = take_apart(stream, pixels)
        again = rebuild(recoded.kind, recoded.samples, recoded.shape, recoded.head, b"")
    except (NotRecodableError, VaultDamagedError):
        return None
    tail = stream[len(again) :]
    if len(tail) > MAX_FRAMING_BYTES or not stream.startswith(again):
        return None
    return recoded._replace(tail=tail)


def rebuild(kind: str, samples: bytes, shape: StreamShape, head: bytes, tail: bytes) -> bytes:
    """Make the stream that `recode` took apart.

    Raises VaultDamagedError if these parts cannot come from any stream. That the result is the
    right stream is for the file's digest to say. Safe for several threads.
    """
    make = _MAKE.get(kind)
    if make is None:
        raise VaultDamagedError(f"the vault names the unknown kind {kind!r} of recoded pixel data")
    columns, rows, count, width, precision = shape
    if min(shape) < 1 or count not in (1, 3) or width not in (1, 2, 4) or precision > 8 * width:
        raise VaultDamagedError("recoded pixel data in the vault has an impossible shape")
    if len(samples) != columns * rows * count * width:
        raise VaultDamagedError("recoded pixel data in the vault has not the size of its shape")
    try:
        return make(samples, shape, head, tail)
    except NotRecodableError as error:
        raise VaultDamagedError(f"recoded pixel data in the vault is damaged: {error}") from None


def _plausible(pixels: PixelAttributes) -> bool:
    if pixels.columns < 1 or pixels.rows < 1 or pixels.samples_per_pixel not in (1, 3):
        return False
    if pixels.bits_allocated not in (8, 16, 32):
        return False
    size = pixels.columns * pixels.rows * pixels.samples_per_pixel * pixels.bits_allocated // 8
    return size <= MAX_FRAME_BYTES
