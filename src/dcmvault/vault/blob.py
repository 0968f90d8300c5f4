"""Blobs: what packs hold, known by keyed ids of their content (format page, 6)."""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum
from typing import NamedTuple


class BlobType(StrEnum):
    """What a blob's content is."""

    #: Samples of one frame, or of some rows of one, little endian.
    FRAME = "F"
    #: Bytes of a value, or a piece of them.
    VALUE = "V"
    #: Skeletons of many files, one behind the other.
    HEADERS = "H"
    #: Records of files, JSON.
    RECORDS = "R"
    #: Manifests, shards and other state, JSON.
    STATE = "M"

    @property
    def letter(self) -> bytes:
        """The type as the byte that stands in packs."""
        return self.value.encode()


class BlobRow(NamedTuple):
    """Where one blob lies in its pack."""

    type: BlobType
    id: bytes
    offset: int
    length: int  #: sealed bytes
    content_length: int


#: The most content that one blob may have; readers refuse more (a bomb, or damage).
MAX_CONTENT_BYTES = 64 << 20


def blob_id(id_key: bytes, kind: BlobType, content: bytes | memoryview) -> bytes:
    """Return the id of a content: 32 bytes, meaningless without the vault's id key."""
    return keyed_id(id_key, kind, hashlib.sha256(content).digest())


def keyed_id(id_key: bytes, kind: BlobType, content_sha256: bytes) -> bytes:
    """Return the id of a content whose SHA-256 is known."""
    return hmac.digest(id_key, kind.letter + content_sha256, "sha256")
