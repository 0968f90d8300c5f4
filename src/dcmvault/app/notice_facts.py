"""What notices say of runs and plans: figures, codes and configured names, no patient data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from urllib.parse import urlsplit

from dcmvault.config.readable import as_source
from dcmvault.config.settings import Settings
from dcmvault.errors import AddressError
from dcmvault.model.notice import Event, Severity
from dcmvault.model.plan import RunKind, RunRequest
from dcmvault.model.report import Counts, RunReport, RunState
from dcmvault.reports.summary import duration_s, lowest_level

#: Causes that a notice keeps; the report has them all.
_MOST_CAUSES = 20


def place_name(settings: Settings, address: str) -> str:
    """Name a place without its path: as it is configured, else by its kind and host.

    Paths and prefixes are chosen by people, who put patients' names into them.
    """
    for name, source in settings.sources.items():
        if source.address == address:
            return name
    for name, destination in settings.destinations.items():
        if address in (destination.section.address, as_source(destination.section).address):
            return name
    kind, colon, rest = address.partition(":")
    if not colon or "/" in kind or len(kind) < 2:  # a letter is a drive
        return "folder"
    if not rest.startswith("//"):
        # A library, the listener, or a vault on a disk or in a bucket.
        return kind
    parts = urlsplit(address)
    return f"{kind}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")


def plan_of(settings: Settings, request: RunRequest) -> str:
    """Return the plan that a backup belongs to by what it backs up where; empty for none."""
    if request.kind is not RunKind.BACKUP:
        return ""
    wanted = {one.address for one in request.destinations}
    for name in settings.plans:
        sources, destinations = addresses_of_plan(settings, name)
        if request.source in sources and wanted == set(destinations):
            return name
    return ""


def addresses_of_plan(settings: Settings, name: str) -> tuple[list[str], list[str]]:
    """Return the canonical addresses of a plan's sources and destinations; none if it is wrong."""
    plan = settings.plans[name]
    try:
        return (
            [settings.source(one).address for one in plan.sources],
            [settings.destination(one).section.address for one in plan.destinations],
        )
    except AddressError:
        return [], []


def end_of_run(report: RunReport) -> tuple[Event, Severity]:
    """Say how a run ended, and how much that matters."""
    if report.state is not RunState.FINISHED:
        cancelled = report.state is RunState.CANCELLED
        return Event.RUN_FAILED, Severity.WARNING if cancelled else Severity.CRITICAL
    if report.exit_status:
        return Event.RUN_INCOMPLETE, Severity.WARNING
    return Event.RUN_OK, Severity.INFO


def facts_of_request(settings: Settings, request: RunRequest) -> dict[str, object]:
    """Return what is known of a run when it begins."""
    return {
        "kind": request.kind.value,
        "source": place_name(settings, request.source),
        "destinations": [
            {
                "name": place_name(settings, one.address),
                "level": one.level.word if one.level is not None else "",
            }
            for one in request.destinations
        ],
    }


def facts_of_run(settings: Settings, report: RunReport) -> dict[str, object]:
    """Return what a notice keeps of a run that ended."""
    causes = Counter((one.destination, one.code) for one in report.failures)
    return {
        "kind": report.request.kind.value,
        "state": report.state.value,
        "exit_status": report.exit_status,
        "source": place_name(settings, report.request.source),
        "level": lowest_level(report).word,
        "studies": report.studies,
        "duration_s": duration_s(report),
        "source_bytes": sum(part.source_bytes for part in report.destinations),
        "transferred_bytes": sum(part.transferred_bytes for part in report.destinations),
        "instances": _counts(report.counts),
        "destinations": [
            {
                "name": place_name(settings, part.address),
                "level": part.level.word,
                "instances": _counts(part.counts),
            }
            for part in report.destinations
        ],
        "causes": [
            {
                # What the source could not give is nobody else's.
                "destination": place_name(settings, destination or report.request.source),
                "code": code,
                "instances": count,
            }
            for (destination, code), count in causes.most_common(_MOST_CAUSES)
        ],
        "error": report.error[0] if report.error is not None else None,
    }


def names_of_places(settings: Settings, report: RunReport) -> Mapping[str, str]:
    """Return how the places of a run are named outside of this machine, by their addresses."""
    addresses = {
        report.request.source,
        *(one.address for one in report.request.destinations),
        *(part.address for part in report.destinations),
    }
    return {address: place_name(settings, address) for address in addresses}


def _counts(counts: Counts) -> dict[str, int]:
    return {
        "selected": counts.selected,
        "already_held": counts.already_held,
        "stored": counts.stored,
        "failed": counts.failed,
        "unreadable": counts.unreadable,
        "conflicts": counts.conflicts,
    }
