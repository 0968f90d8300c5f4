"""Smart runs: what matters most is sent first, limits take the most important, and people teach."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.flow_world import Death, Durable, Flow
from tests.integration.story import QUICK_RETRIES, instances, summary_of

from dcmvault.cli.main import run
from dcmvault.config.sections import FolderDestinationSection, HorosSourceSection
from dcmvault.destinations.folder import FolderDestination
from dcmvault.errors import DestinationUnreachableError
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.model.instance import InstanceFile, InstanceKind
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest, Strategy
from dcmvault.model.receipt import Receipt
from dcmvault.model.routing import Routing, RoutingMode
from dcmvault.model.snapshot import Origin
from dcmvault.object_stores.local import LocalStore
from dcmvault.ports.destination import Delivery
from dcmvault.sources.horos import HorosSource
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_instance
from dcmvault.testing.faulty import CrashError
from dcmvault.testing.horos_library import add_study, build_library
from dcmvault.testing.peer_faults import slow
from dcmvault.testing.peers import SimulatedPacs

#: Study, modality, description: in the order of their names; the order by priority is 3 4 1 2.
STUDIES = [
    (1, "CR", "Thorax, status"),
    (2, "OT", "Scanned paper"),
    (3, "MR", "Crânio - AVC agudo"),
    (4, "CT", "Abdomen"),
]
BY_PRIORITY = ["2.25.3", "2.25.4", "2.25.1", "2.25.2"]


@pytest.fixture
def source(tmp_path: Path, home: Path) -> Path:
    (home / "config.toml").write_text(QUICK_RETRIES)
    folder = tmp_path / "source"
    for number, modality, description in STUDIES:
        for instance in (1, 2):
            make_instance(
                folder / f"{number}-{instance}.dcm",
                f"2.25.{number}",
                f"2.25.{number}.1",
                f"2.25.{number}.1.{instance}",
                modality=modality,
                study_description=description,
                elements={"StationName": "ROOM1"},
            )
    return folder


@pytest.fixture
def pacs() -> Iterator[SimulatedPacs]:
    with SimulatedPacs(slow(0.3)) as pacs:
        yield pacs


def address_of(pacs: SimulatedPacs) -> str:
    return f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}?calling=DCMVAULT"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Run a command of `dcmvault rules` in this process; return its JSON object."""
    capsys.readouterr()
    run(["rules", *arguments, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert isinstance(answer, dict)
    return answer


def studies_in_order(sop_instance_uids: list[str]) -> list[str]:
    return list(dict.fromkeys(".".join(uid.split(".")[:3]) for uid in sop_instance_uids))


def test_what_matters_most_is_sent_first(
    source: Path, pacs: SimulatedPacs, home: Path, run_dcmvault: RunDcmvault
) -> None:
    (home / "config.toml").write_text(
        f'{QUICK_RETRIES}\n[destinations.pacs]\naddress = "{address_of(pacs)}"\n'
        "max_associations = 1\n"
    )
    summary = summary_of(
        run_dcmvault("backup", source, "--to", "pacs", "--strategy", "smart", "--json")
    )
    assert summary["strategy"] == "smart"
    came = studies_in_order(pacs.received)
    assert sorted(came) == sorted(BY_PRIORITY)
    # Two jobs run at once: either may be the first to have the association.
    assert set(came[:2]) == set(BY_PRIORITY[:2])


def test_a_limited_run_takes_the_most_important_and_the_next_one_goes_on(
    source: Path, tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    command: list[str | Path] = [
        "backup",
        source,
        "--to",
        tmp_path / "copies",
        "--strategy",
        "smart",
        "--json",
    ]
    limited: list[str | Path] = [*command, "--max-studies", "3"]
    dry = summary_of(run_dcmvault(*limited, "--dry-run", "--explain"))
    assert [one["study_instance_uid"] for one in dry["classification"]] == BY_PRIORITY[:3]
    assert dry["destinations"][0]["selected"] == 6
    summary = summary_of(run_dcmvault(*limited))
    assert instances(summary) == {"selected": 6, "stored": 6}
    (warning,) = summary["warnings"]
    assert warning.startswith("the run was limited to 3 studies: 1 more are due at ")
    summary = summary_of(run_dcmvault(*limited))
    assert instances(summary) == {"selected": 2, "already_held": 6, "stored": 2}
    assert summary["warnings"] == []


def test_an_incremental_run_is_limited_in_the_order_of_the_source(
    source: Path, tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    command: list[str | Path] = [
        "backup",
        source,
        "--to",
        tmp_path / "copies",
        "--max-studies",
        "1",
        "--json",
    ]
    dry = summary_of(run_dcmvault(*command, "--dry-run", "--explain"))
    (explained,) = dry["classification"]
    assert (explained["study_instance_uid"], explained["priority"]) == ("2.25.1", "normal")
    refused = run_dcmvault(*command, "--strategy", "full")
    assert summary_of(refused, 2)["error"]["message"].startswith("A run of the strategy “full”")


def test_explain_names_every_rule_that_fired(
    source: Path,
    tmp_path: Path,
    home: Path,
    run_dcmvault: RunDcmvault,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (home / "config.toml").write_text(
        '[[rules]]\nname = "room"\nstation = ["room1"]\nmodality = ["CR"]\nraise = 1\n'
    )
    command: list[str | Path] = [
        "backup",
        source,
        "--to",
        tmp_path / "copies",
        "--strategy",
        "smart",
    ]
    said = run_dcmvault(*command, "--dry-run", "--explain").stdout
    assert "2.25.1  high  → " in said
    assert "    room: modality “CR”, station “room1” → +1\n" in said
    assert "    emergency-words: word “AVC” → emergency\n" in said
    assert "    cross-sectional: modality “MR” → high (an earlier rule decided)\n" in said
    # "status" is no "stat".
    assert said.count("emergency-words") == 1
    summary = summary_of(run_dcmvault(*command, "--explain", "--json"))
    explained = {one["study_instance_uid"]: one for one in summary["classification"]}
    assert explained["2.25.3"]["rules"][0] == {
        "name": "emergency-words",
        "priority": "emergency",
        "raise": 0,
        "decides": True,
        "met": {"words": "AVC"},
    }
    tested = told(capsys, "test", "2.25.1")
    assert tested["priority"] == "high"
    named = [[rule["name"] for rule in one["rules"]] for one in (tested, explained["2.25.1"])]
    assert named == [["room", "projection", "older"]] * 2
    assert (
        told(capsys, "test", "--modality", "US", "--description", "Status")["priority"] == "normal"
    )
    assert told(capsys, "test", "2.25.77")["exit_status"] == 2
    assert told(capsys, "test")["exit_status"] == 2
    assert [rule["name"] for rule in told(capsys, "list")["rules"][:2]] == [
        "room",
        "emergency-words",
    ]
    assert run(["rules", "list"]) == 0
    assert "station room1" in capsys.readouterr().out


def test_people_teach_by_moving_and_restoring(
    source: Path,
    tmp_path: Path,
    pacs: SimulatedPacs,
    run_dcmvault: RunDcmvault,
    start_dcmvault: StartDcmvault,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copies = tmp_path / "copies"
    summary_of(run_dcmvault("backup", source, "--to", copies, "--json"))
    restore: list[str | Path] = [
        "restore",
        source,
        tmp_path / "restored",
        "--study",
        "2.25.2",
        "--json",
    ]
    summary_of(run_dcmvault(*restore))
    learned = told(capsys, "learned")
    assert (learned["studies"], learned["needed"], learned["is_enough"]) == (1, 10, False)
    words = {(one["kind"], one["value"]): one["restored"] for one in learned["features"]}
    assert words["modality", "OT"] == 1
    assert words["word", "paper"] == 1
    address = address_of(pacs)
    started = start_dcmvault("backup", source, "--to", address, "--json", "--progress", "none")
    while not pacs.received:
        assert started.poll() is None
    # Jobs are there until the run has verified what it sent.
    assert run(["queue", "prioritise", "2.25.4", "urgent", "--json"]) == 0
    capsys.readouterr()
    _output, errors = started.communicate(timeout=120)
    assert started.returncode == 0, errors
    features = {(one["kind"], one["value"]): one for one in told(capsys, "learned")["features"]}
    assert features["modality", "CT"]["raised"] == 1
    assert run(["rules", "learned"]) == 0
    assert "That is too little history" in capsys.readouterr().out
    forgotten = told(capsys, "reset", "--yes")["forgotten"]
    assert forgotten == 2
    assert told(capsys, "learned")["studies"] == 0
    assert told(capsys, "reset")["exit_status"] == 2


def test_a_library_tells_what_its_viewer_would_delete(tmp_path: Path) -> None:
    facts = build_library(tmp_path / "Horos Data")
    add_study(facts, "new")
    source = HorosSource(HorosSourceSection(path=facts.base))
    assert source.marks() == {}
    refs = [ref.locator.removeprefix("study/") for ref in source.studies()]
    marks = source.marks()
    ranks = {uid: mark.auto_clean_rank for uid, mark in marks.items()}
    assert [uid for uid in refs if ranks.get(uid) is not None] == [
        uid
        for uid, rank in sorted(ranks.items(), key=lambda one: (one[1] is None, one[1] or 0))
        if rank is not None
    ]
    assert all(mark.studied_at is not None for mark in marks.values())


class Room:
    """For how many instances there is room, in all deliveries together."""

    def __init__(self, instances: int) -> None:
        self.left = instances


class DyingDelivery:
    """A delivery of a destination that cannot be reached once its room is used up."""

    def __init__(self, inner: Delivery, room: Room) -> None:
        self._inner = inner
        self._room = room

    def put(self, file: InstanceFile) -> Receipt:
        if self._room.left <= 0:
            raise DestinationUnreachableError("the disk is gone")
        self._room.left -= 1
        return self._inner.put(file)

    def flush(self) -> int:
        return self._inner.flush()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inner.__exit__(kind, error, traceback)


class DiesInTheMiddle(FolderDestination):
    """Takes so many instances, and cannot be reached from then on."""

    room = Room(0)

    def open(self, kinds: Collection[InstanceKind], origin: Origin) -> Any:
        return DyingDelivery(super().open(kinds, origin), self.room)


@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.nightly)])
def test_a_failover_that_is_killed_at_any_write_loses_nothing(
    source: Path, tmp_path: Path, every: int
) -> None:
    """Whatever was written last: the run ends with every study whole at one of the places."""
    at = 0
    while True:
        at += every
        folder = tmp_path / str(at)
        flow = Flow(folder)
        clock = FakeClock()
        first, second = folder / "first", folder / "second"
        dying = DiesInTheMiddle(
            FolderDestinationSection(path=first), LocalStore(first, clock), clock
        )
        dying.room = Room(3)
        flow.destinations[str(first)] = dying
        request = RunRequest(
            RunKind.BACKUP,
            str(source),
            tuple(DestinationRequest(str(place), Level.COMPLETE) for place in (first, second)),
            Strategy.SMART,
            routing=Routing(RoutingMode.FAILOVER),
        )
        durable = Durable(
            flow.catalogue.runs.ask_for_run(RunId("run-1"), request, flow.clock.now())
        )
        death = Death(at, after=bool(at % 2))
        try:
            flow.carry_out(durable, flow.stages(death))
        except CrashError:
            flow.carry_out(durable, flow.stages())
        report = flow.report(durable)
        assert report.exit_status == 0, (at, report.failures)
        held = {part.address: part.counts.stored for part in report.destinations}
        diverted = {one.study_instance_uid for one in report.diversions}
        # The studies that went elsewhere are there whole; the first keeps what it had.
        assert held[str(second)] == 2 * len(diverted), at
        assert len(diverted) >= 3
        # What was put and not written down when it died is unknown, and looked for again.
        assert held.get(str(first), 0) <= 3, at
        flow.catalogue.close()
        if not death.dead:
            return
