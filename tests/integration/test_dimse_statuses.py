"""Every status of a C-STORE, every rejection and every abort: from a peer to the end of a run."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault
from tests.integration.dimse_story import destination_at, put_each, study_files
from tests.integration.flow_world import Flow, counts_of
from tests.integration.raw_peer import Asked, raw_peer, read_pdu
from tests.integration.story import QUICK_RETRIES, instances, summary_of

from dcmvault import i18n
from dcmvault.dicom.pdu import A_ABORT, A_ASSOCIATE_RJ, HEADER
from dcmvault.dicom.status import store_status
from dcmvault.errors import AssociationLostError
from dcmvault.model.evidence import Level
from dcmvault.model.report import Failure, RunReport
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_instance
from dcmvault.testing.peer_faults import Action, Arrival, fault_from_text
from dcmvault.testing.peers import SimulatedPacs

#: By PS3.7 Annex C and PS3.4 table B.2-1: first, middle and last of what has a meaning of its own.
STORED_WITH_CHANGES = [0x0001, 0x0107, 0x0116, 0xB000, 0xB001, 0xB006, 0xB007, 0xB123, 0xBFFF]
RETRIED = [0x0110, 0x0210, 0x0213, 0xA700, 0xA7C3, 0xA7FF, 0xFE00]
REFUSED = [
    *(0x0105, 0x0106, 0x0112, 0x0113, 0x0114, 0x0115, 0x0117, 0x0118, 0x0119, 0x0120, 0x0121),
    *(0x0122, 0x0123, 0x0211, 0x0212, 0xA900, 0xA9AA, 0xA9FF, 0xC000, 0xC5A5, 0xCFFF),
    *(0xFF00, 0xFF01),
    # Reserved, or a peer's own: failures all the same.
    *(0x0002, 0x0125, 0x02FF, 0x1234, 0xA000, 0xA801, 0xDEAD, 0xFFFF),
]
DUPLICATE = 0x0111
NOT_AUTHORISED = 0x0124


def _id(status: int) -> str:
    return f"{status:04X}"


each_refused = pytest.mark.parametrize("status", REFUSED, ids=_id)
each_retried = pytest.mark.parametrize("status", RETRIED, ids=_id)
each_with_changes = pytest.mark.parametrize("status", STORED_WITH_CHANGES, ids=_id)


@pytest.fixture(autouse=True)
def _language_back() -> Iterator[None]:
    yield
    i18n.use_language("en")


@dataclass
class World:
    """A flow to one peer that answers the first instance of each study with `status`."""

    flow: Flow
    folder: Path
    pacs: SimulatedPacs | None = None
    address: str = ""
    status: int = 0
    keeps: bool = False
    #: Whether all other instances are answered so, too.
    for_all: bool = False
    runs: int = 0

    def answer(self, arrival: Arrival) -> Action:
        if self.for_all or arrival.sop_instance_uid.endswith(".1"):
            return Action(self.status, keeps=self.keeps)
        return Action()

    def backup(
        self,
        status: int,
        *,
        keeps: bool = False,
        level: Level = Level.COMPLETE,
        others: int = 1,
        for_all: bool = False,
    ) -> RunReport:
        assert self.pacs is not None
        self.status, self.keeps, self.for_all = status, keeps, for_all
        self.runs += 1
        study = f"1.2.{self.runs}"
        source = self.folder / study
        for number in range(1, 2 + others):
            uid = f"{study}.3.{number}"
            make_instance(source / f"{number}.dcm", study, f"{study}.3", uid)
        return self.flow.backup(source, self.address, level=level)

    @property
    def times(self) -> int:
        """How often the first instance of the last study came."""
        assert self.pacs is not None
        return self.pacs.received.count(f"1.2.{self.runs}.3.1")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("statuses")
    world = World(Flow(folder, FakeClock()), folder)
    with SimulatedPacs(world.answer) as pacs:
        world.pacs = pacs
        # One after the other: nothing is on its way beside what is refused.
        destination = destination_at(pacs.port, pacs.ae_title, max_associations=1)
        world.address = destination.name
        world.flow.destinations[destination.name] = destination
        yield world
    world.flow.catalogue.close()


def _assert_told(told: Failure, status: int) -> None:
    """Check that status, cause and remedy are there, in both languages."""
    row = store_status(status)
    assert told.status == f"{status:04X}"
    assert row.meaning in told.message
    assert told.hint == f"{row.cause} {row.remedy}"
    i18n.use_language("pt-BR")
    cause, remedy = i18n.gettext(row.cause), i18n.gettext(row.remedy)
    assert cause != row.cause
    assert remedy != row.remedy
    assert i18n.sentence(told.hint) == f"{cause} {remedy}"
    assert i18n.gettext(row.meaning) != row.meaning
    assert i18n.gettext(row.meaning) in i18n.sentence(told.message)
    assert "answered" not in i18n.sentence(told.message)


def test_success(world: World) -> None:
    report = world.backup(0x0000, keeps=True)
    assert (counts_of(report), report.exit_status) == ({"selected": 2, "stored": 2}, 0)
    assert report.warned == ()


@each_with_changes
def test_a_warning_is_a_claim_and_is_told(world: World, status: int) -> None:
    report = world.backup(status, keeps=True)
    assert (counts_of(report), report.exit_status) == ({"selected": 2, "stored": 2}, 0)
    (warned,) = report.warned
    assert warned.code == "stored_with_warning"
    _assert_told(warned, status)


def test_a_warning_for_what_is_not_there_is_no_copy(world: World) -> None:
    report = world.backup(0xB000, keeps=False)
    assert report.exit_status == 3
    assert [failure.code for failure in report.failures] == ["missing"]


@each_retried
def test_refused_for_now_is_tried_three_times(world: World, status: int) -> None:
    report = world.backup(status)
    assert (counts_of(report), report.exit_status) == (
        {"selected": 2, "stored": 1, "failed": 1},
        3,
    )
    assert world.times == 3
    (failure,) = report.failures
    assert failure.code == "refused_for_now"
    _assert_told(failure, status)


@each_refused
def test_refused_for_good_is_tried_once(world: World, status: int) -> None:
    report = world.backup(status)
    assert (counts_of(report), report.exit_status) == (
        {"selected": 2, "stored": 1, "failed": 1},
        3,
    )
    assert world.times == 1
    (failure,) = report.failures
    assert failure.code == "refused"
    _assert_told(failure, status)


def test_a_duplicate_is_looked_for(world: World) -> None:
    report = world.backup(DUPLICATE, keeps=True)
    assert report.exit_status == 0
    (warned,) = report.warned
    _assert_told(warned, DUPLICATE)
    assert world.backup(DUPLICATE, keeps=False).exit_status == 3


def test_a_duplicate_is_no_receipt_for_our_bytes(world: World) -> None:
    report = world.backup(DUPLICATE, keeps=True, level=Level.SENT)
    assert report.exit_status == 3
    (failure,) = report.failures
    assert (failure.code, failure.status) == ("duplicate", "0111")


def test_not_authorised_ends_the_work_of_the_destination(world: World) -> None:
    report = world.backup(NOT_AUTHORISED, others=20, for_all=True)
    assert report.exit_status == 5
    assert world.pacs is not None
    # What was in flight beside it is answered so, too; nothing further is begun.
    assert len([uid for uid in world.pacs.received if uid.startswith(f"1.2.{world.runs}.")]) < 10
    assert {failure.code for failure in report.failures} == {"destination_stopped"}
    assert len(report.failures) == 21
    for failure in report.failures:
        _assert_told(failure, NOT_AUTHORISED)


@pytest.mark.parametrize(
    ("status", "exit_status", "code"),
    [
        (0xB006, 0, "stored_with_warning"),
        (0x0122, 3, "refused"),
        (NOT_AUTHORISED, 5, "destination_stopped"),
    ],
    ids=["B006", "0122", "0124"],
)
def test_on_the_command_line(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path, status: int, exit_status: int, code: str
) -> None:
    (home / "config.toml").write_text(QUICK_RETRIES)
    make_instance(tmp_path / "studies" / "1.dcm", "1.2.3", "1.2.4", "1.2.5")
    fault = fault_from_text(
        f"warn={status:04X}" if exit_status == 0 else f"refuse-every=1:{status:X}"
    )
    with SimulatedPacs(fault) as pacs:
        address = f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"
        done = run_dcmvault("backup", tmp_path / "studies", "--to", address, "--json")
    summary = summary_of(done, exit_status)
    assert instances(summary).get("stored", 0) == (exit_status == 0)
    (told,) = summary["failures"] + summary["warned"]
    row = store_status(status)
    assert (told["code"], told["status"]) == (code, f"{status:04X}")
    assert told["hint"] == f"{row.cause} {row.remedy}"


# Rejections and aborts.

#: (result, source, reason) of PS3.8 table 9-21, and two that it does not have.
REJECTIONS = [
    (1, 1, 1, "no reason"),
    (1, 1, 2, "application context"),
    (1, 1, 3, "calling"),
    (1, 1, 7, "called"),
    (1, 2, 1, "no reason"),
    (1, 2, 2, "version"),
    (2, 3, 1, "congested"),
    (2, 3, 2, "as many associations"),
    (1, 1, 9, "source 1, reason 9"),
    (2, 7, 7, "source 7, reason 7"),
]


@contextmanager
def _rejecting(body: bytes, kind: int) -> Iterator[int]:
    """Answer every association request with one short PDU."""

    def serve() -> None:
        while True:
            try:
                connection, _address = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                read_pdu(connection)
                connection.sendall(HEADER.pack(kind, 4) + body)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(15)


def _assert_in_both_languages(message: str, hint: str) -> None:
    """Check that what happened, why, and what to do are translated."""
    i18n.use_language("en")
    assert (i18n.sentence(message), i18n.sentence(hint)) == (message, hint)
    i18n.use_language("pt-BR")
    what, _colon, why = i18n.sentence(message).rpartition(": ")
    english_what, _colon, english_why = message.rpartition(": ")
    assert what != english_what
    assert why != english_why
    assert hint
    assert i18n.sentence(hint) != hint


@pytest.mark.parametrize(("result", "source", "reason", "words"), REJECTIONS)
def test_rejected_associations(
    world: World, result: int, source: int, reason: int, words: str
) -> None:
    folder = world.folder / f"rejected {result}{source}{reason}"
    make_instance(folder / "1.dcm", "1.3.3", "1.3.4", "1.3.5")
    with _rejecting(bytes([0, result, source, reason]), A_ASSOCIATE_RJ) as port:
        report = world.flow.backup(folder, f"dicom://PEER@127.0.0.1:{port}")
    assert report.exit_status == 5
    (failure,) = report.failures
    assert failure.code == ("association_rejected" if result == 1 else "association_deferred")
    assert words in failure.message
    _assert_in_both_languages(failure.message, failure.hint)


#: (source, reason) of PS3.8 table 9-26, and two that it does not have.
ABORTS = [
    (0, 0, "its application gave up"),
    (2, 0, "no reason"),
    (2, 1, "does not recognise a message"),
    (2, 2, "did not expect this message"),
    (2, 4, "does not recognise a parameter"),
    (2, 5, "did not expect a parameter"),
    (2, 6, "invalid"),
    (2, 3, "source 2, reason 3"),
    (1, 0, "source 1, reason 0"),
]


@pytest.mark.parametrize(("source", "reason", "words"), ABORTS)
def test_aborted_associations(tmp_path: Path, source: int, reason: int, words: str) -> None:
    (file,) = study_files(tmp_path, 1)

    def abort(asked: Asked) -> None:
        asked.connection.sendall(HEADER.pack(A_ABORT, 4) + bytes([0, 0, source, reason]))

    with raw_peer(abort) as port:
        (error,) = put_each(destination_at(port), [file])
    assert isinstance(error, AssociationLostError)
    assert words in error.message
    _assert_in_both_languages(error.message, error.hint)


@pytest.mark.parametrize("length", [0, 2, 3])
def test_an_abort_that_is_cut_short_is_an_abort(tmp_path: Path, length: int) -> None:
    (file,) = study_files(tmp_path, 1)
    answer: Callable[[Asked], None] = lambda asked: asked.connection.sendall(  # noqa: E731
        HEADER.pack(A_ABORT, length) + bytes(length)
    )
    with raw_peer(answer) as port:
        (error,) = put_each(destination_at(port), [file])
    assert isinstance(error, AssociationLostError)
    assert "aborted" in error.message


@pytest.mark.parametrize("source", [0, 2])
def test_an_abort_instead_of_an_association(world: World, source: int) -> None:
    folder = world.folder / f"aborted {source}"
    make_instance(folder / "1.dcm", "1.4.3", "1.4.4", "1.4.5")
    with _rejecting(bytes([0, 0, source, 0]), A_ABORT) as port:
        report = world.flow.backup(folder, f"dicom://PEER@127.0.0.1:{port}")
    assert report.exit_status == 5
    (failure,) = report.failures
    assert failure.code == "unreachable"
    assert "aborted" in failure.message
    _assert_in_both_languages(failure.message, failure.hint)
