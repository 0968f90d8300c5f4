"""What came by C-STORE: who it is, and the Part 10 file around its data set bytes."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom.config import IGNORE
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dcmvault.dicom.association import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dcmvault.dicom.command import encode_uid
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import InstanceIdentity

_SOP_INSTANCE_UID = Tag(0x0008, 0x0018)
_STUDY_INSTANCE_UID = Tag(0x0020, 0x000D)
_SERIES_INSTANCE_UID = Tag(0x0020, 0x000E)
_UIDS = [_SOP_INSTANCE_UID, _STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID]
#: Bytes of an inflated data set within which its UIDs must lie.
_INFLATED_HEAD = 4 * 1024 * 1024
#: Preamble, DICM, and (0002,0000) with a value of four bytes (PS3.10 section 7.1).
_META_START = 128 + 4 + 12


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """One received instance: what the C-STORE said of it, and its identity by the data set."""

    sop_class_uid: str
    transfer_syntax_uid: str
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


def read_received(
    stream: BinaryIO, sop_class_uid: str, transfer_syntax_uid: str
) -> ReceivedInstance:
    """Read the identity from encoded data set bytes, no further than the UIDs.

    Raises MalformedDicomError when they cannot be read or one of them is missing.
    """
    syntax = UID(transfer_syntax_uid, validation_mode=IGNORE)
    if syntax == DeflatedExplicitVRLittleEndian:
        stream = _inflated(stream)
    # Encapsulated and private syntaxes are explicit VR little endian (PS3.5 Annex A.4).
    is_known = not syntax.is_private and syntax.is_transfer_syntax
    try:
        data_set = read_dataset(
            stream,
            is_implicit_VR=is_known and syntax.is_implicit_VR,
            is_little_endian=not is_known or syntax.is_little_endian,
            stop_when=_is_behind_uids,
            specific_tags=list(_UIDS),
        )
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, struct.error) as error:
        raise MalformedDicomError("the data set cannot be read") from error
    values: dict[BaseTag, str] = {}
    for tag in _UIDS:
        # Raw elements, so that nothing is interpreted or validated on the way.
        raw = getattr(data_set.get_item(tag), "value", b"") if tag in data_set else b""
        text = raw if isinstance(raw, bytes) else b""
        values[tag] = text.decode("ascii", "replace").strip("\0 ")
        if not values[tag]:
            raise MalformedDicomError(f"the data set lacks {tag}")
    return ReceivedInstance(
        sop_class_uid,
        transfer_syntax_uid,
        InstanceIdentity(
            values[_STUDY_INSTANCE_UID], values[_SERIES_INSTANCE_UID], values[_SOP_INSTANCE_UID]
        ),
    )


def read_stored(path: Path) -> ReceivedInstance:
    """Read the identity of a file that `part10_head` began; MalformedDicomError for others."""
    with path.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            raise MalformedDicomError("no DICM prefix")
        meta = read_file_meta_info(path)
        stream.seek(_META_START + int(meta.FileMetaInformationGroupLength))
        return read_received(stream, str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))


def _is_behind_uids(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return bool(tag > _SERIES_INSTANCE_UID)


def _inflated(stream: BinaryIO) -> BytesIO:
    try:
        return BytesIO(
            zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream.read(), _INFLATED_HEAD)
        )
    except zlib.error as error:
        raise MalformedDicomError("the deflated data set cannot be inflated") from error
