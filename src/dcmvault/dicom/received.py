"""What came by C-STORE: who it is, and the Part 10 file around its data set bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from dcmvault.dicom.association import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dcmvault.dicom.command import encode_uid
from dcmvault.dicom.part10 import scan
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import InstanceIdentity


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """One received instance as its data set names it."""

    sop_class_uid: str
    identity: InstanceIdentity


def part10_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Encode preamble, prefix and file meta information for received bytes (PS3.10 section 7.1)."""
    group = (
        struct.pack("<HH2s2xI", 2, 1, b"OB", 2)
        + b"\x00\x01"
        + _short(0x0002, b"UI", encode_uid(sop_class_uid))
        + _short(0x0003, b"UI", encode_uid(sop_instance_uid))
        + _short(0x0010, b"UI", encode_uid(transfer_syntax_uid))
        + _short(0x0012, b"UI", encode_uid(IMPLEMENTATION_CLASS_UID))
        + _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii"))
    )
    return bytes(128) + b"DICM" + _short(0x0000, b"UL", struct.pack("<I", len(group))) + group


def _short(element: int, vr: bytes, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def read_received(path: Path) -> ReceivedInstance:
    """Read the identity of a stored file.

    Raises MalformedDicomError when it cannot be read or lacks one of its UIDs, and OSError.
    """
    header = scan(path)
    identity = header.identity
    for uid in (
        header.sop_class_uid,
        identity.study_instance_uid,
        identity.series_instance_uid,
        identity.sop_instance_uid,
    ):
        if not uid:
            raise MalformedDicomError("the data set lacks one of its UIDs")
    return ReceivedInstance(header.sop_class_uid, identity)
