"""What counts as held, what stays due, and what is sent: the rules of the flow, run by run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID
from tests.integration.flow_world import Flow, counts_of

from dcmvault.config.sections import FolderSourceSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.model.evidence import Level
from dcmvault.model.instance import InstanceEntry, InstanceFile, UnreadableEntry
from dcmvault.model.plan import RunKind, RunRequest, Strategy
from dcmvault.model.report import RunReport, RunState
from dcmvault.ports.queue import StageInterruption
from dcmvault.ports.source import Source
from dcmvault.sources.folder import FolderSource
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import MadeInstance, make_study
from dcmvault.testing.peer_faults import warn_all
from dcmvault.testing.peers import SimulatedPacs


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    flow = Flow(tmp_path, FakeClock())
    yield flow
    flow.catalogue.close()


@pytest.fixture
def pacs() -> Iterator[SimulatedPacs]:
    with SimulatedPacs() as pacs:
        yield pacs


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


@pytest.fixture
def made(source: Path) -> tuple[MadeInstance, ...]:
    return make_study(source / "one", key="one", series=2, instances=3)


def _address(pacs: SimulatedPacs) -> str:
    return f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"


def _sent(report: RunReport) -> int:
    return sum(part.transferred_bytes for part in report.destinations)


def _copies(folder: Path) -> list[Path]:
    return sorted(folder.glob("studies/*/*.dcm"))


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("strategy", [Strategy.FULL, Strategy.DIFFERENTIAL])
def test_a_full_run_that_asks_for_receipts_alone_is_content_with_them(
    flow: Flow, pacs: SimulatedPacs, source: Path, strategy: Strategy
) -> None:
    first = flow.backup(source, _address(pacs), level=Level.SENT)
    assert (counts_of(first), first.exit_status) == ({"selected": 6, "stored": 6}, 0)
    again = flow.backup(source, _address(pacs), level=Level.SENT, strategy=strategy)
    assert (counts_of(again), again.exit_status) == ({"selected": 6, "stored": 6}, 0)
    assert _sent(again) == 0
    looked = flow.backup(source, _address(pacs), level=Level.SENT, kind=RunKind.VERIFY)
    assert (counts_of(looked), looked.exit_status) == ({"selected": 6, "stored": 6}, 0)


@pytest.mark.usefixtures("made")
def test_what_was_missing_once_is_looked_for_again(
    flow: Flow, source: Path, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    flow.backup(source, str(copies))
    lost = _copies(copies)[2]
    away = lost.rename(tmp_path / "away")
    for _ in range(2):
        looked = flow.backup(source, str(copies), kind=RunKind.VERIFY)
        assert counts_of(looked) == {"selected": 6, "stored": 5, "failed": 1}
        assert [failure.code for failure in looked.failures] == ["missing"]
    away.rename(lost)
    looked = flow.backup(source, str(copies), kind=RunKind.VERIFY)
    assert (counts_of(looked), looked.exit_status) == ({"selected": 6, "stored": 6}, 0)


@pytest.mark.usefixtures("made")
def test_a_damaged_copy_is_replaced_in_the_same_run(
    flow: Flow, source: Path, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    flow.backup(source, str(copies), level=Level.SENT)
    victim = _copies(copies)[0]
    victim.chmod(0o600)
    victim.write_bytes(b"?" * victim.stat().st_size)
    report = flow.backup(source, str(copies))
    assert (counts_of(report), report.exit_status) == ({"selected": 6, "stored": 6}, 0)
    assert _sent(report) == victim.stat().st_size


def test_never_sent_is_what_a_verification_says(
    flow: Flow, pacs: SimulatedPacs, source: Path, tmp_path: Path, made: tuple[MadeInstance, ...]
) -> None:
    flow.backup(source, str(tmp_path / "copies"))
    looked = flow.backup(source, _address(pacs), kind=RunKind.VERIFY)
    assert (counts_of(looked), looked.exit_status) == ({"selected": 6, "failed": 6}, 3)
    assert {failure.code for failure in looked.failures} == {"never_sent"}
    assert sorted(failure.sop_instance_uid for failure in looked.failures) == sorted(
        one.sop_instance_uid for one in made
    )


def test_touched_and_renamed_files_are_not_sent_again(
    flow: Flow, pacs: SimulatedPacs, source: Path, tmp_path: Path, made: tuple[MadeInstance, ...]
) -> None:
    to = (str(tmp_path / "copies"), _address(pacs))
    flow.backup(source, *to)
    os.utime(made[0].path, (1, 1))
    made[1].path.rename(source / "elsewhere.dcm")
    (source / "one" / "s02").rename(source / "two")
    report = flow.backup(source, *to)
    assert (counts_of(report), report.exit_status) == ({"already_held": 12}, 0)


def test_renamed_files_that_the_peer_had_before_us_are_not_sent(
    flow: Flow, pacs: SimulatedPacs, source: Path, tmp_path: Path, made: tuple[MadeInstance, ...]
) -> None:
    """Nobody ever read them whole: they are known by what the file system says of them."""
    other = Flow(tmp_path / "other", FakeClock())
    other.backup(source, _address(pacs))
    other.catalogue.close()
    found = flow.backup(source, _address(pacs))
    assert (counts_of(found), _sent(found)) == ({"selected": 6, "stored": 6}, 0)
    made[1].path.rename(source / "elsewhere.dcm")
    report = flow.backup(source, _address(pacs))
    assert (counts_of(report), _sent(report)) == ({"already_held": 6}, 0)


def test_a_changed_file_is_sent_once_and_said_once(
    flow: Flow, pacs: SimulatedPacs, source: Path, tmp_path: Path, made: tuple[MadeInstance, ...]
) -> None:
    copies = tmp_path / "copies"
    to = (str(copies), _address(pacs))
    flow.backup(source, *to)
    made[0].path.write_bytes(made[0].path.read_bytes() + bytes(2))
    report = flow.backup(source, *to)
    assert (counts_of(report), report.exit_status) == (
        {"selected": 2, "already_held": 10, "stored": 2},
        0,
    )
    assert [
        (one.code, one.destination == to[0])
        for one in report.warned
        if one.code == "changed_at_source"
    ] == [("changed_at_source", False)]
    assert len(_copies(copies)) == 7, "the old version is kept"
    again = flow.backup(source, *to)
    assert (counts_of(again), again.warned) == ({"already_held": 12}, ())


def test_two_contents_at_once(
    flow: Flow, pacs: SimulatedPacs, source: Path, tmp_path: Path, made: tuple[MadeInstance, ...]
) -> None:
    twin = source / "twin.dcm"
    twin.write_bytes(made[0].path.read_bytes() + bytes(2))
    copies = tmp_path / "copies"
    kept = flow.backup(source, str(copies))
    assert (counts_of(kept), kept.exit_status) == ({"selected": 7, "stored": 7}, 0)
    assert len(_copies(copies)) == 7
    for _ in range(2):
        report = flow.backup(source, _address(pacs))
        assert report.exit_status == 3
        assert report.counts.conflicts == 1
        assert report.counts.selected + report.counts.already_held == 7
        assert [failure.sop_instance_uid for failure in report.failures] == [
            made[0].sop_instance_uid
        ]
    assert len(pacs.received) == 6


def test_one_study_in_two_sources_is_sent_once(
    flow: Flow, pacs: SimulatedPacs, source: Path, tmp_path: Path, made: tuple[MadeInstance, ...]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(source, other)
    flow.backup(source, _address(pacs))
    report = flow.backup(other, _address(pacs))
    assert counts_of(report) == {"already_held": len(made)}
    assert len(pacs.received) == len(made)


def test_a_twin_in_a_source_that_goes_elsewhere_takes_nobodys_place(
    flow: Flow, pacs: SimulatedPacs, source: Path, tmp_path: Path, made: tuple[MadeInstance, ...]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(source, other)
    twin = other / made[0].path.relative_to(source)
    twin.write_bytes(twin.read_bytes() + bytes(2))
    flow.backup(source, str(tmp_path / "copies"))
    report = flow.backup(other, _address(pacs))
    assert (counts_of(report), report.exit_status) == ({"selected": 6, "stored": 6}, 0)
    # Now the place is taken, whoever was seen first.
    late = flow.backup(source, _address(pacs))
    assert late.exit_status == 3
    assert [f.sop_instance_uid for f in late.failures] == [made[0].sop_instance_uid]
    assert late.counts.conflicts == 1


def test_a_source_that_shrinks_forgets_nothing(
    flow: Flow, source: Path, tmp_path: Path, made: tuple[MadeInstance, ...]
) -> None:
    copies = tmp_path / "copies"
    flow.backup(source, str(copies))
    for one in made[2:]:
        one.path.rename(tmp_path / one.sop_instance_uid)
    less = flow.backup(source, str(copies))
    assert counts_of(less) == {"already_held": 2}
    for one in made[2:]:
        (tmp_path / one.sop_instance_uid).rename(one.path)
    back = flow.backup(source, str(copies))
    assert counts_of(back) == {"already_held": 6}


def test_a_source_that_never_had_anything(flow: Flow, source: Path, tmp_path: Path) -> None:
    source.mkdir()
    report = flow.backup(source, str(tmp_path / "copies"))
    assert (counts_of(report), report.exit_status, report.state) == ({}, 0, RunState.FINISHED)


@pytest.mark.usefixtures("made")
def test_a_run_that_was_asked_for_again_counts_everything_once(
    flow: Flow, source: Path, tmp_path: Path
) -> None:
    to = (str(tmp_path / "copies"), str(tmp_path / "more"))
    flow.backup(source, to[0])
    durable = flow.ask(source, *to)
    stages = flow.stages()
    durable.planned = stages.plan(durable.run_id)
    make_study(source / "late", key="late", instances=4)
    assert flow.ask(source, *to).run_id == durable.run_id
    flow.carry_out(durable, stages)
    report = flow.report(durable)
    parts = {part.address: part.counts for part in report.destinations}
    assert [parts[address].selected for address in to] == [4, 10]
    assert [parts[address].already_held for address in to] == [6, 0]
    assert (report.counts.stored, report.exit_status) == (14, 0)


def test_a_cancelled_plan_leaves_nothing_open(
    flow: Flow, source: Path, tmp_path: Path, made: tuple[MadeInstance, ...]
) -> None:
    durable = flow.ask(source, str(tmp_path / "copies"))
    stages = flow.stages()
    open_source = stages.open_source
    runs = flow.catalogue.runs

    def cancel_then_open(request: RunRequest) -> Source:
        runs.set_run_state(durable.run_id, RunState.CANCELLED, flow.clock.now())
        runs.cancel_items(durable.run_id)
        return open_source(request)

    stages.open_source = cancel_then_open
    with pytest.raises(StageInterruption):
        stages.plan(durable.run_id)
    flow.carry_out(durable, flow.stages())
    assert flow.report(durable).exit_status == 130
    assert runs.jobs() == []
    assert counts_of(flow.backup(source, str(tmp_path / "copies"))) == {
        "selected": len(made),
        "stored": len(made),
    }


@pytest.mark.usefixtures("made")
def test_one_job_is_cancelled_while_it_runs(flow: Flow, pacs: SimulatedPacs, source: Path) -> None:
    runs = flow.catalogue.runs
    durable = flow.ask(source, _address(pacs))
    stages = flow.stages()
    durable.planned = stages.plan(durable.run_id)
    first = durable.planned[0].job_id
    flow.carry_out(
        durable,
        stages,
        between=lambda job: runs.cancel_items(job.run_id, first) if job.job_id == first else None,
    )
    report = flow.report(durable)
    assert (counts_of(report), report.exit_status) == (
        {"selected": 6, "stored": 3, "failed": 3},
        3,
    )
    assert {failure.code for failure in report.failures} == {"cancelled"}
    again = flow.backup(source, _address(pacs))
    assert counts_of(again) == {"selected": 3, "already_held": 3, "stored": 3}


def _many_series(source: Path, series: int) -> None:
    make_study(source / "many", key="many", series=series, instances=2)


@pytest.mark.parametrize("outage_s", [30, 100])
def test_a_pacs_that_restarts_is_waited_for(flow: Flow, source: Path, outage_s: int) -> None:
    _many_series(source, 40)
    with SimulatedPacs() as pacs:
        address, port = _address(pacs), pacs.port
        durable = flow.ask(source, address)
        pacs_after = SimulatedPacs(port=port)
        began: list[float] = []

        def fail_and_come_back(_job: object) -> None:
            if len(pacs.received) >= 20 and not began:
                began.append(flow.clock.monotonic())
                pacs.stop()
            if began and flow.clock.monotonic() - began[0] >= outage_s and len(began) == 1:
                began.append(flow.clock.monotonic())
                pacs_after.start()

        try:
            flow.carry_out(durable, flow.stages(), fail_and_come_back)
        finally:
            pacs_after.stop()
        # What the first one kept is gone with it: a verification says so, and no delivery failed.
        assert len(set(pacs.received) | set(pacs_after.received)) == 80
        codes = {failure.code for failure in flow.report(durable).failures}
        assert codes <= {"missing"}


def test_a_pacs_that_stays_away_ends_the_run_soon_and_leaves_all_due(
    flow: Flow, source: Path
) -> None:
    _many_series(source, 300)
    with SimulatedPacs() as pacs:
        address, port = _address(pacs), pacs.port
        durable = flow.ask(source, address, level=Level.SENT)
        flow.carry_out(
            durable,
            flow.stages(),
            lambda _job: pacs.stop() if len(pacs.received) >= 100 else None,
        )
    report = flow.report(durable)
    assert report.exit_status == 3
    stored = report.counts.stored
    assert 0 < stored < 600
    assert report.counts.failed == 600 - stored
    assert {failure.code for failure in report.failures} <= {"unreachable", "association_lost"}
    assert flow.clock.monotonic() < 300
    with SimulatedPacs(port=port):
        again = flow.backup(source, address, level=Level.SENT)
    assert counts_of(again) == {
        "selected": 600 - stored,
        "already_held": stored,
        "stored": 600 - stored,
    }


def test_a_pacs_that_never_answered_is_given_up_at_once(flow: Flow, source: Path) -> None:
    _many_series(source, 50)
    with SimulatedPacs() as pacs:
        address = _address(pacs)
    report = flow.backup(source, address)
    assert (report.exit_status, report.counts.failed) == (5, 100)
    assert flow.clock.monotonic() <= 5 + 10


def test_claims_that_cannot_be_verified_leave_nothing_undecided(flow: Flow, source: Path) -> None:
    """Three jobs have claims and new instances; the peer is away: each says why it failed."""
    with SimulatedPacs() as pacs:
        address = _address(pacs)
        make_study(source / "one", key="one", series=3, instances=1)
        flow.backup(source, address, level=Level.SENT)
    make_study(source / "more", key="one", series=3, instances=2)
    report = flow.backup(source, address)
    assert counts_of(report) == {"selected": 6, "failed": 6}
    assert {failure.code for failure in report.failures} == {"unreachable"}
    assert report.exit_status == 5


def test_a_series_is_asked_for_once_however_long_it_is(
    flow: Flow, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(source, instances=450)
    asked: list[str] = []
    instances = DimseDestination.instances

    def counted(self: DimseDestination, study: str, series: str = "") -> frozenset[str]:
        asked.append(series)
        return instances(self, study, series)

    monkeypatch.setattr(DimseDestination, "instances", counted)
    with SimulatedPacs() as pacs:
        report = flow.backup(source, _address(pacs))
    assert counts_of(report) == {"selected": 450, "stored": 450}
    assert len(asked) == 1


@pytest.mark.usefixtures("made")
def test_a_duplicate_is_no_receipt(flow: Flow, source: Path) -> None:
    """0111: the peer kept what it had under the UID, perhaps something else (PS3.4 B.2)."""
    with SimulatedPacs(warn_all(0x0111)) as pacs:
        sent = flow.backup(source, _address(pacs), level=Level.SENT)
        assert (counts_of(sent), sent.exit_status) == ({"selected": 6, "failed": 6}, 3)
        assert {(one.code, one.status) for one in sent.failures} == {("duplicate", "0111")}
        looked = flow.backup(source, _address(pacs), level=Level.COMPLETE)
        assert (counts_of(looked), looked.exit_status) == ({"selected": 6, "stored": 6}, 0)


def _written_anew(path: Path, copy: Path) -> None:
    """Write a file as a PACS does that received it: other file meta information."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.ImplementationClassUID = UID("1.2.3")
    dataset.save_as(copy)
    assert copy.read_bytes() != path.read_bytes()


def test_what_says_the_same_in_other_bytes_is_kept_in_a_folder_and_sent_once_to_a_pacs(
    flow: Flow, pacs: SimulatedPacs, source: Path, tmp_path: Path, made: tuple[MadeInstance, ...]
) -> None:
    _written_anew(made[0].path, source / "anew.dcm")
    copies = tmp_path / "copies"
    report = flow.backup(source, str(copies), _address(pacs))
    assert (counts_of(report), report.exit_status) == ({"selected": 13, "stored": 13}, 0)
    assert len(pacs.received) == len(made)
    kept = {copy.read_bytes() for copy in _copies(copies)}
    assert kept == {path.read_bytes() for path in source.rglob("*.dcm")}
    again = flow.backup(source, str(copies), _address(pacs))
    assert counts_of(again) == {"already_held": 14}


class _FailingMedium(FolderSource):
    """A folder with a file that cannot be read once it was listed."""

    bad = ""

    def read(
        self, entries: Iterable[InstanceEntry], *, kept: int = 1
    ) -> Iterator[InstanceFile | UnreadableEntry]:
        for answer in super().read(entries, kept=kept):
            if answer.entry.locator == self.bad:
                yield UnreadableEntry(answer.entry, "unreadable", "Input/output error")
            else:
                yield answer


def test_a_copy_takes_the_turn_of_one_that_cannot_be_read(
    flow: Flow, pacs: SimulatedPacs, source: Path, made: tuple[MadeInstance, ...]
) -> None:
    """What says the same is sent instead: as no conflict, and nothing is held before that."""
    _written_anew(made[0].path, source / "anew.dcm")
    medium = _FailingMedium(FolderSourceSection(path=source))
    flow.sources[medium.name] = medium
    first = flow.ask(source, _address(pacs))
    flow.carry_out(first, flow.stages(), lambda _job: setattr(medium, "bad", "anew.dcm"))
    report = flow.report(first)
    assert report.exit_status == 3
    assert counts_of(report) == {"selected": 6, "stored": 5, "unreadable": 1}
    report = flow.backup(source, _address(pacs))
    assert counts_of(report) == {"selected": 1, "stored": 1, "already_held": 5}
    assert report.exit_status == 0
    assert len(pacs.received) == len(made)
    assert counts_of(flow.backup(source, _address(pacs))) == {"already_held": 7}


def test_a_gone_file_stands_for_its_copy_at_a_pacs_and_not_in_a_folder(
    flow: Flow, pacs: SimulatedPacs, source: Path, tmp_path: Path, made: tuple[MadeInstance, ...]
) -> None:
    """As what was sent to us, and left the spool."""
    other = tmp_path / "other"
    other.mkdir()
    _written_anew(made[0].path, other / "anew.dcm")
    copies = tmp_path / "copies"
    to = (str(copies), _address(pacs))
    flow.backup(source, *to)
    assert counts_of(flow.backup(other, str(copies))) == {"selected": 1, "stored": 1}
    made[0].path.unlink()
    flow.backup(source, *to)
    assert counts_of(flow.backup(other, *to)) == {"already_held": 2}
    assert len(pacs.received) == len(made)
    held = flow.catalogue.holdings.held_entries(
        flow.catalogue.sources.source(str(other)),
        flow.catalogue.plans.destination(flow.open_destination(to[1]).name),
        Level.COMPLETE,
    )
    assert [entry.locator for entry in held] == ["anew.dcm"]
    report = flow.backup(other, to[1], kind=RunKind.VERIFY)
    assert (counts_of(report), report.exit_status) == ({"selected": 1, "stored": 1}, 0)


class _Passage(FolderSource):
    """A folder that files leave once they are backed up."""

    passes_through = True


def test_what_passed_through_stands_for_what_comes_later(
    flow: Flow, pacs: SimulatedPacs, source: Path, tmp_path: Path, made: tuple[MadeInstance, ...]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    passage = _Passage(FolderSourceSection(path=source))
    flow.sources[passage.name] = passage
    flow.backup(source, _address(pacs))
    for one in made:
        _written_anew(one.path, other / f"{one.sop_instance_uid}.dcm")
        one.path.unlink()
    report = flow.backup(source, _address(pacs))
    assert (report.exit_status, report.gone) == (0, 0)
    report = flow.backup(other, _address(pacs))
    assert (counts_of(report), report.exit_status) == ({"already_held": len(made)}, 0)
    assert len(pacs.received) == len(made)
