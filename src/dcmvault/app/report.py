"""Reports: what a run did, in the format asked for."""

from __future__ import annotations

from dataclasses import replace

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.identifiers import RunId
from dcmvault.model.report import Privacy, RunReport
from dcmvault.reports import render as rendering

LATEST = "latest"


def run_report(workplace: Workplace, run: str) -> RunReport:
    """Return the report of a run by its name, or of the newest run for `latest`."""
    report = _find(workplace, run)
    return replace(report, assembled_at=workplace.clock.now())


def _find(workplace: Workplace, run: str) -> RunReport:
    runs = workplace.catalogue.runs
    if run == LATEST:
        newest = runs.runs(1)
        if not newest:
            raise UsageError(_("There is no run yet."), hint=_("Start one with `dcmvault backup`."))
        return runs.report(newest[0].run_id)
    try:
        return runs.report(RunId(run))
    except KeyError:
        raise UsageError(
            _("There is no run %(run)s.") % {"run": run},
            hint=_("`dcmvault status` lists the latest runs."),
        ) from None


def render(workplace: Workplace, run: str, format_: str, privacy: Privacy) -> str:
    """Render a run's report as `html`, `json`, `csv` or `text`."""
    return rendering.render(run_report(workplace, run), format_, privacy)
