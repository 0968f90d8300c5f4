"""Samples: rates and forecasts from what probes say, thinned, written and foretold from."""

from __future__ import annotations

import csv
import io
import json
import stat
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmvault.model.alert import AlertCode, AlertSeverity, Subject, SubjectKind
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.job import JobState
from dcmvault.model.report import RunState
from dcmvault.model.sample import THINNED_BY, Figure, Sample
from dcmvault.model.thinning import begin_of, thinned
from dcmvault.ports.samples import RunFigures
from dcmvault.telemetry import conditions
from dcmvault.telemetry.alerts import AlertMachine, Observation, Verdict
from dcmvault.telemetry.conditions import Stalling, Thresholds
from dcmvault.telemetry.filling import Filling
from dcmvault.telemetry.live_file import FILE_NAME, Live, read_live, remove_live, write_live
from dcmvault.telemetry.machine import DiskSpace, MachineProbe, disk_space
from dcmvault.telemetry.meter import ByteMeter
from dcmvault.telemetry.samples_csv import COLUMNS, csv_lines
from dcmvault.telemetry.sampling import Look, Sampler

START = datetime(2026, 1, 31, 2, 0, tzinfo=UTC)
PACS = DestinationId(1)
PACS_SUBJECT = Subject(SubjectKind.DESTINATION, "pacs")


def look(
    second: float,
    *,
    moved: int = 0,
    sent: int = 0,
    settled: int = 0,
    settled_bytes: int = 0,
    at_work: int = 1,
    free: int = 10**12,
    cpu: float = 0.1,
    state: RunState = RunState.RUNNING,
) -> Look:
    """Make what is seen of one run of 100 instances and 1000 bytes to one PACS."""
    run = RunFigures(RunId("run-1"), PACS, state, 0, 100, settled, sent, 1000, settled_bytes)
    return Look(
        at=START + timedelta(seconds=second),
        machine={Figure.CPU_SHARE: cpu},
        disks={"state": DiskSpace(free, 2 * 10**12)},
        moved={"pacs": moved},
        associations={"pacs": 2},
        runs=[run],
        jobs={"pacs": {JobState.IN_PROGRESS: at_work, JobState.QUEUED: 7}},
        names={PACS: "pacs"},
    )


def figures_of(samples: list[Sample], subject: Subject) -> Mapping[Figure, float]:
    return {sample.subject: sample.figures for sample in samples}[subject]


def test_rates_are_those_since_the_look_before() -> None:
    sampler = Sampler()
    sampler.samples(look(0.25))
    samples = sampler.samples(look(2.25, moved=5000, sent=10))
    assert {one.at for one in samples} == {START + timedelta(seconds=2)}
    pacs = figures_of(samples, PACS_SUBJECT)
    assert pacs[Figure.BYTES_PER_S] == 2500
    assert pacs[Figure.INSTANCES_PER_S] == 5
    assert pacs[Figure.ASSOCIATIONS] == 2
    assert (pacs[Figure.JOBS_IN_PROGRESS], pacs[Figure.JOBS_QUEUED]) == (1, 7)
    assert (pacs[Figure.INSTANCES_LEFT], pacs[Figure.BYTES_LEFT]) == (90, 900)
    assert pacs[Figure.ETA_S] == pytest.approx(18)
    run = figures_of(samples, Subject(SubjectKind.RUN, "run-1"))
    assert run[Figure.ETA_S] == pytest.approx(18)
    assert figures_of(samples, Subject(SubjectKind.DISK, "state"))[Figure.DISK_FREE_BYTES] == 10**12


def test_the_first_look_and_a_clock_that_is_set_back_tell_no_rate() -> None:
    sampler = Sampler()
    first = figures_of(sampler.samples(look(100, moved=10**9, sent=50)), PACS_SUBJECT)
    assert first[Figure.BYTES_PER_S] == 0
    assert Figure.ETA_S not in first
    back = figures_of(sampler.samples(look(0, moved=2 * 10**9, sent=60)), PACS_SUBJECT)
    assert back[Figure.BYTES_PER_S] == 0
    assert Figure.ETA_S not in back


def test_an_ended_run_is_forgotten() -> None:
    sampler = Sampler()
    sampler.samples(look(0))
    samples = sampler.samples(look(1, state=RunState.PLANNING))
    assert SubjectKind.RUN not in {one.subject.kind for one in samples}


@given(st.lists(st.tuples(st.integers(0, 7200), st.floats(0, 1)), max_size=50))
def test_what_is_thinned_twice_is_what_is_thinned_once(found: list[tuple[int, float]]) -> None:
    """For whatever is not averaged; and averages stay between the least and the most."""
    samples = [
        Sample(
            START + timedelta(seconds=second),
            PACS_SUBJECT,
            {
                Figure.DISK_FREE_BYTES: share,
                Figure.MEMORY_BYTES: share,
                Figure.CPU_SHARE: share,
            },
        )
        for second, share in dict(found).items()
    ]
    minutes = thinned(samples, 60)
    hours = thinned(samples, 3600)
    assert {one.at for one in hours} == {begin_of(one.at, 3600) for one in samples}
    for once, twice in zip(hours, thinned(minutes, 3600), strict=True):
        for figure in (Figure.DISK_FREE_BYTES, Figure.MEMORY_BYTES):
            assert once.figures[figure] == twice.figures[figure]
        low, high = once.figures[Figure.DISK_FREE_BYTES], once.figures[Figure.MEMORY_BYTES]
        assert low - 1e-9 <= once.figures[Figure.CPU_SHARE] <= high + 1e-9


def test_every_figure_is_thinned_in_some_way() -> None:
    assert set(THINNED_BY) == set(Figure)


def test_a_line_through_what_is_free_tells_when_nothing_is_left() -> None:
    filling = Filling()
    for minute in range(30):
        filling.observe(START + timedelta(minutes=minute), 10**9 - minute * 6 * 10**6)
    assert filling.full_in_s(826 * 10**6) == pytest.approx(8260)


@pytest.mark.parametrize("slope", [0, 5])
def test_a_disk_that_does_not_fill_is_never_full(slope: int) -> None:
    filling = Filling()
    for minute in range(30):
        filling.observe(START + timedelta(minutes=minute), 10**9 + minute * slope)
    assert filling.full_in_s(10**9) is None


def test_a_few_minutes_foretell_nothing() -> None:
    filling = Filling()
    for second in range(0, 540, 10):
        filling.observe(START + timedelta(seconds=second), 10**9 - second * 10**6)
    assert filling.full_in_s(10**8) is None
    filling.observe(START - timedelta(days=1), 10**9)
    assert filling.full_in_s(10**8) is None


def verdicts(observations: list[Observation]) -> dict[AlertCode, Verdict]:
    return {one.code: one.verdict for one in observations}


def test_limits_have_a_margin() -> None:
    limits = Thresholds()
    gib = 1 << 30

    def of(free: float, cpu: float) -> dict[AlertCode, Verdict]:
        return verdicts([*conditions.of_machine(look(0, free=int(free), cpu=cpu), {}, limits)])

    assert of(gib - 1, 0.81) == {
        AlertCode.DISK_LOW: Verdict.BAD,
        AlertCode.CPU_HIGH: Verdict.BAD,
    }
    assert set(of(gib, 0.8).values()) == {Verdict.BETWEEN}
    assert set(of(1.11 * gib, 0.69).values()) == {Verdict.GOOD}


def test_a_certificate_is_worse_when_it_ends_in_days() -> None:
    limits = Thresholds(certificate_days=30)

    def severity(days: float) -> tuple[Verdict, AlertSeverity]:
        one = conditions.certificate("listener", START + timedelta(days=days), START, limits)
        return one.verdict, one.severity

    assert severity(31) == (Verdict.GOOD, AlertSeverity.WARNING)
    assert severity(29) == (Verdict.BAD, AlertSeverity.WARNING)
    assert severity(2) == (Verdict.BAD, AlertSeverity.CRITICAL)
    assert severity(-1) == (Verdict.BAD, AlertSeverity.CRITICAL)


def test_work_stalls_when_not_a_byte_moves() -> None:
    """Raised after the set time, cleared by a single byte; what waits or ended does not stall."""
    stalling, machine = Stalling(), AlertMachine()
    limits = Thresholds(stalled_after_s=300)

    def step(second: float, moved: int, **more: int) -> list[str]:
        seen = look(second, moved=moved, **more)  # type: ignore[arg-type]
        found = list(stalling.observe(seen, limits))
        return [c.change.value for c in machine.look(seen.at, found, [AlertCode.STALLED])]

    for second in range(301):
        assert step(second, moved=5) == []
    assert step(301, moved=5) == ["raised"]
    assert step(302, moved=5) == []
    assert step(303, moved=6) == ["cleared"]
    for second in range(304, 700):
        assert step(second, moved=6, at_work=0) == []


def test_bytes_are_counted_by_destination() -> None:
    meter = ByteMeter()
    meter.moved("a", 5)
    meter.moved("b", 7)
    meter.moved("a", 1)
    assert meter.totals() == {"a": 6, "b": 7}


def test_the_live_file_is_private_and_whole(tmp_path: Path) -> None:
    samples = Sampler().samples(look(0))
    live = Live(START, 42, START - timedelta(hours=1), samples, {"pacs": 5})
    write_live(tmp_path, live)
    path = tmp_path / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_live(tmp_path) == live
    assert live.is_fresh(START + timedelta(seconds=4))
    assert not live.is_fresh(START + timedelta(seconds=6))
    assert not live.is_fresh(START - timedelta(seconds=6))
    assert [one.name for one in tmp_path.iterdir()] == [FILE_NAME]
    remove_live(tmp_path)
    assert read_live(tmp_path) is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"at": 5}', "\0\xff", json.dumps({"at": "2026-01-01"})]
)
def test_a_live_file_that_is_none_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content, encoding="latin-1")
    assert read_live(tmp_path) is None


def test_csv_has_the_columns_that_it_names() -> None:
    sample = Sample(START, PACS_SUBJECT, {Figure.BYTES_PER_S: 2.5, Figure.JOBS_QUEUED: 3.0}, 60)
    (row,) = csv.DictReader(io.StringIO("".join(csv_lines([sample]))))
    assert tuple(row) == COLUMNS
    assert (row["at"], row["span_s"], row["kind"], row["subject"]) == (
        "2026-01-31T02:00:00Z",
        "60",
        "destination",
        "pacs",
    )
    assert (row["bytes_per_s"], row["jobs_queued"], row["cpu_share"]) == ("2.5", "3", "")


def test_the_machine_tells_of_itself(tmp_path: Path) -> None:
    figures = MachineProbe().look()
    assert 0 <= figures[Figure.CPU_SHARE] <= 1
    assert figures[Figure.MEMORY_BYTES] > 1 << 20
    room = disk_space(tmp_path / "not" / "there" / "yet")
    assert room is not None
    assert 0 < room.free < room.total
