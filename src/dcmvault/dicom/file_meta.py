"""The front of a Part 10 file: preamble, file meta information, and how the data set is written.

PS3.10 section 7.1. Files without preamble, or without any file meta information, are common in
archives: they are read as other readers do, and what had to be assumed is said.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dcmvault.dicom.byte_source import HEADER_BYTES, ByteSource
from dcmvault.dicom.encoding import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    HEADER_SIZES,
    IMPLICIT_LITTLE,
    Encoding,
    looks_explicit,
)
from dcmvault.errors import MalformedDicomError

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
#: Implicit VR little endian with big endian pixels, by GE (private).
_GE_PRIVATE = "1.2.840.113619.5.2"
#: Data sets that are one deflated stream (PS3.5 A.5; PS3.5 A.6 and A.12 for JPIP).
_DEFLATED = frozenset(
    {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
)

#: Raw tags, as the loop below reads them.
_GROUP_LENGTH, _SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX, _SOURCE_AE_TITLE = (
    EXPLICIT_LITTLE.raw_tag(0x00020000 + element)
    for element in (0x0000, 0x0002, 0x0003, 0x0010, 0x0016)
)
_WANTED = frozenset({_GROUP_LENGTH, _SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX, _SOURCE_AE_TITLE})
#: More than this before the data set is no file meta information.
_MAX_META_ELEMENTS = 1000
_MAX_UID_BYTES = 256
_MAX_AE_BYTES = 16
_tag = struct.Struct("<HH").unpack_from


@dataclass(slots=True)
class FileMeta:
    """What stands before the data set."""

    has_preamble: bool = False
    has_file_meta: bool = False
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    #: As stated, or assumed from the data set when nothing is stated (a flaw then says so).
    transfer_syntax_uid: str = ""
    #: Source Application Entity Title.
    source_ae_title: str = ""
    data_set_start: int = 0
    encoding: Encoding = EXPLICIT_LITTLE
    deflated: bool = False
    flaws: tuple[str, ...] = ()


def read_file_meta(file: ByteSource) -> FileMeta:
    """Read up to the data set.

    Raises MalformedDicomError for an empty file and where neither file meta information nor a
    data set begins.
    """
    if not file.size:
        raise MalformedDicomError("The file is empty.")
    head, _ = file.window(0)
    meta = FileMeta()
    start = 0
    if head[128:132] == b"DICM":
        meta.has_preamble = True
        start = 132
    elif not _begins_data_set(head):
        raise MalformedDicomError(
            "No DICM at byte 128, and no data set that DICOM knows begins at byte 0."
        )
    position = _read_group_2(file, meta, start)
    meta.data_set_start = position
    if position >= file.size:
        raise MalformedDicomError(f"The file ends at byte {file.size}, before any data set.")
    _find_encoding(file, meta, position)
    return meta


def _begins_data_set(head: bytes) -> bool:
    """Say whether bytes without a preamble look like file meta information or a data set."""
    if len(head) < 8:
        return False
    little_group, little_element = _tag(head, 0)
    if little_group == 0x0002 and looks_explicit(head):
        return head[4:6] in HEADER_SIZES
    if little_group == 0x0008:
        return head[4:6] in HEADER_SIZES or _short_implicit(head, little_element)
    return head[:2] == b"\x00\x08" and head[4:6] in HEADER_SIZES


def _short_implicit(head: bytes, element: int) -> bool:
    # The first attributes of group 8 (group length, character set, image type, UIDs) are short.
    return element <= 0x0060 and int.from_bytes(head[4:8], "little") <= 1024


def _read_group_2(file: ByteSource, meta: FileMeta, begin: int) -> int:
    """Read the file meta information (explicit VR little endian); return where it ends."""
    read_header, short_vrs = EXPLICIT_LITTLE.raw_header, EXPLICIT_LITTLE.raw_short_vrs
    wanted = _WANTED
    values: dict[int, bytes] = {}
    stated_end = -1
    buffer, base = file.window(begin)
    at, filled = begin - base, len(buffer)
    for _ in range(_MAX_META_ELEMENTS):
        if at + HEADER_BYTES > filled:
            position = base + at
            buffer, base = file.window(position)
            at, filled = position - base, len(buffer)
            if filled - at < 8:
                break
        raw, vr, length = read_header(buffer, at)
        if raw & 0xFFFF != 2:
            break
        if vr in short_vrs:
            value = at + 8
        elif vr in EXPLICIT_LITTLE.raw_long_vrs and filled - at >= HEADER_BYTES:
            value = at + 12
            length = EXPLICIT_LITTLE.long_length(buffer, at + 8)[0]
        else:
            raise MalformedDicomError(
                f"The file meta information does not parse at byte {base + at}."
            )
        at = value + length
        if at > filled and base + at > file.size:
            raise MalformedDicomError(
                f"The file ends at byte {file.size}, inside its file meta information."
            )
        if raw in wanted:
            if at <= filled:
                values[raw] = buffer[value:at]
            else:
                values[raw] = file.read(base + value, min(length, _MAX_UID_BYTES))
            if raw == _GROUP_LENGTH and length == 4:
                stated_end = base + at + int.from_bytes(values[raw], "little")
    else:
        raise MalformedDicomError(
            f"More than {_MAX_META_ELEMENTS} elements of file meta information."
        )
    position = base + at
    meta.has_file_meta = position > begin
    if not meta.has_file_meta:
        meta.flaws += ("There is no file meta information.",)
    elif stated_end not in (-1, position):
        meta.flaws += (
            f"The file meta information ends at byte {position}, "
            f"its group length says {stated_end}.",
        )
    meta.sop_class_uid = _uid(values.get(_SOP_CLASS, b""))
    meta.sop_instance_uid = _uid(values.get(_SOP_INSTANCE, b""))
    meta.transfer_syntax_uid = _uid(values.get(_TRANSFER_SYNTAX, b""))
    # PS3.5 section 6.2, AE: at most 16 characters, spaces before and after do not count.
    meta.source_ae_title = _uid(values.get(_SOURCE_AE_TITLE, b"")[:_MAX_AE_BYTES]).strip()
    return position


def _uid(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii", "replace")


def _find_encoding(file: ByteSource, meta: FileMeta, position: int) -> None:
    """Set encoding and transfer syntax; the first element header has the last word on VR."""
    stated = meta.transfer_syntax_uid
    if stated in _DEFLATED:
        meta.deflated = True
        return
    head = file.read(position, 8)
    explicit = looks_explicit(head)
    if not stated:
        _assume_syntax(meta, head, explicit=explicit)
        return
    expects_explicit = stated not in (IMPLICIT_VR_LITTLE_ENDIAN, _GE_PRIVATE)
    if stated == EXPLICIT_VR_BIG_ENDIAN:
        meta.encoding = EXPLICIT_BIG
    elif not expects_explicit:
        meta.encoding = IMPLICIT_LITTLE
    if explicit == expects_explicit or stated == EXPLICIT_VR_BIG_ENDIAN or len(head) < 8:
        return
    found = "explicit" if explicit else "implicit"
    meta.encoding = EXPLICIT_LITTLE if explicit else IMPLICIT_LITTLE
    meta.flaws += (f"The transfer syntax is {stated}, but the data set is in {found} VR.",)


def _assume_syntax(meta: FileMeta, head: bytes, *, explicit: bool) -> None:
    """Read the transfer syntax off the first element: low group numbers tell the byte order."""
    big = len(head) >= 2 and head[0] < head[1] and explicit
    if not explicit:
        meta.encoding, meta.transfer_syntax_uid = IMPLICIT_LITTLE, IMPLICIT_VR_LITTLE_ENDIAN
    elif big:
        meta.encoding, meta.transfer_syntax_uid = EXPLICIT_BIG, EXPLICIT_VR_BIG_ENDIAN
    else:
        meta.encoding, meta.transfer_syntax_uid = EXPLICIT_LITTLE, EXPLICIT_VR_LITTLE_ENDIAN
    meta.flaws += (
        f"No transfer syntax is stated; the data set reads as {meta.transfer_syntax_uid}.",
    )


def claims_to_be_dicom(name: str, head: bytes) -> bool:
    """Say whether a file is or claims to be DICOM, by its name and first bytes.

    `head` should hold the first 132 bytes or more. What claims to be DICOM must be backed up
    even if it does not parse; a name is enough for the claim.
    """
    if head[128:132] == b"DICM":
        return True
    if name.lower().endswith((".dcm", ".dicom", ".ima", ".dcm30")):
        return True
    return _begins_data_set(head)
