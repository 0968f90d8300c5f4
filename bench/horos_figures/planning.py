"""The process that is measured: `python -m bench.horos_figures.planning STATE LIBRARY TARGET`.

Plans one backup of the library to a folder, as a run does: the pass over the library, what is due,
and jobs written down. Prints seconds by stage as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from dcmvault.app.stages import BackupStages
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.catalogue import open_catalogue
from dcmvault.config.sections import FolderDestinationSection, HorosSourceSection
from dcmvault.destinations.folder import FolderDestination
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import new_run_id
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest
from dcmvault.object_stores.local import LocalStore
from dcmvault.pipeline.classification import Classifier
from dcmvault.pipeline.retry import RetryPolicy
from dcmvault.pipeline.sudden_change import HoldPolicy
from dcmvault.sources.horos import HorosSource


def plan(state: Path, library: Path, target: Path) -> dict[str, float]:
    """Plan a run; return its seconds by stage, and how many jobs there are."""
    clock = SystemClock()
    catalogue = open_catalogue(str(state / "catalogue.sqlite3"))
    source = HorosSource(HorosSourceSection(path=library))
    section = FolderDestinationSection(path=target)
    destination = FolderDestination(section, LocalStore(target, clock), clock)
    stages = BackupStages(
        sources=catalogue.sources,
        plans=catalogue.plans,
        jobs=catalogue.jobs,
        runs=catalogue.runs,
        snapshots=catalogue.snapshots,
        meter=catalogue.statistics,
        reverification=catalogue.reverification,
        exclusions=catalogue.exclusions,
        facts=catalogue.study_facts,
        routes=catalogue.routes,
        classifier=Classifier,
        open_source=lambda _request: source,
        open_destination=lambda _address: destination,
        policy=RetryPolicy(),
        clock=clock,
        seal_run=lambda _run_id: None,
        signs=catalogue.signs,
        hold=HoldPolicy,
        stopping=threading.Event(),
    )
    wanted = DestinationRequest(destination.name, Level.PROVEN)
    request = RunRequest(RunKind.BACKUP, source.name, (wanted,))
    run_id = catalogue.runs.ask_for_run(new_run_id(clock.now()), request, clock.now())
    jobs = stages.plan(run_id)
    seconds = catalogue.runs.report(run_id, studies=False).stages
    catalogue.close()
    return {**seconds, "items": sum(job.instances for job in jobs), "jobs": len(jobs)}


if __name__ == "__main__":
    print(json.dumps(plan(*map(Path, sys.argv[1:]))))
