"""Run reports as runs make them, for whoever shows reports: good, bad, and merely claimed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest
from dcmvault.model.report import (
    Counts,
    DestinationReport,
    Failure,
    RunReport,
    RunState,
    StudyReport,
)

STARTED = datetime(2026, 1, 31, 2, 0, tzinfo=UTC)
FINISHED = STARTED + timedelta(minutes=6, seconds=7)
PACS = "dicom://ARCHIVE@pacs.example:104?calling=DCMVAULT"
FOLDER = "/backup/studies"


def study(number: int, destination: str, level: Level, *, held: int = 120) -> StudyReport:
    """Return one study of 120 instances at one destination, with patient data to be hidden."""
    return StudyReport(
        study_instance_uid=f"1.2.826.0.1.3680043.8.498.{45787841905188114249328 + number}",
        destination=destination,
        modalities=("CT", "MR", "US\\SR", "CR")[number % 4],
        study_date=f"2025{1 + number % 12:02d}{1 + number:02d}",
        instances=120,
        held=held,
        level=level,
        verified_at=FINISHED - timedelta(seconds=40 + number * 97_000) if level > 1 else None,
        patient_name="Doe^Jane",
        patient_id="PID-0815",
        study_description="Thorax of Jane",
    )


def good() -> RunReport:
    """Two destinations, everything at its level."""
    return RunReport(
        run_id=RunId("20260131-020000-9f3c61d2"),
        request=RunRequest(
            RunKind.BACKUP,
            "horos:/Users/radiology/Documents/Horos Data",
            (DestinationRequest(PACS), DestinationRequest(FOLDER)),
        ),
        state=RunState.FINISHED,
        started_at=STARTED,
        finished_at=FINISHED,
        destinations=(
            DestinationReport(
                PACS, PACS, Level.COMPLETE, Counts(480, 9120, 480), 252_000_000, 252_000_000
            ),
            DestinationReport(
                FOLDER, FOLDER, Level.PROVEN, Counts(960, 8640, 960), 504_000_000, 498_000_000
            ),
        ),
        studies=80,
        not_dicom=14,
        exit_status=0,
        stages={"scan": 12.4, "deliver": 251.0, "verify": 88.2},
        study_reports=tuple(
            study(number, destination, level)
            for number in range(8)
            for destination, level in ((PACS, Level.COMPLETE), (FOLDER, Level.PROVEN))
        ),
    )


def bad() -> RunReport:
    """Failures of three causes at the PACS; files of any name; a warning."""
    uid = "1.2.826.0.1.3680043.8.498.1"
    dropped = [
        Failure(
            f"{uid}.{number}",
            uid,
            PACS,
            "missing",
            "0000",
            "The peer accepted it, and does not list it.",
            locator=f"10000/Doe Jane {number}.dcm",
        )
        for number in range(10)
    ]
    others = [
        Failure(
            f"{uid}.77",
            uid,
            PACS,
            "refused_for_now",
            "A700",
            "Out of resources.",
            "The archive is full or busy: ask its administrator.",
            "10000/Doe Jane 77.dcm",
        ),
        Failure(
            "",
            "",
            PACS,
            "unreadable",
            "",
            "The file cannot be read: Input/output error.",
            locator="10000/Doe Jane 78.dcm",
        ),
    ]
    report = good()
    pacs = replace(report.destinations[0], counts=Counts(480, 9120, 468, 11, 1))
    short = replace(report.study_reports[4], held=110, level=Level.NONE)
    return replace(
        report,
        destinations=(pacs, report.destinations[1]),
        exit_status=3,
        failures=(*dropped, *others),
        warnings=("Stored as it is, but: 3 files have truncated pixel data.",),
        study_reports=(*report.study_reports[:4], short, *report.study_reports[5:]),
    )


def claimed() -> RunReport:
    """Sent, and nothing verified."""
    report = good()
    pacs = replace(report.destinations[0], level=Level.SENT)
    return replace(
        report,
        destinations=(pacs,),
        study_reports=tuple(study(number, PACS, Level.SENT) for number in range(3)),
    )
