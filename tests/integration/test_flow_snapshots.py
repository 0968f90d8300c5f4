"""The end of a run: destinations that can take a snapshot of what arrived, whatever went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from tests.integration.flow_world import Death, Flow, counts_of

from dcmvault.config.addresses import source_section
from dcmvault.config.sections import FolderDestinationSection, FolderSourceSection
from dcmvault.destinations.folder import FolderDestination
from dcmvault.errors import (
    DestinationError,
    DestinationUnreachableError,
    SourceUnavailableError,
    VaultBusyError,
)
from dcmvault.model.plan import RunKind
from dcmvault.model.sidecar import SidecarFile, UnreadableSidecar
from dcmvault.model.snapshot import Origin, SnapshotRef
from dcmvault.object_stores.local import LocalStore
from dcmvault.ports.source import Source
from dcmvault.reports.render import render
from dcmvault.sources.folder import FolderSource
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.faulty import CrashError

_TAKEN_AT = datetime(2026, 1, 31, 2, 0, tzinfo=UTC)


class _Snapping(FolderDestination):
    """A folder that remembers snapshots: each names the copies that were there."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        section = FolderDestinationSection(path=path)
        super().__init__(section, LocalStore(path, clock), clock)
        self.taken: list[tuple[Origin, SnapshotRef]] = []
        self.named: set[str] = set()
        self.sidecars: list[list[str] | None] = []
        self.error: DestinationError | None = None

    def take_snapshot(
        self, origin: Origin, sidecar: Iterable[SidecarFile] | None
    ) -> SnapshotRef | None:
        if self.error is not None:
            raise self.error
        names = None if sidecar is None else [file.name for file in sidecar]
        copies = set(self._store.keys("studies/"))
        if copies == self.named:
            last = self.taken[-1] if self.taken else None
            return last[1] if last and last[0] == origin else None
        number = len(self.taken) + 1
        self.named = copies
        self.sidecars.append(names)
        self.taken.append((origin, SnapshotRef(f"{number:08d}-aa", number, _TAKEN_AT)))
        return self.taken[-1][1]


class _WithSidecar(FolderSource):
    """A folder with a sidecar, a part of which cannot be read."""

    away = False

    def sidecar(self) -> Iterator[SidecarFile | UnreadableSidecar]:
        path = Path(__file__)
        yield SidecarFile("library.json", path, path.stat().st_size)
        yield UnreadableSidecar("reports/1.rtf", "unreadable", "It cannot be read.")
        if self.away:
            raise SourceUnavailableError("The library is away.")


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    flow = Flow(tmp_path, FakeClock())
    yield flow
    flow.catalogue.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_study(tmp_path / "source", instances=3)
    return tmp_path / "source"


@pytest.fixture
def snapping(flow: Flow, tmp_path: Path) -> _Snapping:
    destination = _Snapping(tmp_path / "copies", flow.clock)
    flow.destinations[destination.name] = destination
    return destination


def test_a_run_takes_one_snapshot_and_the_catalogue_is_its_witness(
    flow: Flow, source: Path, snapping: _Snapping
) -> None:
    report = flow.backup(source, snapping.name)
    assert (counts_of(report), report.exit_status) == ({"selected": 3, "stored": 3}, 0)
    ((origin, ref),) = snapping.taken
    assert origin == Origin(report.run_id, str(source))
    assert report.destinations[0].snapshot == ref.snapshot_id
    destination_id = flow.catalogue.plans.destination(snapping.name)
    assert flow.catalogue.snapshots.known_snapshots(destination_id) == [ref]
    summary = json.loads(render(report, "json"))
    assert summary["destinations"][0]["snapshot"] == ref.snapshot_id
    for form in ("html", "text"):
        assert ref.snapshot_id in render(report, form)
    assert ref.snapshot_id not in render(report, "csv")
    again = flow.backup(source, snapping.name)
    looked = flow.backup(source, snapping.name, kind=RunKind.VERIFY)
    assert (again.destinations[0].snapshot, looked.destinations[0].snapshot) == (None, None)
    assert len(snapping.taken) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DestinationUnreachableError("The disk is away."), 5),
        (VaultBusyError("It is busy."), 5),
        (DestinationError("It cannot."), 3),
    ],
)
def test_without_a_snapshot_the_run_is_kept_and_the_next_takes_it(
    flow: Flow, source: Path, snapping: _Snapping, error: DestinationError, status: int
) -> None:
    snapping.error = error
    report = flow.backup(source, snapping.name)
    assert (counts_of(report), report.exit_status) == ({"selected": 3, "stored": 3}, status)
    assert report.destinations[0].snapshot is None
    assert report.destinations[0].snapshot_failure == (error.code, error.message, "")
    for form in ("html", "text", "json"):
        assert error.message in render(report, form)
    snapping.error = None
    report = flow.backup(source, snapping.name)
    assert (counts_of(report), report.exit_status) == ({"already_held": 3}, 0)
    assert report.destinations[0].snapshot == "00000001-aa"


def test_one_destination_without_a_snapshot_does_not_keep_another_from_its_own(
    flow: Flow, source: Path, snapping: _Snapping, tmp_path: Path
) -> None:
    other = _Snapping(tmp_path / "others", flow.clock)
    flow.destinations[other.name] = other
    snapping.error = DestinationError("It cannot.")
    report = flow.backup(source, snapping.name, other.name, str(tmp_path / "plain"))
    assert report.exit_status == 3
    assert [part.snapshot for part in report.destinations] == [None, "00000001-aa", None]


def test_what_arrived_is_in_the_snapshot_though_some_failed(
    flow: Flow, source: Path, snapping: _Snapping
) -> None:
    durable = flow.ask(source, snapping.name)
    victim = next(source.rglob("*.dcm"))
    flow.carry_out(durable, flow.stages(), lambda _job: victim.unlink(missing_ok=True))
    report = flow.report(durable)
    assert (report.counts.stored, report.counts.unreadable, report.exit_status) == (2, 1, 3)
    assert report.destinations[0].snapshot == "00000001-aa"


@pytest.mark.parametrize("at", range(1, 6))
@pytest.mark.parametrize("after", [False, True])
def test_a_step_that_is_repeated_takes_no_second_snapshot(
    flow: Flow, source: Path, snapping: _Snapping, at: int, after: bool
) -> None:
    """The last writes of the run, each of which the process may not survive."""
    counting = Death(at=0)
    flow.carry_out(flow.ask(source, snapping.name), flow.stages(counting))
    make_study(source / "more", key="more", instances=2)
    counted = flow.ask(source, snapping.name)
    death = Death(at=10_000)
    flow.carry_out(counted, flow.stages(death))
    make_study(source / "again", key="again", instances=2)
    durable = flow.ask(source, snapping.name)
    with pytest.raises(CrashError):
        flow.carry_out(durable, flow.stages(Death(at=death.writes + 1 - at, after=after)))
    flow.carry_out(durable, flow.stages())
    assert len(snapping.taken) == 3
    destination_id = flow.catalogue.plans.destination(snapping.name)
    known = flow.catalogue.snapshots.known_snapshots(destination_id)
    assert known == [ref for _origin, ref in snapping.taken]


@pytest.mark.parametrize("away", [False, True])
def test_the_source_s_own_files_go_into_the_snapshot(
    flow: Flow, source: Path, snapping: _Snapping, away: bool
) -> None:
    def open_source(_request: object) -> Source:
        made = _WithSidecar(cast(FolderSourceSection, source_section(str(source))))
        made.away = away
        return made

    stages = flow.stages()
    stages.open_source = open_source
    durable = flow.ask(source, snapping.name)
    flow.carry_out(durable, stages)
    report = flow.report(durable)
    assert snapping.sidecars == [None if away else ["library.json"]]
    assert report.destinations[0].snapshot == "00000001-aa"
    assert report.exit_status == 0
    (warning,) = report.warnings
    assert ("not in the snapshot" in warning) is away or "1 of the source's own" in warning
