"""Reports: what a run did, what happened in a time, and how a destination fares."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.identifiers import RunId
from dcmvault.model.report import Privacy, RunReport
from dcmvault.model.statistics import PeriodReport
from dcmvault.reports import render as rendering

LATEST = "latest"
#: The formats, as the command line names them.
FORMATS = (*rendering.FORMATS, rendering.PDF)


def run_report(workplace: Workplace, run: str, *, studies: bool = True) -> RunReport:
    """Return the report of a run by its name, or of the newest run for `latest`."""
    report = _find(workplace, run, studies=studies)
    return replace(report, assembled_at=workplace.clock.now())


def _find(workplace: Workplace, run: str, *, studies: bool) -> RunReport:
    runs = workplace.catalogue.runs
    if run == LATEST:
        newest = runs.runs(1)
        if not newest:
            raise UsageError(_("There is no run yet."), hint=_("Start one with `dcmvault backup`."))
        return runs.report(newest[0].run_id, studies=studies)
    try:
        return runs.report(RunId(run), studies=studies)
    except KeyError:
        raise UsageError(
            _("There is no run %(run)s.") % {"run": run},
            hint=_("`dcmvault status` lists the latest runs."),
        ) from None


def period_report(
    workplace: Workplace, since: datetime | None, until: datetime | None, destination: str
) -> PeriodReport:
    """Return what happened in a time (empty: all of it), at one destination if one is named.

    UsageError for a destination that was never used.
    """
    address = None
    if destination:
        address = workplace.settings.destination(destination).section.address
        known = set(workplace.catalogue.status.destinations().values())
        if address not in known:
            raise UsageError(
                _("Nothing was ever sent to %s.") % destination,
                hint=_("Known destinations: %s.") % (", ".join(sorted(known)) or "-"),
            )
    now = workplace.clock.now()
    report = workplace.catalogue.statistics.period(since, min(until or now, now), address)
    return replace(report, made_at=now)


def render(workplace: Workplace, run: str, format_: str, privacy: Privacy) -> str:
    """Render a run's report as `html`, `json`, `csv` or `text`."""
    return rendering.render(run_report(workplace, run), format_, privacy)


def rendered(report: RunReport | PeriodReport, format_: str, privacy: Privacy) -> str | bytes:
    """Render a report in one of `FORMATS`; PDF is bytes."""
    if format_ == rendering.PDF:
        return rendering.render_pdf(report, privacy)
    if isinstance(report, PeriodReport):
        return rendering.render_period(report, format_)
    return rendering.render(report, format_, privacy)
