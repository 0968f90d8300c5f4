"""Jobs of one study that end at the same moment: the study is verified once, and wholly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from tests.integration.flow_world import Flow, counts_of

from dcmvault.config.sections import FolderDestinationSection
from dcmvault.destinations.folder import FolderDestination
from dcmvault.errors import DestinationUnreachableError
from dcmvault.model.evidence import ExpectedStudy, Level, Verification
from dcmvault.object_stores.local import LocalStore
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_study


class _Counting(FolderDestination):
    """A folder that counts how often it was looked at, and cannot be at first if told so."""

    def __init__(self, path: Path, clock: FakeClock, failures: int) -> None:
        path.mkdir()
        section = FolderDestinationSection(path=path)
        super().__init__(section, LocalStore(path, clock), clock)
        self.looked_for: list[int] = []
        self.failures = failures

    def verify(self, study: ExpectedStudy, level: Level) -> Verification:
        self.looked_for.append(len(study.instances))
        if len(self.looked_for) <= self.failures:
            raise DestinationUnreachableError("not just now")
        return super().verify(study, level)


class _Meeting:
    """The jobs of a catalogue; whoever asks whether a study is settled waits for the other."""

    def __init__(self, jobs: Any, parties: int) -> None:
        self._jobs = jobs
        self._barrier = threading.Barrier(parties)
        self._met = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)

    def study_settled(self, job_id: Any) -> bool:
        if not self._met:
            self._barrier.wait(30)
            self._met = True
        return cast(bool, self._jobs.study_settled(job_id))


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    flow = Flow(tmp_path)
    yield flow
    flow.catalogue.close()


@pytest.mark.parametrize("failures", [0, 1])
def test_a_study_is_verified_once_by_the_first_of_them(
    flow: Flow, tmp_path: Path, failures: int
) -> None:
    """If the place cannot be asked, the same job asks again later for all."""
    source = tmp_path / "source"
    made = make_study(source, series=2, instances=3)
    backup = tmp_path / "backup"
    destination = flow.destinations[str(backup)] = _Counting(backup, flow.clock, failures)
    durable = flow.ask(source, str(backup))
    stages = flow.stages()
    stages.jobs = cast(Any, _Meeting(stages.jobs, parties=2))
    durable.planned = stages.plan(durable.run_id)
    first, second = durable.planned
    with ThreadPoolExecutor(2) as threads:
        batches = list(threads.map(stages.deliver, [[first.job_id], [second.job_id]]))
    assert [batch.remaining for batch in batches] == [0, 0]
    assert sorted(len(batch.waiting) for batch in batches) == [0, failures]
    flow.carry_out(durable, stages)
    assert destination.looked_for == [len(made)] * (1 + failures)
    assert counts_of(flow.report(durable)) == {"selected": 6, "stored": 6}
    assert stages.verifying == {}
