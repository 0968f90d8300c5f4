"""Receipts: what a destination claimed when it took an instance."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dcmvault.model.instance import Fingerprint


@dataclass(frozen=True, slots=True)
class Receipt:
    """A claim, not evidence: the destination said that it took these bytes."""

    locator: str
    #: What the file that was read showed (`InstanceFile.fingerprint`).
    fingerprint: Fingerprint
    #: SHA-256 of the file's bytes, computed in the same read.
    file_sha256: bytes
    #: Raw status of the peer as four hexadecimal digits (0000, B000 ...); "0000" for a put.
    status: str
    #: What the destination calls it (object key); empty for a PACS.
    object_key: str
    transferred_bytes: int
    received_at: datetime
    #: What the peer said it changed or doubted (B000, B006, B007, 0111).
    warning: str = ""
    #: What the warning means and what to do about it.
    hint: str = ""
    #: The file was there already; no bytes were stored anew.
    already_there: bool = False
    #: The transfer syntax that it was sent in, where that is not the file's own: a copy that is
    #: read back is then compared by decoded pixels and the other elements.
    transfer_syntax_uid: str = ""
    #: From what to what it was transcoded, in words; empty if it was not.
    transcoding: str = ""
