"""Identifiers of queries and retrievals: what a peer asks as text by tag, and answers as bytes.

PS3.4 section C.4.1.1.3. Whatever a peer sends is walked with limits, and never recursively.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from dcmvault.dicom.attributes import (
    CHARACTER_SET,
    ENCODED_VRS,
    NUMBER_VRS,
    QUERY_LEVEL,
    RETRIEVE_AE_TITLE,
    TEXT_VRS,
    vr_of,
)
from dcmvault.dicom.byte_source import MemoryBytes
from dcmvault.dicom.charset import codec_of
from dcmvault.dicom.elements import ElementWalker
from dcmvault.dicom.encoding import EXPLICIT_LITTLE, HEADER_SIZES, IMPLICIT_LITTLE
from dcmvault.dicom.file_meta import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from dcmvault.dicom.header_values import text_of
from dcmvault.dicom.nesting import SEQUENCE, VALUE
from dcmvault.errors import MalformedDicomError

#: Transfer syntaxes that identifiers are taken and given in.
IDENTIFIER_SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
#: Bytes of an identifier: a list of 60,000 UIDs.
LONGEST_IDENTIFIER = 4 * 1024 * 1024
_MOST_KEYS = 1000
#: Characters of a key that is no list of UIDs.
_LONGEST_KEY = 4096
#: A value in explicit VR has a length of 16 bits (PS3.5 section 7.1.2).
_LONGEST_SHORT = 0xFFFE
_UTF_8 = "ISO_IR 192"
_WITHOUT_CODE_EXTENSIONS = 1
_tag_and_length = struct.Struct("<HHL").pack
_short_header = struct.Struct("<HH2sH").pack
_long_header = struct.Struct("<HH2sHL").pack


@dataclass(frozen=True, slots=True)
class Identifier:
    """What an identifier asks: keys as text, and the VRs that it wrote, where it did."""

    level: str
    keys: Mapping[int, str]
    #: The Specific Character Set of the request; empty: none.
    character_set: str = ""
    #: All tags but the level, ascending.
    tags: tuple[int, ...] = ()
    vrs: Mapping[int, str] = field(default_factory=dict)


def decode_identifier(data: bytes, transfer_syntax_uid: str) -> Identifier:
    """Read an identifier. Raises MalformedDicomError for what is none, or breaks a limit.

    Of a sequence nothing but its tag is looked at.
    """
    is_explicit = transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN
    encoding = EXPLICIT_LITTLE if is_explicit else IMPLICIT_LITTLE
    source = MemoryBytes(data)
    walker = ElementWalker(source, 0, encoding)
    values: dict[int, bytes] = {}
    vrs: dict[int, str] = {}
    while walker.more():
        first = True
        for kind, tag, vr, start, end in walker.element():
            if not first:
                continue
            first = False
            if kind not in (VALUE, SEQUENCE):
                raise MalformedDicomError("an identifier holds what is no attribute")
            values[tag] = data[start:end] if kind == VALUE else b""
            written = vr.decode("ascii") if vr in HEADER_SIZES else ""
            vrs[tag] = "SQ" if kind == SEQUENCE else written or vr_of(tag)
        if len(values) > _MOST_KEYS:
            raise MalformedDicomError("an identifier without an end")
    if walker.trailing_start >= 0:
        raise MalformedDicomError("an identifier ends with what is no attribute")
    character_set = values.get(CHARACTER_SET, b"")
    keys = {
        tag: _key_text(tag, value, character_set)
        for tag, value in values.items()
        if tag not in (QUERY_LEVEL, CHARACTER_SET) and tag & 0xFFFF
    }
    return Identifier(
        values.get(QUERY_LEVEL, b"").decode("ascii", "replace").strip("\0 "),
        keys,
        character_set.decode("ascii", "replace").strip("\0 "),
        tuple(sorted(tag for tag in values if tag != QUERY_LEVEL and tag & 0xFFFF)),
        vrs,
    )


def _key_text(tag: int, value: bytes, character_set: bytes) -> str:
    vr = vr_of(tag)
    if vr == "UI":
        return "\\".join(one.strip(" \0") for one in value.decode("ascii", "replace").split("\\"))
    if len(value) > _LONGEST_KEY:
        raise MalformedDicomError("a key without an end")
    return text_of(vr, value, character_set)


class AnswerEncoder:
    """Encodes answers to one query, in the transfer syntax of its presentation context."""

    def __init__(
        self, asked: Identifier, level: str, ae_title: str, transfer_syntax_uid: str
    ) -> None:
        self._explicit = transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN
        self._asked = asked
        self._fixed = {QUERY_LEVEL: level, RETRIEVE_AE_TITLE: ae_title}
        self._vrs = {tag: _answered_vr(tag, vr) for tag, vr in asked.vrs.items()}
        terms = asked.character_set.split("\\")
        # Whoever uses code extensions gets Unicode instead.
        self._term = terms[0] if len(terms) == _WITHOUT_CODE_EXTENSIONS else ""
        self._codec = codec_of(self._term) if self._term else "ascii"

    def encode(self, attributes: Mapping[int, str]) -> bytes:
        """Return an identifier with all that was asked for; what is not known has no value.

        Text that the request's character set has not comes in Unicode, and says so.
        """
        term, codec = self._character_set(attributes)
        values: dict[int, str] = dict.fromkeys(self._asked.tags, "")
        values |= attributes
        values |= self._fixed
        if term or CHARACTER_SET in values:
            values[CHARACTER_SET] = term
        parts = []
        for tag in sorted(values):
            vr = self._vrs.get(tag) or vr_of(tag)
            parts.append(self._element(tag, vr, _encoded(vr, values[tag], codec)))
        return b"".join(parts)

    def _character_set(self, attributes: Mapping[int, str]) -> tuple[str, str]:
        """Choose what text is encoded in: (defined term, codec)."""
        text = "".join(attributes.values())
        if text.isascii():
            return "", "ascii"
        if self._term:
            try:
                text.encode(self._codec)
            except UnicodeEncodeError:
                pass
            else:
                return self._term, self._codec
        return _UTF_8, "utf_8"

    def _element(self, tag: int, vr: str, value: bytes) -> bytes:
        group, element = tag >> 16, tag & 0xFFFF
        if not self._explicit:
            return _tag_and_length(group, element, len(value)) + value
        name = vr.encode("ascii")
        if HEADER_SIZES.get(name) == 8:
            return _short_header(group, element, name, len(value)) + value
        return _long_header(group, element, name, 0, len(value)) + value


def encode_uids(tag: int, uids: list[str], transfer_syntax_uid: str) -> bytes:
    """Encode a data set of one attribute with as many UIDs as its length allows."""
    value = b""
    for uid in uids:
        longer = value + (b"\\" if value else b"") + uid.encode("ascii", "replace")
        if len(longer) > _LONGEST_SHORT:
            break
        value = longer
    value += b"\0" * (len(value) % 2)
    group, element = tag >> 16, tag & 0xFFFF
    if transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN:
        return _short_header(group, element, b"UI", len(value)) + value
    return _tag_and_length(group, element, len(value)) + value


def _answered_vr(tag: int, written: str) -> str:
    """Return the VR to answer in: ours, but for what only the request knows."""
    known = vr_of(tag)
    return known if known != "UN" else written or known


def _encoded(vr: str, text: str, codec: str) -> bytes:
    """Encode a value, padded to even length (PS3.5 section 6.2)."""
    if not text or vr == "SQ":
        return b""
    form = NUMBER_VRS.get(vr)
    if form is not None:
        number = float if form in "fd" else int
        try:
            return b"".join(struct.pack(f"<{form}", number(one)) for one in text.split("\\"))
        except (ValueError, struct.error, OverflowError):
            return b""
    if vr == "AT":
        try:
            tags = [int(one, 16) for one in text.split("\\")]
            return b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in tags)
        except (ValueError, struct.error):
            return b""
    if vr not in TEXT_VRS:
        return b""
    value = text.encode(codec if vr in ENCODED_VRS else "ascii", "replace")[:_LONGEST_SHORT]
    return value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
