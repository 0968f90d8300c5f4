"""Whatever an archive answers: no surprise, bounded memory and disk, nothing outside the spool.

At night half a million archives: 240,000 that send instances, 240,000 that answer queries (each at
three levels), 20,000 whose studies are listed. What is sent to our own port is in
`test_acceptor_bytes`.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu
from dcmvault.dicom.association import NegotiatedContexts, PeerAssociation
from dcmvault.dicom.attribute_query import Answers, AttributeQuery
from dcmvault.dicom.channel import Channel, Peer
from dcmvault.dicom.find import FIND_PROPOSAL
from dcmvault.dicom.get_and_move import InstancesOfSeries, get_instances
from dcmvault.dicom.intake import Received, Room, Wanted
from dcmvault.dicom.pdu import Acceptance, ContextAnswer, ContextProposal
from dcmvault.dicom.query_model import MODELS, find_proposals
from dcmvault.dicom.retrieve import GET_PROPOSAL
from dcmvault.dicom.study_inventory import Keys, StudyInventory
from dcmvault.errors import DestinationError, MalformedDicomError
from dcmvault.sources.fetched_files import FetchedFiles
from dcmvault.sources.query_retrieve.listing import StudyListing, identity_in, study_attributes
from dcmvault.sources.query_retrieve.questions import Questions
from dcmvault.testing.capping_archive import ArchivedStudy, CappingArchive
from dcmvault.testing.dicom_files import make_instance

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
WANTED = ("1.2.3.4.1", "1.2.3.4.2")
PEER = Peer("127.0.0.1", 104, "HOSTILE", "DCMVAULT", dimse_timeout_s=5)
PROPOSALS = (FIND_PROPOSAL, GET_PROPOSAL, ContextProposal(CT, (EXPLICIT,), peer_sends=True))
FIND, GET, STORE = 1, 3, 5
LONGEST, MOST = 20_000, 30_000
#: Relational queries granted, with their item's head left out.
GRANTS = [pdu.relational_queries([model.find_uid])[4:] for model in MODELS]

uids = st.sampled_from(
    [*WANTED, "1.9", "../../../etc/passwd", "/etc/passwd", "..", "", "1.2\0/x", "\\", "a" * 300]
)
statuses = st.sampled_from([0xFF00, 0xFF01, 0, 0xB000, 0xA701, 0xA900, 0xFE00, 0xC001, 1])
mutations = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3)
relaxed = settings(
    deadline=None,
    max_examples=1500,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
for_long = settings(relaxed, max_examples=240_000)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The data set of an instance that is wanted."""
    path = tmp_path_factory.mktemp("made") / "one"
    make_instance(path, "1.2.3", "1.2.3.4", WANTED[0], rows=4, columns=4)
    whole = path.read_bytes()
    return whole[144 + int.from_bytes(whole[140:144], "little") :]


def element(number: int, value: bytes) -> bytes:
    return commands.encode_element(0, number, value)


def us(number: int) -> bytes:
    return number.to_bytes(2, "little")


def command(field: int, status: int, has_data: bool, uid: str = "") -> bytes:
    body = b"".join(
        [
            element(commands.AFFECTED_SOP_CLASS_UID, CT.encode() + b"\0"),
            element(commands.COMMAND_FIELD, us(field)),
            element(commands.MESSAGE_ID, us(7)),
            element(commands.MESSAGE_ID_BEING_RESPONDED_TO, us(1)),
            element(commands.DATA_SET_TYPE, us(1 if has_data else commands.NO_DATA_SET)),
            element(commands.STATUS, us(status)),
            element(commands.AFFECTED_SOP_INSTANCE_UID, uid.encode("latin-1")),
        ]
    )
    return element(0, len(body).to_bytes(4, "little")) + body


def data(context_id: int, part: bytes, control: int) -> bytes:
    value = pdu.PDV_HEADER.pack(len(part) + 2, context_id, control) + part
    return pdu.HEADER.pack(pdu.P_DATA_TF, len(value)) + value


def damaged(stream: bytes, how: list[tuple[float, int]]) -> bytes:
    changed = bytearray(stream)
    for where, value in how:
        if changed:
            changed[int(where * len(changed))] = value
    return bytes(changed)


def associated(stream: bytes) -> PeerAssociation:
    """Make an association whose peer says all this, whatever we say, and closes."""
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    theirs.settimeout(5)
    theirs.sendall(stream[: 1 << 17])
    theirs.shutdown(socket.SHUT_WR)
    answers = tuple(
        ContextAnswer(pdu.context_id_of(position), 0, proposal.transfer_syntax_uids[0])
        for position, proposal in enumerate(PROPOSALS)
    )
    association = PeerAssociation(PEER, Channel(ours, PEER), PROPOSALS, Acceptance(answers, 16384))
    association.theirs = theirs  # type: ignore[attr-defined]  # kept until it ends
    return association


moves_of_a_peer = st.lists(
    st.one_of(
        st.tuples(st.just("store"), uids, st.booleans()),
        st.tuples(st.just("noise"), st.binary(max_size=40), st.booleans()),
        st.tuples(st.just("flood"), uids, st.booleans()),
        st.tuples(st.just("say"), statuses, st.booleans()),
    ),
    max_size=8,
)


@given(moves_of_a_peer, mutations)
@relaxed
def test_sub_operations(
    content: bytes, moves: list[tuple[str, str | bytes | int, bool]], how: list[tuple[float, int]]
) -> None:
    _take_in(content, moves, how)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@given(moves_of_a_peer, mutations)
@for_long
def test_sub_operations_for_long(
    content: bytes, moves: list[tuple[str, str | bytes | int, bool]], how: list[tuple[float, int]]
) -> None:
    _take_in(content, moves, how)


def _take_in(
    content: bytes, moves: list[tuple[str, str | bytes | int, bool]], how: list[tuple[float, int]]
) -> None:
    stream = b"".join(b"".join(_sent(move, content)) for move in moves)
    taken: dict[str, Received] = {}
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", place)
        with FetchedFiles(kept=1, longest_file=LONGEST) as files:
            wanted = Wanted(frozenset(WANTED), files.new, Room(MOST), taken.__setitem__)
            association = associated(damaged(stream, how))
            with closing(association.theirs), suppress(DestinationError):  # type: ignore[attr-defined]
                get_instances(association, InstancesOfSeries("1.2.3", "1.2.3.4", WANTED), wanted)
            association.abort()
            there = [path for path in Path(place).rglob("*") if path.is_file()]
            assert sorted(there) == sorted(one.path for one in taken.values())
            assert all(path.name.isdecimal() for path in there)
            assert sum(path.stat().st_size for path in there) <= MOST
        assert set(taken) <= set(WANTED)
        assert all(one.header.sop_instance_uid == uid for uid, one in taken.items())
        assert list(Path(place).iterdir()) == []


def _sent(move: tuple[str, str | bytes | int, bool], content: bytes) -> Iterator[bytes]:
    kind, what, flag = move
    last = pdu.IS_LAST
    if kind == "noise":
        assert isinstance(what, bytes)
        yield what if flag else data(STORE, what, last)
    elif kind == "say":
        assert isinstance(what, int)
        said = command(commands.C_GET_RQ | commands.RESPONSE, what, has_data=flag)
        yield data(GET, said, pdu.IS_COMMAND | last)
    else:
        assert isinstance(what, str)
        said = command(commands.C_STORE_RQ, 0, has_data=True, uid=what)
        yield data(STORE, said, pdu.IS_COMMAND | last)
        if kind == "flood":
            yield from (data(STORE, bytes(8000), 0) for _part in range(4))
        yield data(STORE, content, last if flag else 0)


rows = st.lists(
    st.tuples(
        st.sampled_from(
            [
                (0x0008, 0x0005),
                (0x0008, 0x0018),
                (0x0008, 0x0020),
                (0x0010, 0x0010),
                (0x0010, 0x0020),
                (0x0020, 0x000D),
                (0x0020, 0x000E),
                (0x0020, 0x0013),
                (0x0020, 0x1209),
            ]
        ),
        st.one_of(
            st.sampled_from([b"1.2.3", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"../..", b"9" * 70]),
            st.binary(max_size=30),
        ),
    ),
    max_size=6,
)


@given(st.lists(st.tuples(rows, statuses), max_size=6), mutations)
@relaxed
def test_answers_to_queries(
    answers: list[tuple[list[tuple[tuple[int, int], bytes]], int]], how: list[tuple[float, int]]
) -> None:
    _read(answers, how)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@given(st.lists(st.tuples(rows, statuses), max_size=6), mutations)
@for_long
def test_answers_to_queries_for_long(
    answers: list[tuple[list[tuple[tuple[int, int], bytes]], int]], how: list[tuple[float, int]]
) -> None:
    _read(answers, how)


def _read(
    answers: list[tuple[list[tuple[tuple[int, int], bytes]], int]], how: list[tuple[float, int]]
) -> None:
    stream = b""
    for row, status in answers:
        identifier = commands.encode_identifier(
            (*tag, value + b" " * (len(value) % 2)) for tag, value in row
        )
        said = command(commands.C_FIND_RQ | commands.RESPONSE, status, has_data=bool(identifier))
        stream += data(FIND, said, pdu.IS_COMMAND | pdu.IS_LAST)
        if identifier:
            stream += data(FIND, identifier, pdu.IS_LAST)
    for level in ("STUDY", "SERIES", "IMAGE"):
        association = associated(damaged(stream, how))
        with closing(association.theirs), suppress(DestinationError):  # type: ignore[attr-defined]
            query = AttributeQuery(association, deadline=float("inf"))
            tags = {(0x0020, 0x000D), (0x0010, 0x0010), (0x0020, 0x000E), (0x0008, 0x0018)}
            found = query.ask(level, {(0x0020, 0x000D): "1.2.3"}, tags)
            for one in found.rows:
                assert all(len(value) <= 1024 for value in one.values())
                assert one.get((0x0020, 0x000D), "") in ("1.2.3", "")
                assert study_attributes(one)
        association.abort()


user_items = st.lists(
    st.tuples(
        st.sampled_from([pdu.ITEM_MAXIMUM_LENGTH, 0x53, pdu.ITEM_EXTENDED_NEGOTIATION, 0x99]),
        st.one_of(st.binary(max_size=40), st.sampled_from(GRANTS)),
    ),
    max_size=4,
)


@given(user_items, st.binary(max_size=60), mutations)
@relaxed
def test_any_acceptance_is_read_or_refused(
    inner: list[tuple[int, bytes]], noise: bytes, how: list[tuple[float, int]]
) -> None:
    user = b"".join(pdu.item(kind, value) for kind, value in inner)
    body = bytes(68) + pdu.item(pdu.ITEM_USER_INFORMATION, user) + noise
    with suppress(MalformedDicomError):
        accepted = pdu.read_acceptance(damaged(body, how))
        contexts = NegotiatedContexts(find_proposals(relational=True), accepted)
        assert contexts.relational <= {model.find_uid for model in MODELS}
        assert not NegotiatedContexts(find_proposals(relational=False), accepted).relational


@given(st.text(max_size=100))
def test_a_locator_is_three_uids_or_none(locator: str) -> None:
    identity = identity_in(locator)
    if identity is not None:
        parts = locator.split("/")
        assert parts == [
            identity.study_instance_uid,
            identity.series_instance_uid,
            identity.sop_instance_uid,
        ]
        assert all(commands.is_usable_uid(part) for part in parts)


class Scripted(Questions):
    """Answers from a list, again and again."""

    needs_patient = False

    def __init__(self, answers: list[Answers], *, relational: bool) -> None:
        super().__init__(PEER)
        self.answers = answers
        self.relational = relational
        self.asked = 0

    @property
    def is_relational(self) -> bool:
        return self.relational

    def ask(self, level: str, keys: object, returned: object) -> Answers:
        self.asked += 1
        return self.answers[self.asked % len(self.answers)]


texts = st.sampled_from(["", "1", "2", "7", "1.2.3", "1.2.4", "..", "99999999", "x", "../x", "-1"])
told = st.dictionaries(
    st.sampled_from(
        [(0x0008, 0x0018), (0x0020, 0x000E), (0x0020, 0x0013), (0x0020, 0x1209), (0x0008, 0x0016)]
    ),
    texts,
)


@given(
    st.lists(st.builds(Answers, st.lists(told, max_size=5), st.booleans()), min_size=1),
    st.booleans(),
)
@settings(relaxed, max_examples=300)
def test_a_study_is_listed_whatever_is_told_of_it(answers: list[Answers], relational: bool) -> None:
    _list(answers, relational=relational)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@given(
    st.lists(st.builds(Answers, st.lists(told, max_size=5), st.booleans()), min_size=1),
    st.booleans(),
)
@settings(relaxed, max_examples=20_000)
def test_studies_are_listed_for_long(answers: list[Answers], relational: bool) -> None:
    _list(answers, relational=relational)


def _list(answers: list[Answers], *, relational: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcmvault.sources.query_retrieve.listing._MOST_NUMBERS", 200)
        listing = StudyListing(
            Scripted(answers, relational=relational), "1.2", study_attributes({})
        )
        entries = list(listing.entries())
    locators = [entry.locator for entry in entries]
    assert len(set(locators)) == len(locators)
    assert all(identity_in(locator) for locator in locators)


studies = st.lists(
    st.builds(
        ArchivedStudy,
        st.uuids().map(lambda made: f"2.25.{made.int}"),
        st.sampled_from(["20200101", "20200102", "20210304", "19991231", "2020.01.03", ""]),
        st.sampled_from(["", "1200", "120000", "120001.5", "235959", "00"]),
        st.sampled_from(["CT", "MR", "US"]),
        st.text("01AB-z", min_size=1, max_size=4),
    ),
    max_size=80,
    unique_by=lambda study: study.study_instance_uid,
)


@given(
    studies,
    st.one_of(
        # A cap that the peer or the configuration tells; or one that somebody would choose.
        st.tuples(st.integers(3, 30), st.sampled_from(["peer", "configuration"])),
        st.tuples(st.sampled_from([16, 32, 50, 64]), st.just("nobody")),
    ),
    st.booleans(),
)
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_everything_is_found_or_doubted(
    held: list[ArchivedStudy], told_cap: tuple[int, str], ignores_dates: bool
) -> None:
    cap, who_tells = told_cap
    ignored = [(0x0008, 0x0020)] if ignores_dates else []
    archive = CappingArchive(held, cap=cap, ignores=ignored)

    def ask(keys: Keys) -> Answers:
        found = archive._matching(keys)
        return Answers(found[:cap], is_cut=who_tells == "peer" and len(found) > cap)

    inventory = StudyInventory(ask, cap if who_tells == "configuration" else 0)
    inventory.collect()
    missing = {study.study_instance_uid for study in held} - set(inventory.found)
    assert not missing or inventory.doubts
    assert set(inventory.confirm(sorted(missing))) == missing
