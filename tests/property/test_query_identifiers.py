"""Whatever a query holds, it is answered or refused, in time; nothing of ours breaks."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.integration.archive_world import ArchiveWorld
from tests.integration.listener_world import request
from tests.integration.raw_peer import data_pdu
from tests.integration.serving_world import AE_TITLE, Journal

from dcmvault.archives.vault import VaultArchive
from dcmvault.dicom import attributes as tags
from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu
from dcmvault.dicom.archive_association import ArchiveAssociation, ArchiveService
from dcmvault.dicom.association_scp import AssociationScp, ScpRules, _Connection
from dcmvault.dicom.attributes import vr_of
from dcmvault.dicom.file_meta import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from dcmvault.dicom.matching import matcher
from dcmvault.dicom.query_identifiers import AnswerEncoder, decode_identifier
from dcmvault.errors import MalformedDicomError
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_study

_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_GET = "1.2.840.10008.5.1.4.1.2.2.3"
_CT = "1.2.840.10008.5.1.4.1.1.2"

_TAGS = st.sampled_from(
    [
        tags.PATIENT_NAME,
        tags.PATIENT_ID,
        tags.STUDY_DATE,
        tags.STUDY_TIME,
        0x0008002A,  # DT
        tags.STUDY_INSTANCE_UID,
        tags.INSTANCE_NUMBER,
        tags.STUDY_DESCRIPTION,
        0x00280010,  # US
        0x00280009,  # AT
        0x00281052,  # DS
    ]
)
_KEYS = st.text(alphabet="aé*?\\-.^=:0123456789 \x00山", max_size=40) | st.text(max_size=40)


@given(tag=_TAGS, key=_KEYS, value=_KEYS)
@example(tag=tags.PATIENT_NAME, key="*a*a*a*a*a*a*a*a*a*a*a*a*b", value="a" * 4000)
@example(tag=tags.STUDY_DESCRIPTION, key="?" * 2000 + "*", value="x" * 4000)
def test_any_key_is_compared_with_any_value(tag: int, key: str, value: str) -> None:
    test = matcher(tag, key)
    if test is not None:
        assert test(value) in (True, False)
    if value and not set(value) & set("*?\\-= \x00^.:") and vr_of(tag) != "AT":
        same = matcher(tag, value)
        assert same is not None
        assert same(value)


@given(data=st.binary(max_size=400), explicit=st.booleans())
def test_any_bytes_are_an_identifier_or_malformed(data: bytes, explicit: bool) -> None:
    syntax = EXPLICIT_VR_LITTLE_ENDIAN if explicit else IMPLICIT_VR_LITTLE_ENDIAN
    try:
        identifier = decode_identifier(data, syntax)
    except MalformedDicomError:
        return
    answer = AnswerEncoder(identifier, "STUDY", AE_TITLE, syntax).encode(identifier.keys)
    again = decode_identifier(answer, syntax)
    assert set(identifier.tags) - {tags.RETRIEVE_AE_TITLE} <= set(again.tags)


class _Complaints(logging.Handler):
    """Collects what is logged as a defect of ours."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultArchive]:
    """An archive with one study."""
    folder: Path = tmp_path_factory.mktemp("fuzzed")
    world = ArchiveWorld(folder / "vault")
    world.back_up([one.path for one in make_study(folder / "s", key="fuzz", instances=2)])
    with world.archive() as archive:
        yield archive


def _identifier(study: str) -> bytes:
    elements = (
        (0x0008, 0x0005, b"ISO_IR 192"),
        (0x0008, 0x0020, b"20200101-20210101 "),
        (0x0008, 0x0052, b"STUDY "),
        (0x0008, 0x0061, b""),
        (0x0010, 0x0010, b"Doe*"),
        (0x0020, 0x000D, commands.encode_uid(study)),
        (0x0020, 0x1208, b""),
    )
    return commands.encode_identifier(elements)


def _conversation(study: str) -> bytes:
    """A whole conversation: association, C-FIND, C-CANCEL, C-GET, release."""
    implicit = (IMPLICIT_VR_LITTLE_ENDIAN,)
    proposals = (
        pdu.ContextProposal(_FIND, implicit),
        pdu.ContextProposal(_GET, implicit),
        pdu.ContextProposal(_CT, implicit, peer_sends=True),
    )
    identifier = _identifier(study)
    find = commands.encode_request(commands.C_FIND_RQ, 1, _FIND, has_data_set=True)
    get = commands.encode_request(commands.C_GET_RQ, 2, _GET, has_data_set=True)
    return b"".join(
        (
            request(*proposals),
            data_pdu(3, find, is_command=True),
            data_pdu(3, identifier, is_command=False),
            data_pdu(5, get, is_command=True),
            data_pdu(5, identifier, is_command=False),
            pdu.release_request(),
        )
    )


def _talk(scp: AssociationScp, stream: bytes) -> None:
    """Send bytes, and nothing more, to a connection that is served to its end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as door,
        socket.create_connection(door.getsockname()) as theirs,
    ):
        ours, _address = door.accept()
        # So many connections must not use up the ports.
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.sendall(stream)
        theirs.shutdown(socket.SHUT_WR)
        scp._attend(_Connection(ours, "127.0.0.1"))


def _scp(archive: VaultArchive, journal: Journal) -> AssociationScp:
    service = ArchiveService(AE_TITLE, archive, journal, {}, FakeClock().now, 5.0)
    rules = ScpRules(AE_TITLE, idle_timeout_s=5, artim_timeout_s=5)
    return AssociationScp(rules, lambda connected: ArchiveAssociation(service, connected))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_bytes_end_an_association_in_order(archive: VaultArchive, data: st.DataObject) -> None:
    study = archive._view.table.rows[0].study_instance_uid
    seed = _conversation(study)
    journal = Journal()
    scp = _scp(archive, journal)
    stream = bytearray(seed)
    for _change in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(stream) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if kind == "flip":
            stream[at] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del stream[at : at + data.draw(st.integers(1, 50))]
        else:
            stream[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        if not stream:
            break
    complaints = _Complaints()
    logger = logging.getLogger("dcmvault.dicom")
    logger.addHandler(complaints)
    try:
        _talk(scp, bytes(stream))
    finally:
        logger.removeHandler(complaints)
    assert complaints.records == []
    if bytes(stream) == seed:
        assert journal.accesses[0].service == "C-FIND"
        assert journal.accesses[0].answers == 1
