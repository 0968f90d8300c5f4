"""Reports of periods as catalogues make them, for whoever shows reports."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.model.report import Counts, DestinationReport, RunState
from dcmvault.model.statistics import CauseRow, EvidenceRow, PeriodReport, RunRow
from dcmvault.testing.sample_reports import FOLDER, PACS

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = datetime(2026, 1, 31, tzinfo=UTC)
HOROS = "horos:/Users/radiology/Documents/Horos Data"
ORTHANC = "orthanc+http://127.0.0.1:8042"


def run(day: int, *, source: str = HOROS, hour: int = 2, failed: int = 0) -> RunRow:
    """Return a night's run; more on some days than on others."""
    started = SINCE + timedelta(days=day, hours=hour, minutes=day % 7)
    selected = 400 + 137 * (day % 5)
    size = selected * 526_000
    took = timedelta(minutes=4 + 3 * (day % 5), seconds=day)
    counts = Counts(selected, 9000 + 400 * day, selected - failed, failed)
    return RunRow(
        run_id=RunId(f"202601{day + 1:02d}-0{hour}0000-9f3c61{day:02x}"),
        kind="backup",
        source=source,
        strategy="incremental",
        state=RunState.FINISHED,
        started_at=started,
        finished_at=started + took,
        exit_status=3 if failed else 0,
        studies=8 + day % 5,
        parts=(
            DestinationReport(PACS, PACS, Level.COMPLETE, counts, size, size - failed * 526_000),
            DestinationReport(
                FOLDER, FOLDER, Level.PROVEN, Counts(selected, 9000, selected), size, size
            ),
        ),
        stages={"scan": 12.4, "deliver": 251.0, "verify": 88.2},
    )


def evidence(destination: str, level: Level, missing: int = 0) -> EvidenceRow:
    """Return how one source stands at one destination."""
    return EvidenceRow(
        source=HOROS,
        destination=destination,
        studies=412,
        studies_protected=412 - min(missing, 2),
        instances=21_400,
        by_level={level: 21_400 - missing},
        oldest_evidence_at=SINCE - timedelta(days=12),
    )


def good() -> PeriodReport:
    """Return a month in which everything went well."""
    return PeriodReport(
        since=SINCE,
        until=UNTIL,
        made_at=UNTIL + timedelta(minutes=5),
        destination=None,
        runs=tuple(
            sorted(
                (
                    *(run(day) for day in range(30)),
                    *(run(day, source=ORTHANC, hour=4) for day in range(0, 30, 7)),
                ),
                key=lambda one: one.started_at,
            )
        ),
        studies=301,
        evidence=(evidence(PACS, Level.COMPLETE), evidence(FOLDER, Level.PROVEN)),
        causes=(),
    )


def bad() -> PeriodReport:
    """Return the same with two nights on which the PACS was full."""
    report = good()
    runs = tuple(
        run(one.started_at.day - 1, failed=37)
        if one.source == HOROS and one.started_at.day in {11, 12}
        else one
        for one in report.runs
    )
    return replace(
        report,
        runs=runs,
        evidence=(evidence(PACS, Level.COMPLETE, missing=37), report.evidence[1]),
        causes=(
            CauseRow(PACS, "refused_for_now", "A700", 61, 2),
            CauseRow(PACS, "association_lost", "", 13, 1),
        ),
    )


def empty() -> PeriodReport:
    """Return a period in which nothing ran."""
    return replace(good(), runs=(), studies=0, evidence=(), causes=())
