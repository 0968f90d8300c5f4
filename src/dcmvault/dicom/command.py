"""Command sets of DIMSE messages (PS3.7 section 6.3 and Annex E), to and from bytes.

They are always implicit VR little endian and flat, so no data set library is needed. The same
coding serves the identifiers of C-FIND, which we send in that transfer syntax only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping

from dcmvault.errors import MalformedDicomError

#: Command fields (PS3.7 Annex E.1).
C_STORE_RQ = 0x0001
C_GET_RQ = 0x0010
C_FIND_RQ = 0x0020
C_MOVE_RQ = 0x0021
C_ECHO_RQ = 0x0030
RESPONSE = 0x8000

#: Elements of group 0000.
AFFECTED_SOP_CLASS_UID = 0x0002
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
MOVE_DESTINATION = 0x0600
PRIORITY = 0x0700
DATA_SET_TYPE = 0x0800
STATUS = 0x0900
AFFECTED_SOP_INSTANCE_UID = 0x1000

#: Value of (0000,0800) when no data set follows.
NO_DATA_SET = 0x0101
_DATA_SET_FOLLOWS = 0x0001
_MEDIUM_PRIORITY = 0x0000

_UID_CHARACTERS = frozenset("0123456789.")
_ELEMENT = struct.Struct("<HHI")


def encode_element(group: int, element: int, value: bytes) -> bytes:
    """Encode one element in implicit VR little endian; `value` has even length."""
    return _ELEMENT.pack(group, element, len(value)) + value


def encode_uid(uid: str) -> bytes:
    """Encode a UID, padded to even length with NUL (PS3.5 section 9.1)."""
    value = uid.encode("ascii")
    return value + b"\0" * (len(value) % 2)


def is_usable_uid(text: str) -> bool:
    """Say whether peers can be told this UID: 1 to 64 digits and dots, and not dots alone.

    Laxer than PS3.5 section 9.1: real archives hold UIDs with leading zeros, and peers take them.
    In the path of a URL dots alone would be another place.
    """
    return len(text) <= 64 and set(text) <= _UID_CHARACTERS and bool(text.strip("."))


def _us(number: int) -> bytes:
    return number.to_bytes(2, "little")


def encode_request(
    field: int,
    message_id: int,
    sop_class_uid: str,
    *,
    sop_instance_uid: str = "",
    move_destination: str = "",
    has_data_set: bool,
) -> bytes:
    """Encode the command set of a request (PS3.7 section 9.3)."""
    elements: dict[int, bytes] = {
        AFFECTED_SOP_CLASS_UID: encode_uid(sop_class_uid),
        COMMAND_FIELD: _us(field),
        MESSAGE_ID: _us(message_id),
        DATA_SET_TYPE: _us(_DATA_SET_FOLLOWS if has_data_set else NO_DATA_SET),
    }
    if has_data_set:
        elements[PRIORITY] = _us(_MEDIUM_PRIORITY)
    if sop_instance_uid:
        elements[AFFECTED_SOP_INSTANCE_UID] = encode_uid(sop_instance_uid)
    if move_destination:
        title = move_destination.encode("ascii")
        elements[MOVE_DESTINATION] = title + b" " * (len(title) % 2)
    return _with_group_length(elements)


def encode_response(request: Mapping[int, bytes], status: int) -> bytes:
    """Encode the command set that answers a C-STORE or C-ECHO request (PS3.7 section 9.3)."""
    copied = (AFFECTED_SOP_CLASS_UID, AFFECTED_SOP_INSTANCE_UID)
    return _with_group_length(
        {element: request[element] for element in copied if element in request}
        | {
            COMMAND_FIELD: _us(number(request, COMMAND_FIELD) | RESPONSE),
            MESSAGE_ID_BEING_RESPONDED_TO: _us(number(request, MESSAGE_ID)),
            DATA_SET_TYPE: _us(NO_DATA_SET),
            STATUS: _us(status),
        }
    )


def _with_group_length(elements: Mapping[int, bytes]) -> bytes:
    body = b"".join(encode_element(0, element, elements[element]) for element in sorted(elements))
    return encode_element(0, 0, len(body).to_bytes(4, "little")) + body


def decode_command(data: bytes) -> Mapping[int, bytes]:
    """Decode a command set: element number of group 0000 to raw value."""
    elements: dict[int, bytes] = {}
    offset = 0
    while offset < len(data):
        if offset + _ELEMENT.size > len(data):
            raise MalformedDicomError("a command set is cut short")
        group, element, length = _ELEMENT.unpack_from(data, offset)
        offset += _ELEMENT.size
        if group != 0 or offset + length > len(data):
            raise MalformedDicomError("a command set holds what does not belong there")
        elements[element] = data[offset : offset + length]
        offset += length
    return elements


def number(command: Mapping[int, bytes], element: int) -> int:
    """Return a US element of a command set; MalformedDicomError when it is not there."""
    value = command.get(element, b"")
    if len(value) != 2:
        raise MalformedDicomError(f"a command set lacks (0000,{element:04X})")
    return int.from_bytes(value, "little")


def encode_identifier(elements: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Encode a C-FIND identifier from (group, element, value of even length), ordered by tag."""
    return b"".join(encode_element(*element) for element in sorted(elements))


_UNDEFINED = 0xFFFFFFFF
_ITEM = (0xFFFE, 0xE000)
_ITEM_END = (0xFFFE, 0xE00D)
_SEQUENCE_END = (0xFFFE, 0xE0DD)


def decode_flat(data: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield the top-level elements of an implicit VR little endian data set as raw values.

    Sequences of undefined length are skipped whatever they hold. Raises MalformedDicomError.
    """
    offset = 0
    while offset < len(data):
        tag, length, offset = _header(data, offset)
        if length == _UNDEFINED:
            offset = _after_sequence(data, offset)
            continue
        if offset + length > len(data):
            raise MalformedDicomError("an element is longer than its data set")
        yield tag, data[offset : offset + length]
        offset += length


def _header(data: bytes, offset: int) -> tuple[tuple[int, int], int, int]:
    if offset + _ELEMENT.size > len(data):
        raise MalformedDicomError("an element is cut short")
    group, element, length = _ELEMENT.unpack_from(data, offset)
    return (group, element), length, offset + _ELEMENT.size


def _after_sequence(data: bytes, offset: int) -> int:
    """Return the offset behind a sequence of undefined length (PS3.5 section 7.5)."""
    depth = 1
    while depth:
        tag, length, offset = _header(data, offset)
        if tag == _SEQUENCE_END:
            depth -= 1
        elif tag == _ITEM_END or (tag == _ITEM and length == _UNDEFINED):
            continue  # the elements of an item of undefined length follow like any other
        elif length == _UNDEFINED:
            depth += 1
        else:
            offset += length
    return offset
