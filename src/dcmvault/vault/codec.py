"""Encodings of blobs: from content to what is sealed, and back (format page, 7)."""

from __future__ import annotations

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.blob import MAX_CONTENT_BYTES
from dcmvault.vault.codec_bytes import PLANES, decode_bytes, encode_bytes
from dcmvault.vault.codec_images import IMAGE, decode_samples, encode_samples
from dcmvault.vault.codec_jpeg import JPEG, decode_jpeg, encode_jpeg

__all__ = ["decode", "encode_bytes", "encode_jpeg", "encode_samples"]


def decode(encoding: bytes | memoryview, content_length: int) -> bytes:
    """Decode any encoding to its content, which has exactly `content_length` bytes.

    Raises VaultDamagedError for damage, for more than MAX_CONTENT_BYTES, and before it spends more
    memory than a small multiple of `content_length`. Safe for several threads; releases the
    interpreter lock while it works.
    """
    if not 0 <= content_length <= MAX_CONTENT_BYTES:
        raise VaultDamagedError("a blob of the vault is said to be larger than any blob may be")
    view = memoryview(encoding)
    kind = view[0] if len(view) else -1
    if 0 <= kind <= PLANES:
        return decode_bytes(view, content_length)
    if kind == IMAGE:
        return decode_samples(view, content_length)
    if kind == JPEG:
        return decode_jpeg(view, content_length)
    raise VaultDamagedError("an encoding in the vault is of no kind that this dcmvault knows")
