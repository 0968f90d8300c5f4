"""The newest runs with what became of each, as a list shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from dcmvault.app.report import run_report
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.model.identifiers import RunId
from dcmvault.model.report import RunReport, RunState
from dcmvault.ports.catalogue import RunProgress, RunRecord

_GOING_ON = frozenset({RunState.PENDING, RunState.PLANNING, RunState.RUNNING})
#: Runs that are looked through for those that are wanted.
_MOST_RUNS = 2000


class RunFilter(StrEnum):
    """Which runs are wanted."""

    ALL = "all"
    GOING_ON = "going-on"
    #: Ended with anything but success.
    SHORT = "short"


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run, its counters now, and its report without studies (in lists: without instances)."""

    record: RunRecord
    progress: RunProgress
    report: RunReport

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended."""
        return self.record.state in _GOING_ON

    @property
    def duration_s(self) -> float | None:
        """Seconds from its begin to its end; None of one that did not begin, or goes on."""
        if self.record.started_at is None or self.record.finished_at is None:
            return None
        return (self.record.finished_at - self.record.started_at).total_seconds()


def run_rows(
    workplace: Workplace, limit: int, wanted: RunFilter = RunFilter.ALL
) -> tuple[list[RunRow], bool]:
    """List the newest runs that are wanted; also say whether there are more."""
    rows: list[RunRow] = []
    for row in _rows(workplace, limit if wanted is RunFilter.ALL else _MOST_RUNS, wanted):
        if len(rows) == limit:
            return rows, True
        rows.append(row)
    return rows, False


def _rows(workplace: Workplace, most: int, wanted: RunFilter) -> Iterator[RunRow]:
    for record in workplace.catalogue.runs.runs(most + 1):
        goes_on = record.state in _GOING_ON
        if wanted is RunFilter.GOING_ON and not goes_on:
            continue
        if wanted is RunFilter.SHORT and goes_on:
            continue
        row = _row(workplace, record)
        if wanted is not RunFilter.SHORT or row.report.exit_status != 0:
            yield row


def listed_run(workplace: Workplace, run_id: RunId) -> RunRow | None:
    """Return a run as lists show it, without instances; None where it is not written down yet."""
    try:
        record = workplace.catalogue.runs.run(run_id)
    except KeyError:
        return None
    return _row(workplace, record)


def run_row(workplace: Workplace, run: str) -> RunRow:
    """Return one run by its name, or the newest for `latest`; UsageError if there is none."""
    report = run_report(workplace, run, studies=False)
    runs = workplace.catalogue.runs
    return RunRow(runs.run(report.run_id), runs.progress(report.run_id), report)


def _row(workplace: Workplace, record: RunRecord) -> RunRow:
    runs = workplace.catalogue.runs
    report = runs.report(record.run_id, studies=False, items=False)
    return RunRow(record, runs.progress(record.run_id), report)
