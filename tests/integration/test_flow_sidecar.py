"""A library's sidecar goes into the snapshot of the run, and its names nowhere else."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.flow_world import Flow

from dcmvault.app.stages import BackupStages
from dcmvault.config.sections import FolderDestinationSection, HorosSourceSection
from dcmvault.destinations.folder import FolderDestination
from dcmvault.model.report import RunReport
from dcmvault.model.sidecar import SidecarFile
from dcmvault.model.snapshot import Origin, SnapshotRef
from dcmvault.object_stores.local import LocalStore
from dcmvault.reports.render import render
from dcmvault.sources.horos import HorosSource
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.horos_application import open_transaction
from dcmvault.testing.horos_library import LibraryFacts, build_library
from dcmvault.testing.horos_user_data import UserData, add_user_data

_TAKEN_AT = datetime(2026, 1, 31, 2, 0, tzinfo=UTC)


class _Remembering(FolderDestination):
    """A folder that remembers what each snapshot was given of the source as a whole."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        section = FolderDestinationSection(path=path)
        super().__init__(section, LocalStore(path, clock), clock)
        self.sidecars: list[dict[str, bytes] | None] = []

    def take_snapshot(
        self, origin: Origin, sidecar: Iterable[SidecarFile] | None
    ) -> SnapshotRef | None:
        """Read each file while it is in hand."""
        files = None if sidecar is None else {x.name: x.path.read_bytes() for x in sidecar}
        self.sidecars.append(files)
        number = len(self.sidecars)
        return SnapshotRef(f"{number:08d}-aa", number, _TAKEN_AT)


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    flow = Flow(tmp_path, FakeClock())
    yield flow
    flow.catalogue.close()


@pytest.fixture
def facts(tmp_path: Path) -> LibraryFacts:
    return build_library(tmp_path / "Horos Data")


@pytest.fixture
def added(facts: LibraryFacts) -> UserData:
    return add_user_data(facts)


@pytest.fixture
def remembering(flow: Flow, tmp_path: Path) -> _Remembering:
    destination = _Remembering(tmp_path / "copies", flow.clock)
    flow.destinations[destination.name] = destination
    return destination


def stages_of(flow: Flow, facts: LibraryFacts) -> BackupStages:
    stages = flow.stages()
    stages.open_source = lambda _request: HorosSource(HorosSourceSection(path=facts.base))
    return stages


def back_up(flow: Flow, facts: LibraryFacts, destination: _Remembering) -> RunReport:
    durable = flow.ask(facts.base, destination.name)
    flow.carry_out(durable, stages_of(flow, facts))
    return flow.report(durable)


def test_each_snapshot_has_the_sidecar_as_it_is_then(
    flow: Flow, facts: LibraryFacts, added: UserData, remembering: _Remembering
) -> None:
    report = back_up(flow, facts, remembering)
    assert report.destinations[0].snapshot == "00000001-aa"
    with open_transaction(facts):
        back_up(flow, facts, remembering)
    (facts.data / "REPORTS" / "later.rtf").write_bytes(b"later")
    back_up(flow, facts, remembering)
    first, second, third = remembering.sidecars
    assert first is not None
    assert third is not None
    assert first.items() >= added.files.items()
    assert first["index/Database.sql"] == (facts.base / "Database.sql").read_bytes()
    assert b"lesion" in first["library.json"]
    assert second == first
    assert third == first | {"reports/later.rtf": b"later"}


def test_library_that_goes_away_at_the_end_keeps_its_older_sidecar(
    flow: Flow, facts: LibraryFacts, added: UserData, remembering: _Remembering
) -> None:
    durable = flow.ask(facts.base, remembering.name)
    stages = stages_of(flow, facts)
    for job in stages.plan(durable.run_id):
        while stages.deliver([job.job_id]).remaining:
            pass
    shutil.move(facts.data / "DATABASE.noindex", facts.data / "away")
    assert stages.finish(durable.run_id)
    report = flow.report(durable)
    assert remembering.sidecars == [None]
    assert report.destinations[0].snapshot == "00000001-aa"
    assert any("not in the snapshot" in warning for warning in report.warnings)


def test_names_of_the_sidecar_are_told_to_nobody(
    flow: Flow,
    facts: LibraryFacts,
    added: UserData,
    remembering: _Remembering,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (facts.data / "REPORTS" / "DOE JANE.rtf").symlink_to("nowhere")
    with caplog.at_level(logging.DEBUG):
        report = back_up(flow, facts, remembering)
    assert remembering.sidecars[0] is not None
    assert "reports/DOE JANE.rtf" not in remembering.sidecars[0]
    assert any("could not be read" in warning for warning in report.warnings)
    shown = [caplog.text, *(render(report, form) for form in ("html", "text", "json", "csv"))]
    assert not any("DOE JANE" in text or "lesion" in text for text in shown)
