"""Check first: what runs of a plan would do, how long that takes, and a pilot of few studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dcmvault.app.backup import Started, requests_of_plan, start
from dcmvault.app.preview import preview
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.sections import FolderDestinationSection, VaultDestinationSection
from dcmvault.config.week_grid import ALL_HOURS, Hours, grid_of

#: Studies of a pilot, for each source.
PILOT_STUDIES = 10
#: What was seen of places that take copies, before anything is measured here (bytes per second):
#: from a slow one to a fast one.
_PACS_RATES = (5e6, 60e6)
_VAULT_RATES = (15e6, 80e6)
_FOLDER_RATES = (30e6, 200e6)


@dataclass(frozen=True, slots=True)
class ExpectedDestination:
    """What the runs of a plan would send to one destination."""

    name: str
    instances: int
    already_held: int
    bytes: int
    #: Seconds of sending, at best and at worst; pauses are not counted.
    at_best_s: float
    at_worst_s: float


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the runs of a plan would do. Nothing was sent."""

    destinations: tuple[ExpectedDestination, ...]
    studies: int
    unreadable: int
    not_dicom: int
    warnings: tuple[str, ...]
    #: Hours of a week in which it would send, of 168.
    open_hours: int

    @property
    def lasts_s(self) -> tuple[float, float]:
        """Seconds until all destinations have all, pauses included: at best and at worst."""
        share = max(self.open_hours, 1) / len(ALL_HOURS)
        best = max((one.at_best_s for one in self.destinations), default=0.0)
        worst = max((one.at_worst_s for one in self.destinations), default=0.0)
        return best, worst / share


def expect(workplace: Workplace, plan: str) -> Expectation:
    """List the sources of a plan and say what its runs would do.

    New headers are read and remembered. Raises as the runs would: SourceError, AddressError.
    """
    names = {
        workplace.settings.destination(one).section.address: one
        for one in workplace.settings.plan(plan).destinations
    }
    found: dict[str, ExpectedDestination] = {}
    studies = unreadable = not_dicom = 0
    warnings: list[str] = []
    for request in requests_of_plan(workplace.settings, plan):
        seen = preview(workplace, replace(request, max_studies=0))
        studies += seen.studies
        unreadable += seen.unreadable
        not_dicom += seen.not_dicom
        warnings += seen.warnings
        for one in seen.destinations:
            slow, fast = _rates(workplace, names.get(one.name, one.name))
            before = found.get(one.name)
            found[one.name] = ExpectedDestination(
                names.get(one.name, one.name),
                one.selected + (before.instances if before else 0),
                one.already_held + (before.already_held if before else 0),
                one.bytes + (before.bytes if before else 0),
                one.bytes / fast + (before.at_best_s if before else 0),
                one.bytes / slow + (before.at_worst_s if before else 0),
            )
    return Expectation(
        tuple(found.values()),
        studies,
        unreadable,
        not_dicom,
        tuple(dict.fromkeys(warnings)),
        len(_hours_of(workplace, plan)),
    )


def start_pilot(workplace: Workplace, plan: str, studies: int = PILOT_STUDIES) -> Sequence[Started]:
    """Ask for the runs of a plan with few studies of each source; nothing is followed."""
    requests = requests_of_plan(workplace.settings, plan)
    return [start(workplace, replace(one, max_studies=studies)) for one in requests]


def _rates(workplace: Workplace, name: str) -> tuple[float, float]:
    section = workplace.settings.destination(name).section
    slow, fast = _PACS_RATES
    if isinstance(section, VaultDestinationSection):
        slow, fast = _VAULT_RATES
    elif isinstance(section, FolderDestinationSection):
        slow, fast = _FOLDER_RATES
    limits = [
        limit
        for limit in (
            workplace.settings.bandwidth.table().bytes_per_second,
            section.bandwidth.table().bytes_per_second if hasattr(section, "bandwidth") else None,
        )
        if limit is not None
    ]
    return min((slow, *limits)), min((fast, *limits))


def _hours_of(workplace: Workplace, plan: str) -> Hours:
    """Return the hours in which the schedules of a plan let it send; all, where none says."""
    for schedule in workplace.settings.schedules.values():
        if schedule.plan == plan and schedule.window in workplace.settings.windows:
            try:
                return grid_of(workplace.settings.windows[schedule.window])
            except ValueError:
                return ALL_HOURS
    return ALL_HOURS
