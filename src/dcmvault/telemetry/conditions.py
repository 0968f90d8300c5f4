"""What is wrong by what was measured: one observation for each thing that may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from dcmvault.model.alert import AlertCode, AlertSeverity, Subject, SubjectKind
from dcmvault.model.identifiers import RunId
from dcmvault.model.sample import Figure
from dcmvault.telemetry.alerts import Observation, Verdict
from dcmvault.telemetry.filling import Filling
from dcmvault.telemetry.machine import DiskSpace
from dcmvault.telemetry.sampling import Look, progress_marks

_WARNING, _CRITICAL = AlertSeverity.WARNING, AlertSeverity.CRITICAL
_MACHINE = Subject(SubjectKind.MACHINE)
#: Good again is a little more than not bad: free space, processors (in shares), hours.
_ROOM = 1.1
_CPU_MARGIN = 0.1
_CPU_CLEAR_S = 60.0
_FORECAST_MARGIN = 1.5
#: Which part of the copies at a destination may be owed a verification.
_DEBT_SHARE = 0.05
#: A certificate that ends so soon is worse than one that ends some day.
_URGENT_DAYS = 3.0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From where on something is wrong."""

    stalled_after_s: float = 300.0
    disk_low_bytes: int = 1 << 30
    #: 0: not foretold.
    disk_full_within_s: float = 86_400.0
    cpu_share: float = 0.8
    cpu_after_s: float = 300.0
    certificate_days: float = 30.0


def verdict_below(value: float, bad: float, good: float) -> Verdict:
    """Judge what is bad below one limit, and good from another on."""
    if value < bad:
        return Verdict.BAD
    return Verdict.GOOD if value >= good else Verdict.BETWEEN


def cpu(share: float, limits: Thresholds) -> Observation:
    """Observe how busy all processors together are."""
    verdict = Verdict.BETWEEN
    if share > limits.cpu_share:
        verdict = Verdict.BAD
    elif share <= limits.cpu_share - _CPU_MARGIN:
        verdict = Verdict.GOOD
    return Observation(
        AlertCode.CPU_HIGH,
        _MACHINE,
        _WARNING,
        verdict,
        {"cpu_percent": round(100 * share, 1)},
        raise_after_s=limits.cpu_after_s,
        clear_after_s=_CPU_CLEAR_S,
    )


def disk_low(name: str, disk: DiskSpace, limits: Thresholds) -> Observation:
    """Observe the room of one disk."""
    return Observation(
        AlertCode.DISK_LOW,
        Subject(SubjectKind.DISK, name),
        _CRITICAL,
        verdict_below(disk.free, limits.disk_low_bytes, limits.disk_low_bytes * _ROOM),
        {"free_bytes": disk.free, "total_bytes": disk.total},
    )


def disk_forecast(name: str, full_in_s: float | None, limits: Thresholds) -> Observation:
    """Observe when a disk will be full; None: it does not look so."""
    within_s = limits.disk_full_within_s
    left_s = float("inf") if full_in_s is None else full_in_s
    return Observation(
        AlertCode.DISK_FULL_FORECAST,
        Subject(SubjectKind.DISK, name),
        _WARNING,
        verdict_below(left_s, within_s, within_s * _FORECAST_MARGIN),
        {} if full_in_s is None else {"full_in_s": round(full_in_s)},
    )


def certificate(name: str, ends_at: datetime, now: datetime, limits: Thresholds) -> Observation:
    """Observe how long a certificate is still valid; one that is not any more is urgent, too."""
    days = (ends_at - now) / timedelta(days=1)
    return Observation(
        AlertCode.CERTIFICATE_EXPIRING,
        Subject(SubjectKind.CERTIFICATE, name),
        _CRITICAL if days < _URGENT_DAYS else _WARNING,
        Verdict.BAD if days < limits.certificate_days else Verdict.GOOD,
        {"days_left": round(days, 1), "ends_at": ends_at.isoformat()},
    )


def destination(name: str, answers: bool | None, code: str) -> Observation:
    """Observe whether a destination answers; None: nobody knows."""
    verdict = {True: Verdict.GOOD, False: Verdict.BAD, None: Verdict.BETWEEN}[answers]
    subject = Subject(SubjectKind.DESTINATION, name)
    figures = {"error": code} if code else {}
    return Observation(AlertCode.DESTINATION_DOWN, subject, _CRITICAL, verdict, figures)


def source_held(
    name: str, verdict: Verdict, figures: Mapping[str, float | int | str]
) -> Observation:
    """Observe a source whose backups are held."""
    subject = Subject(SubjectKind.SOURCE, name)
    return Observation(AlertCode.SOURCE_HELD, subject, _CRITICAL, verdict, figures)


def verification_debt(name: str, instances: int, studies: int, held: int) -> Observation:
    """Observe what a destination is said to hold without evidence that is young enough.

    A little is always owed where a share is verified at a time.
    """
    share = instances / max(held, instances, 1)
    verdict = Verdict.BAD if share > _DEBT_SHARE else Verdict.BETWEEN
    return Observation(
        AlertCode.VERIFICATION_DEBT,
        Subject(SubjectKind.DESTINATION, name),
        _WARNING,
        verdict if share > _DEBT_SHARE / 2 else Verdict.GOOD,
        {"instances": instances, "studies": studies},
    )


def run_overdue(plan: str, late_s: float, last_good: str) -> Observation:
    """Observe how much longer than it may a plan has been without success; below 0: not yet."""
    return Observation(
        AlertCode.RUN_OVERDUE,
        Subject(SubjectKind.PLAN, plan),
        _CRITICAL,
        Verdict.BAD if late_s > 0 else Verdict.GOOD,
        {"late_s": round(max(late_s, 0.0)), "last_success": last_good},
    )


class Stalling:
    """Remembers when each run last got on."""

    def __init__(self) -> None:
        self._marks: dict[RunId, tuple[tuple[int, ...], datetime]] = {}

    def observe(self, seen: Look, limits: Thresholds) -> Iterable[Observation]:
        """Observe each run at work; one that waits for its next attempt does not stall."""
        marks = progress_marks(seen)
        self._marks = {
            run_id: self._marks[run_id]
            if run_id in self._marks and self._marks[run_id][0] == mark
            else (mark, seen.at)
            for run_id, mark in marks.items()
        }
        for run_id, (_mark, since) in self._marks.items():
            still_s = (seen.at - since).total_seconds()
            yield Observation(
                AlertCode.STALLED,
                Subject(SubjectKind.RUN, run_id),
                _WARNING,
                Verdict.BAD if still_s > 0 else Verdict.GOOD,
                {"still_s": round(still_s)},
                raise_after_s=limits.stalled_after_s,
            )


#: What is observed with every look.
EACH_LOOK = frozenset(
    {
        AlertCode.STALLED,
        AlertCode.DISK_LOW,
        AlertCode.DISK_FULL_FORECAST,
        AlertCode.CPU_HIGH,
        AlertCode.DESTINATION_DOWN,
        AlertCode.SOURCE_HELD,
    }
)


#: What is looked for now and then, by who stays.
NOW_AND_THEN = frozenset(
    {
        AlertCode.CERTIFICATE_EXPIRING,
        AlertCode.RUN_OVERDUE,
        AlertCode.VERIFICATION_DEBT,
    }
)


def of_machine(
    seen: Look, filling: Mapping[str, Filling], limits: Thresholds
) -> Iterable[Observation]:
    """Observe processors and disks."""
    if Figure.CPU_SHARE in seen.machine:
        yield cpu(seen.machine[Figure.CPU_SHARE], limits)
    for name, disk in seen.disks.items():
        yield disk_low(name, disk, limits)
        if limits.disk_full_within_s and name in filling:
            yield disk_forecast(name, filling[name].full_in_s(disk.free), limits)
