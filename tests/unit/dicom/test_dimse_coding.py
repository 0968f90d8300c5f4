"""Command sets, identifiers and PDUs: what we write others read, what is broken is refused."""

from __future__ import annotations

import struct
from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import A_ASSOCIATE_RQ

from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu
from dcmvault.errors import MalformedDicomError

_CT = "1.2.840.10008.5.1.4.1.1.2"


def test_request_is_read_by_the_library() -> None:
    encoded = commands.encode_request(
        commands.C_STORE_RQ, 7, _CT, sop_instance_uid="1.2.3", has_data_set=True
    )
    read = decode(BytesIO(encoded), True, True)
    assert read.CommandField == 1
    assert read.MessageID == 7
    assert read.AffectedSOPClassUID == _CT
    assert read.AffectedSOPInstanceUID == "1.2.3"
    assert read.CommandDataSetType != 0x0101
    assert read.CommandGroupLength == len(encoded) - 12


def test_echo_has_no_data_set() -> None:
    encoded = commands.encode_request(
        commands.C_ECHO_RQ, 1, "1.2.840.10008.1.1", has_data_set=False
    )
    assert decode(BytesIO(encoded), True, True).CommandDataSetType == 0x0101


@given(st.binary(max_size=200))
def test_any_bytes_as_a_command_are_read_or_refused(data: bytes) -> None:
    with suppress(MalformedDicomError):
        commands.decode_command(data)


@given(st.binary(max_size=200))
def test_any_bytes_as_an_answer_are_read_or_refused(data: bytes) -> None:
    with suppress(MalformedDicomError):
        dict(commands.decode_flat(data))


@given(st.binary(max_size=200))
def test_any_bytes_as_an_acceptance_are_read_or_refused(data: bytes) -> None:
    with suppress(MalformedDicomError):
        pdu.read_acceptance(bytes(68) + data)
    with suppress(MalformedDicomError):
        list(pdu.read_data_values(data))


@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_in_an_answer_are_stepped_over(undefined: bool) -> None:
    inner = Dataset()
    inner.StudyInstanceUID = "9.9.9"
    outer = Dataset()
    outer.ReferencedSeriesSequence = Sequence([inner])
    item = Dataset()
    item.RequestAttributesSequence = Sequence([outer, outer])
    item.SOPInstanceUID = "1.2.3"
    item.StudyInstanceUID = "1.2"
    for sequence in (item["RequestAttributesSequence"], outer["ReferencedSeriesSequence"]):
        sequence.is_undefined_length = undefined
        for member in sequence.value:
            member.is_undefined_length_sequence_item = undefined
    encoded = encode(item, True, True)
    assert encoded is not None
    read = dict(commands.decode_flat(encoded))
    assert read[(0x0008, 0x0018)] == b"1.2.3\0"
    assert read[(0x0020, 0x000D)] == b"1.2\0"


def test_missing_status_is_refused() -> None:
    with pytest.raises(MalformedDicomError, match="0000,0900"):
        commands.number({}, commands.STATUS)


def _request(*, operations_window: int = 1) -> bytes:
    return pdu.associate_request(
        "CALLED",
        "CALLING",
        [
            pdu.ContextProposal(_CT, ("1.2.840.10008.1.2.1",)),
            pdu.ContextProposal("1.2.3", ("1.4",)),
        ],
        maximum_length=16384,
        implementation_class_uid="2.25.1",
        implementation_version="V1",
        operations_window=operations_window,
    )


def test_association_request_is_read_by_the_library() -> None:
    read = A_ASSOCIATE_RQ()
    read.decode(_request())
    assert read.called_ae_title == "CALLED"
    assert read.calling_ae_title == "CALLING"
    assert [context.context_id for context in read.presentation_context] == [1, 3]
    assert [context.abstract_syntax for context in read.presentation_context] == [_CT, "1.2.3"]
    information = read.user_information
    assert information is not None
    assert information.maximum_length == 16384


def test_a_window_of_operations_is_read_by_the_library() -> None:
    read = A_ASSOCIATE_RQ()
    read.decode(_request(operations_window=12))
    assert read.user_information is not None
    window = read.user_information.async_ops_window
    assert window is not None
    assert (window.max_operations_invoked, window.max_operations_performed) == (12, 1)


def test_no_window_of_operations_is_proposed_unasked() -> None:
    read = A_ASSOCIATE_RQ()
    read.decode(_request())
    assert read.user_information is not None
    assert read.user_information.async_ops_window is None


@pytest.mark.parametrize(("item", "window"), [(b"", 1), (b"\0\7\0\1", 7), (b"\0\0\0\0", 0)])
def test_the_window_that_was_granted_is_read(item: bytes, window: int) -> None:
    user = struct.pack(">BxHI", 0x51, 4, 28672)
    user += struct.pack(">BxH", 0x53, 4) + item if item else b""
    answer = bytes(68) + struct.pack(">BxH", 0x50, len(user)) + user
    assert pdu.read_acceptance(answer).operations_window == window


def test_acceptance_is_read() -> None:
    items = struct.pack(">BxHBxBx", 0x21, 4 + 4 + 5, 1, 0) + struct.pack(">BxH", 0x40, 5) + b"1.2.1"
    items += struct.pack(">BxHBxBx", 0x21, 4, 3, 3)
    items += struct.pack(">BxH", 0x50, 8) + struct.pack(">BxHI", 0x51, 4, 28672)
    read = pdu.read_acceptance(bytes(68) + items)
    assert read.maximum_length == 28672
    assert read.answers == (pdu.ContextAnswer(1, 0, "1.2.1"), pdu.ContextAnswer(3, 3, ""))


def test_data_values_longer_than_their_pdu_are_refused() -> None:
    with pytest.raises(MalformedDicomError, match="longer"):
        list(pdu.read_data_values(struct.pack(">IBB", 100, 1, 3)))
