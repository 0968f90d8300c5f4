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
N_EVENT_REPORT_RQ = 0x0100
N_ACTION_RQ = 0x0130
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000

#: Elements of group 0000.
AFFECTED_SOP_CLASS_UID = 0x0002
REQUESTED_SOP_CLASS_UID = 0x0003
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
MOVE_DESTINATION = 0x0600
PRIORITY = 0x0700
DATA_SET_TYPE = 0x0800
STATUS = 0x0900
AFFECTED_SOP_INSTANCE_UID = 0x1000
REQUESTED_SOP_INSTANCE_UID = 0x1001
ERROR_COMMENT = 0x0902
REMAINING = 0x1020
COMPLETED = 0x1021
FAILED = 0x1022
WARNED = 0x1023
MOVE_ORIGINATOR = 0x1030
MOVE_ORIGINATOR_MESSAGE_ID = 0x1031
EVENT_TYPE_ID = 0x1002
ACTION_TYPE_ID = 0x1008

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
    move_originator: tuple[str, int] | None = None,
    has_data_set: bool,
) -> bytes:
    """Encode the command set of a request (PS3.7 section 9.3).

    `move_originator` is who asked for the C-MOVE that this C-STORE is part of, and its message id.
    """
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
    if move_originator:
        title = move_originator[0].encode("ascii", "replace")
        elements[MOVE_ORIGINATOR] = title + b" " * (len(title) % 2)
        elements[MOVE_ORIGINATOR_MESSAGE_ID] = _us(move_originator[1])
    return _with_group_length(elements)


def encode_response(
    request: Mapping[int, bytes],
    status: int,
    *,
    has_data_set: bool = False,
    counts: Mapping[int, int] | None = None,
    comment: str = "",
) -> bytes:
    """Encode the command set that answers a request (PS3.7 section 9.3, 10.3).

    The class and instance that an N-ACTION requests are those that its answer affects. `counts`
    are numbers of sub-operations by element, `comment` says in 64 characters what went wrong.
    Raises MalformedDicomError for a request without command field or message id.
    """
    copied = {
        AFFECTED_SOP_CLASS_UID: (AFFECTED_SOP_CLASS_UID, REQUESTED_SOP_CLASS_UID),
        AFFECTED_SOP_INSTANCE_UID: (AFFECTED_SOP_INSTANCE_UID, REQUESTED_SOP_INSTANCE_UID),
        ACTION_TYPE_ID: (ACTION_TYPE_ID,),
        EVENT_TYPE_ID: (EVENT_TYPE_ID,),
    }
    return _with_group_length(
        {
            element: request[name]
            for element, names in copied.items()
            for name in names
            if name in request
        }
        | {
            COMMAND_FIELD: _us(number(request, COMMAND_FIELD) | RESPONSE),
            MESSAGE_ID_BEING_RESPONDED_TO: _us(number(request, MESSAGE_ID)),
            DATA_SET_TYPE: _us(_DATA_SET_FOLLOWS if has_data_set else NO_DATA_SET),
            STATUS: _us(status),
        }
        | {element: _us(min(number, 0xFFFF)) for element, number in (counts or {}).items()}
        | ({ERROR_COMMENT: _comment(comment)} if comment else {})
    )


def _comment(text: str) -> bytes:
    value = text[:64].encode("ascii", "replace")
    return value + b" " * (len(value) % 2)


def encode_event_report(
    message_id: int, sop_class_uid: str, sop_instance_uid: str, event_type_id: int
) -> bytes:
    """Encode the command set of an N-EVENT-REPORT with a data set (PS3.7 section 10.3.1)."""
    return _with_group_length(
        {
            AFFECTED_SOP_CLASS_UID: encode_uid(sop_class_uid),
            COMMAND_FIELD: _us(N_EVENT_REPORT_RQ),
            MESSAGE_ID: _us(message_id),
            DATA_SET_TYPE: _us(_DATA_SET_FOLLOWS),
            AFFECTED_SOP_INSTANCE_UID: encode_uid(sop_instance_uid),
            EVENT_TYPE_ID: _us(event_type_id),
        }
    )


def encode_action(
    message_id: int, sop_class_uid: str, sop_instance_uid: str, action_type_id: int
) -> bytes:
    """Encode the command set of an N-ACTION with a data set (PS3.7 section 10.3.4)."""
    return _with_group_length(
        {
            REQUESTED_SOP_CLASS_UID: encode_uid(sop_class_uid),
            COMMAND_FIELD: _us(N_ACTION_RQ),
            MESSAGE_ID: _us(message_id),
            DATA_SET_TYPE: _us(_DATA_SET_FOLLOWS),
            REQUESTED_SOP_INSTANCE_UID: encode_uid(sop_instance_uid),
            ACTION_TYPE_ID: _us(action_type_id),
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


def uid(command: Mapping[int, bytes], element: int) -> str:
    """Return a UID of a command set without its padding; empty when it is not there."""
    return command.get(element, b"").decode("ascii", "replace").strip("\0 ")


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
    return ((tag, value) for tag, value, is_delimited in _decode(data) if not is_delimited)


def decode_whole(data: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """As `decode_flat`, with all sequences: `items_of` takes their values apart."""
    return ((tag, value) for tag, value, _is_delimited in _decode(data))


def items_of(sequence: bytes) -> Iterator[bytes]:
    """Yield the items of a sequence's value as data sets (PS3.5 section 7.5).

    Raises MalformedDicomError.
    """
    offset = 0
    while offset < len(sequence):
        tag, length, offset = _header(sequence, offset)
        if tag != _ITEM:
            raise MalformedDicomError("a sequence holds what is no item")
        if length == _UNDEFINED:
            end = _after_item(sequence, offset)
            yield sequence[offset : end - _ELEMENT.size]
        else:
            end = offset + length
            if end > len(sequence):
                raise MalformedDicomError("an item is longer than its sequence")
            yield sequence[offset:end]
        offset = end


def _decode(data: bytes) -> Iterator[tuple[tuple[int, int], bytes, bool]]:
    """Yield tag, value, and whether the value ended by a delimitation item."""
    offset = 0
    while offset < len(data):
        tag, length, offset = _header(data, offset)
        if length == _UNDEFINED:
            end = _after_sequence(data, offset)
            yield tag, data[offset : end - _ELEMENT.size], True
        else:
            end = offset + length
            if end > len(data):
                raise MalformedDicomError("an element is longer than its data set")
            yield tag, data[offset:end], False
        offset = end


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


def _after_item(data: bytes, offset: int) -> int:
    """Return the offset behind an item of undefined length."""
    while True:
        tag, length, offset = _header(data, offset)
        if tag == _ITEM_END:
            return offset
        offset = _after_sequence(data, offset) if length == _UNDEFINED else offset + length


def encode_sequence(group: int, element: int, items: Iterable[bytes]) -> bytes:
    """Encode a sequence of items, each an encoded data set, with explicit lengths."""
    return encode_element(group, element, b"".join(encode_element(*_ITEM, one) for one in items))
