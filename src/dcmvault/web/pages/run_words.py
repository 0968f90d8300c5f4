"""A run in words and figures, as lists of runs show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dcmvault.app.place_names import PlaceNames
from dcmvault.app.run_list import RunRow
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.plan import RunKind
from dcmvault.model.report import RunState
from dcmvault.reports.summary import lowest_level
from dcmvault.reports.wording import state_label


@dataclass(frozen=True, slots=True)
class RunLine:
    """One line of a list of runs."""

    run_id: str
    kind: str
    source: str
    destinations: tuple[str, ...]
    tone: str
    result: str
    begun_at: datetime
    duration_s: float | None
    #: Instances that are done, and all there are, of a run that goes on.
    done: int
    all: int
    transferred_bytes: int
    goes_on: bool


def kind_label(kind: RunKind) -> str:
    """Name what a run does."""
    labels: Mapping[RunKind, str] = {
        RunKind.BACKUP: _("Backup"),
        RunKind.VERIFY: _("Verification"),
        RunKind.RESTORE: _("Restore"),
    }
    return labels[kind]


def run_line(row: RunRow, names: PlaceNames) -> RunLine:
    """Put a run into words."""
    report = row.report
    tone, result = _result(row)
    return RunLine(
        run_id=str(row.record.run_id),
        kind=kind_label(row.record.request.kind),
        source=names(report.request.source),
        destinations=tuple(names(part.address) for part in report.destinations)
        or tuple(names(one.address) for one in report.request.destinations),
        tone=tone,
        result=result,
        begun_at=row.record.started_at or row.record.created_at,
        duration_s=row.duration_s,
        done=row.progress.settled,
        all=row.progress.items,
        transferred_bytes=sum(part.transferred_bytes for part in report.destinations),
        goes_on=row.goes_on,
    )


def _result(row: RunRow) -> tuple[str, str]:
    """Return tone and words of what became of it; only evidence is good."""
    report, state = row.report, row.record.state
    if row.goes_on:
        return "running", state_label(state)
    if state is RunState.CANCELLED:
        return "open", state_label(state)
    if state is RunState.FAILED:
        return "bad", state_label(state)
    counts = report.counts
    short = max(counts.selected - counts.stored, counts.short)
    if short > 0:
        words = ngettext("%(n)s fell short", "%(n)s fell short", short)
        return "bad", words % {"n": format_number(short)}
    if report.exit_status != 0:
        return "bad", _("finished with warnings")
    if lowest_level(report) <= Level.SENT:
        return "claim", _("sent, not verified")
    if not counts.selected:
        return "good", _("nothing was due")
    return "good", lowest_level(report).word
