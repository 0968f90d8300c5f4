"""Storage commitment: only what a peer's report names under our own transaction is committed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from scripts import peer_processes
from scripts.peer_launch import free_port
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault, _running
from tests.integration.dimse_story import expected, put_each, sop_uids, study_files
from tests.integration.story import summary_of

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.commitment_coding import Outcome, Reference
from dcmvault.dicom.commitment_report import send_report
from dcmvault.errors import AssociationLostError, DestinationError
from dcmvault.model.evidence import ExpectedStudy, Finding, Level, Verification
from dcmvault.model.instance import InstanceFile
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.committing_pacs import CommitmentBehaviour, CommittingPacs
from dcmvault.testing.peer_faults import QueryBehaviour
from dcmvault.testing.peers import SimulatedPacs

INSTANCES = 4


@dataclass
class _World:
    """A simulated PACS that was sent a study, and the destination that it is for us."""

    pacs: CommittingPacs
    destination: DimseDestination
    files: list[InstanceFile]
    study: ExpectedStudy
    port: int

    def verify(self) -> Verification:
        return self.destination.verify(self.study, Level.COMMITTED)

    def found(self) -> list[Finding]:
        return list(self.verify().findings.values())

    @property
    def uids(self) -> list[str]:
        return sop_uids(self.files)


def _destination(pacs_port: int, port: int = 0, **options: float) -> DimseDestination:
    section = DimseDestinationSection(
        host="127.0.0.1",
        port=pacs_port,
        called_ae_title="SIMULATED",
        calling_ae_title="BACKUP",
        commitment_port=port,
        commitment_host="127.0.0.1",
        commitment_timeout_s=options.pop("timeout_s", 10),
        dimse_timeout_s=5,
        max_associations=int(options.pop("max_associations", 4)),
    )
    assert not options
    return DimseDestination(section, FakeClock())


def _only_transaction(verification: Verification) -> dict[str, Any]:
    rows = verification.proof["transactions"]
    assert isinstance(rows, list)
    (row,) = rows
    assert isinstance(row, dict)
    return row


@pytest.fixture
def world(tmp_path: Path) -> Iterator[_Worlds]:
    worlds = _Worlds(tmp_path)
    yield worlds
    for one in worlds.open:
        one.destination.close_idle()
        one.pacs.stop()


class _Worlds:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open: list[_World] = []

    def __call__(
        self,
        behaviour: CommitmentBehaviour | None = None,
        *,
        queries: QueryBehaviour | None = None,
        listens: bool | None = None,
        instances: int = INSTANCES,
        **options: float,
    ) -> _World:
        port = free_port()
        behaviour = behaviour or CommitmentBehaviour()
        listens = behaviour.reports == "new" if listens is None else listens
        pacs = CommittingPacs(
            behaviour, report_to=Peer("127.0.0.1", port, "BACKUP", "SIMULATED"), queries=queries
        )
        pacs.start()
        files = study_files(self.folder / f"study{len(self.open)}", instances)
        destination = _destination(pacs.port, port if listens else 0, **options)
        world = _World(pacs, destination, files, expected(files), port)
        self.open.append(world)
        put_each(destination, files)
        assert pacs.held() == set(world.uids)
        return world


@pytest.mark.parametrize("reports", ["same", "new"])
def test_a_report_on_either_association(world: _Worlds, reports: str) -> None:
    one = world(CommitmentBehaviour(reports=reports))  # type: ignore[arg-type]
    verification = one.verify()
    assert set(verification.findings.values()) == {Finding.HELD}
    transaction = _only_transaction(verification)
    assert transaction["action_status"] == "0000"
    assert transaction["committed"] == INSTANCES
    assert transaction["event_type"] == 1
    way = {"same": "on the association of the request", "new": "on an association of the peer's"}
    assert transaction["reported"] == way[reports]
    assert one.pacs.requests == [(transaction["transaction_uid"], INSTANCES)]
    assert verification.proof["listed"]["expected_instances"] == INSTANCES  # type: ignore[index]
    one.pacs.stop()
    assert one.pacs.answers == [0]


def test_a_fresh_transaction_each_time(world: _Worlds) -> None:
    one = world()
    one.verify()
    one.verify()
    (first, _), (second, _) = one.pacs.requests
    assert first != second


def test_reports_on_the_same_association_though_we_listen(world: _Worlds) -> None:
    """A peer may choose (PS3.4 section J.3.3): both ways are open at once."""
    one = world(CommitmentBehaviour(delay_s=0.2), listens=True)
    assert set(one.found()) == {Finding.HELD}


def test_a_peer_that_reports_when_its_association_has_ended(world: _Worlds) -> None:
    one = world(CommitmentBehaviour(reports="new", delay_s=0.2, releases=True))
    assert set(one.found()) == {Finding.HELD}


def test_failures_are_told_one_by_one(world: _Worlds) -> None:
    one = world()
    gone, conflict, unable, _fine = one.uids
    one.pacs._behaviour = CommitmentBehaviour(
        fails={gone: 0x0112, conflict: 0x0119, unable: 0x0110}
    )
    verification = one.verify()
    assert list(verification.findings.values()) == [
        Finding.MISSING,
        Finding.DAMAGED,
        Finding.UNKNOWN,
        Finding.HELD,
    ]
    assert list(verification.reasons.values()) == [
        "the peer does not commit to it: no such object instance (0112)",
        "the peer does not commit to it: it has another SOP class (0119)",
        "the peer does not commit to it: processing failure (0110)",
    ]
    transaction = _only_transaction(verification)
    assert transaction["failed"] == {"0110": 1, "0112": 1, "0119": 1}
    assert transaction["event_type"] == 2


def test_what_a_report_leaves_out_is_unknown(world: _Worlds) -> None:
    one = world()
    one.pacs._behaviour = CommitmentBehaviour(leaves_out=one.uids[:1])
    verification = one.verify()
    assert list(verification.findings.values()) == [Finding.UNKNOWN] + [Finding.HELD] * 3
    (reason,) = verification.reasons.values()
    assert reason == "the peer's report of storage commitment does not name it"


@pytest.mark.parametrize("listens", [False, True])
def test_no_report_is_unknown(world: _Worlds, listens: bool) -> None:
    one = world(CommitmentBehaviour(reports="nowhere"), listens=listens, timeout_s=0.3)
    verification = one.verify()
    assert set(verification.findings.values()) == {Finding.UNKNOWN}
    assert set(verification.reasons.values()) == {
        "the peer sent no report of storage commitment within 0.3 s"
    }


def test_a_late_report_is_taken_and_changes_nothing(world: _Worlds) -> None:
    """The peer need not come again, but the question stays open; the next one is answered."""
    one = world(CommitmentBehaviour(reports="new", delay_s=0.6), timeout_s=0.2)
    assert set(one.found()) == {Finding.UNKNOWN}
    one.destination._commitment = replace(one.destination._commitment, timeout_s=5)
    assert set(one.found()) == {Finding.HELD}
    one.pacs.stop()
    assert set(one.pacs.answers) == {0}


@pytest.mark.parametrize("reports", ["same", "new"])
def test_a_foreign_transaction_is_refused(world: _Worlds, reports: str) -> None:
    one = world(
        CommitmentBehaviour(reports=reports, transaction_uid="1.2.3"),  # type: ignore[arg-type]
        timeout_s=0.5,
    )
    verification = one.verify()
    assert set(verification.findings.values()) == {Finding.UNKNOWN}
    assert verification.proof["refused_reports"] == 1
    one.pacs.stop()
    assert one.pacs.answers == [0x0115]


@pytest.mark.parametrize("reports", ["same", "new"])
@pytest.mark.parametrize("garbage", [b"\x08\x00", b"\x08\x00\x95\x11\xff\xff\xff\x7f", b"\0" * 64])
def test_garbage_is_refused(world: _Worlds, reports: str, garbage: bytes) -> None:
    one = world(
        CommitmentBehaviour(reports=reports, garbage=garbage),  # type: ignore[arg-type]
        timeout_s=0.5,
    )
    assert set(one.found()) == {Finding.UNKNOWN}


def test_a_report_that_comes_twice_counts_once(world: _Worlds) -> None:
    one = world(CommitmentBehaviour(reports="new", times=3))
    assert set(one.found()) == {Finding.HELD}


def test_a_request_that_is_not_understood(world: _Worlds) -> None:
    one = world(CommitmentBehaviour(action_status=0x0110))
    verification = one.verify()
    assert set(verification.findings.values()) == {Finding.UNKNOWN}
    assert set(verification.reasons.values()) == {
        "the peer answered 0110 to the request for storage commitment"
    }


def test_what_the_peer_does_not_list_is_not_asked_for(world: _Worlds) -> None:
    """A peer that commits to what it lost is found out where its own lists tell the truth."""
    one = world(CommitmentBehaviour(commits_to_all=True))
    one.pacs.lose(one.uids[0])
    assert one.found() == [Finding.MISSING] + [Finding.HELD] * 3
    assert [count for _uid, count in one.pacs.requests] == [INSTANCES - 1]


def test_a_peer_that_answers_no_queries_can_still_commit(world: _Worlds) -> None:
    refusing = QueryBehaviour(refuses_levels=("STUDY", "SERIES", "IMAGE"))
    one = world(queries=refusing)
    assert set(one.found()) == {Finding.HELD}


def test_many_instances_go_in_several_requests(
    world: _Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcmvault.dicom.commitment_scu.MOST_IN_ONE", 3)
    for reports in ("same", "new"):
        one = world(CommitmentBehaviour(reports=reports), instances=7)
        assert set(one.found()) == {Finding.HELD}
        assert [count for _uid, count in one.pacs.requests] == [3, 3, 1]


def test_a_peer_without_the_service(tmp_path: Path) -> None:
    files = study_files(tmp_path, 1)
    with SimulatedPacs() as pacs:
        destination = _destination(pacs.port)
        put_each(destination, files)
        with pytest.raises(DestinationError, match="offers no storage commitment"):
            destination.verify(expected(files), Level.COMMITTED)
        destination.close_idle()


def test_two_destinations_share_a_port(world: _Worlds) -> None:
    """Whoever comes second waits for the port; nobody fails."""
    one = world(CommitmentBehaviour(reports="new"))
    busy = _destination(one.pacs.port, one.port)
    busy._commitment = replace(busy._commitment, timeout_s=0.2)
    receiver = one.destination._commitment.receiver
    assert receiver is not None
    with (
        receiver.listening(lambda: (), 1),
        pytest.raises(DestinationError, match="cannot be listened on"),
    ):
        busy.verify(one.study, Level.COMMITTED)
    assert set(one.found()) == {Finding.HELD}
    busy.close_idle()


def test_strangers_bring_no_reports(world: _Worlds) -> None:
    """Nobody else's report is believed, though it says what would be welcome."""
    one = world(CommitmentBehaviour(reports="nowhere"), listens=True, timeout_s=1)
    references = [
        Reference(instance.sop_class_uid, instance.identity.sop_instance_uid)
        for instance in one.study.instances
    ]
    receiver = one.destination._commitment.receiver
    assert receiver is not None
    with receiver.listening(lambda: {"127.0.0.1"}, 1):
        peer = Peer("127.0.0.1", one.port, "BACKUP", "ANYBODY")
        assert send_report(peer, Outcome("2.25.1", tuple(references), ())) == 0x0115
        with pytest.raises(DestinationError):
            send_report(replace(peer, called_ae_title="OTHER"), Outcome("2.25.1", (), ()))
    with receiver.listening(lambda: {"192.0.2.1"}, 1), pytest.raises(DestinationError):
        send_report(peer, Outcome("2.25.1", (), ()))


@dataclass(frozen=True)
class _Committing:
    orthanc: Orthanc
    port: int

    def address(self) -> str:
        return f"dicom://ORTHANC@127.0.0.1:{self.orthanc.dicom_port}?calling=BACKUP"


@pytest.fixture(scope="module")
def committing() -> Iterator[_Committing]:
    """An Orthanc that reports to a port of this machine."""
    port = free_port()
    starter = peer_processes.orthanc(DicomModalities={"us": ["BACKUP", "127.0.0.1", port]})
    with _running(lambda: starter) as peer:
        yield _Committing(peer, port)


def _configure(home: Path, committing: _Committing, **options: object) -> None:
    lines = [f'address = "{committing.address()}"', f"commitment_port = {committing.port}"]
    lines += [f"{name} = {value}" for name, value in options.items()]
    (home / "config.toml").write_text("[destinations.pacs]\n" + "\n".join(lines))


@pytest.mark.peers
def test_orthanc_commits(
    tmp_path: Path, home: Path, run_dcmvault: RunDcmvault, committing: _Committing
) -> None:
    """A backup asks Orthanc for commitment, and a verification does again; a loss is named."""
    files = study_files(tmp_path / "source", INSTANCES)
    _configure(home, committing)
    done = run_dcmvault(
        "backup", tmp_path / "source", "--to", "pacs", "--verify", "committed", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert summary_of(done)["instances"]["stored"] == INSTANCES
    lost = sop_uids(files)[0]
    committing.orthanc.delete(lost)
    done = run_dcmvault(
        "verify", tmp_path / "source", "--at", "pacs", "--level", "committed", "--json"
    )
    (failure,) = summary_of(done, 3)["failures"]
    assert (failure["sop_instance_uid"], failure["code"]) == (lost, "missing")


@pytest.mark.peers
def test_orthanc_that_does_not_know_us(tmp_path: Path, orthanc: Orthanc) -> None:
    """Orthanc gives up at whoever is none of its modalities; the hint says what to do."""
    files = study_files(tmp_path, 1)
    destination = _destination(orthanc.dicom_port, free_port(), timeout_s=0.5)
    put_each(destination, files)
    with pytest.raises(AssociationLostError) as raised:
        destination.verify(expected(files), Level.COMMITTED)
    assert "Enter our AE title" in raised.value.hint
    destination.close_idle()


@pytest.mark.peers
def test_orthanc_that_cannot_reach_us(
    tmp_path: Path, home: Path, run_dcmvault: RunDcmvault, committing: _Committing
) -> None:
    """Without a port of ours nothing is known, and nothing is claimed."""
    study_files(tmp_path / "source", 1)
    _configure(home, replace(committing, port=0), commitment_timeout_s=0.5)
    done = run_dcmvault(
        "backup", tmp_path / "source", "--to", "pacs", "--verify", "committed", "--json"
    )
    (failure,) = summary_of(done, 3)["failures"]
    assert failure["code"] == "unknown"
    assert "no report of storage commitment within 0.5 s" in failure["message"]
