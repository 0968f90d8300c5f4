"""What the overview counts now and then: over all instances, disks and certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dcmvault.app.looking_after import certificate_files
from dcmvault.app.monitoring import disk_paths, places_written_to
from dcmvault.app.notice_facts import addresses_of_plan
from dcmvault.app.status import SourceView, status
from dcmvault.app.wiring.destinations import default_level
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.settings import Settings
from dcmvault.model.alert import Subject, SubjectKind
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId
from dcmvault.model.overview import CopyCount, Debt, PlaceAsked, Protection, Space
from dcmvault.model.sample import Figure
from dcmvault.ports.status import CoverageStatus, SourceStatus
from dcmvault.telemetry.certificates import ends_at
from dcmvault.telemetry.filling import Filling
from dcmvault.telemetry.machine import disk_space, file_system

#: The past that says when a disk is full, and the least of it.
_PAST, _LEAST_PAST = timedelta(days=28), timedelta(days=3)
_HOUR_S, _DAY_S = 3600, 86_400


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted at one moment: seconds of work for a large archive."""

    at: datetime
    protection: Protection
    debt: Debt
    copies: Mapping[DestinationId, CopyCount]
    #: When the oldest evidence at each destination was found.
    oldest_evidence: Mapping[DestinationId, datetime]
    #: Entries that sources could not give.
    unreadable: Mapping[str, int]
    #: By the names of configured destinations.
    spaces: Mapping[str, Space]
    #: When certificates of ours end, by the names of configured destinations.
    certificates: Mapping[str, datetime]
    #: What tells file systems apart, by address of destinations and sources on disks.
    devices: Mapping[str, int]


def count(workplace: Workplace, views: Sequence[SourceView] | None = None) -> Counted:
    """Count. `views` are those of `app.status.status`, where somebody has them already."""
    catalogue, settings = workplace.catalogue, workplace.settings
    views = status(workplace) if views is None else views
    now = workplace.clock.now()
    ids = {address: key for key, address in catalogue.status.destinations().items()}
    protection, debt = Protection(), Debt()
    oldest: dict[DestinationId, datetime] = {}
    for view in views:
        asked, everywhere = asked_of(workplace, view.source, view.coverage, ids)
        if asked:
            source_id = view.source.source_id
            protection += catalogue.overview.protection(source_id, asked, everywhere=everywhere)
        for one in view.coverage:
            owed = view.evidence[one.destination].debt
            debt = Debt(
                debt.studies + owed.studies,
                debt.instances + owed.instances,
                debt.bytes + owed.bytes,
            )
            if (at := one.oldest_evidence_at) is not None:
                key = one.destination_id
                oldest[key] = min(at, oldest.get(key, at))
    unreadable = catalogue.overview.unreadable()
    return Counted(
        now,
        protection,
        debt,
        catalogue.overview.copies(),
        oldest,
        {
            view.source.name: unreadable[view.source.source_id]
            for view in views
            if view.source.source_id in unreadable
        },
        _spaces(workplace, now),
        _certificates(settings),
        _devices(settings),
    )


def asked_of(
    workplace: Workplace,
    source: SourceStatus,
    coverage: Sequence[CoverageStatus],
    ids: Mapping[str, DestinationId],
) -> tuple[list[PlaceAsked], bool]:
    """Say where copies of a source are to be, at which levels, and whether at all of these places.

    Plans say so; of a source that is in none, the places that it was ever sent to.
    """
    settings = workplace.settings
    levels: dict[str, Level] = {}
    everywhere = True
    for name, plan in settings.plans.items():
        sources, destinations = addresses_of_plan(settings, name)
        if source.name not in sources:
            continue
        everywhere &= plan.routing.mode == "mirror" and not plan.routing.rules
        for address in destinations:
            level = Level.from_word(plan.level) if plan.level else usual_level(workplace, address)
            levels[address] = max(level, levels.get(address, level))
    for one in coverage if not levels else ():
        levels[one.destination] = usual_level(workplace, one.destination)
    asked = [PlaceAsked(ids.get(address, 0), level) for address, level in levels.items()]
    return asked, everywhere


def usual_level(workplace: Workplace, address: str) -> Level:
    """Return the level that is asked of a destination where nobody says another."""
    configured = workplace.settings.configured(address)
    if configured is not None and configured.level is not None:
        return configured.level
    return default_level(workplace.destination_section(address))


def _spaces(workplace: Workplace, now: datetime) -> dict[str, Space]:
    """Look at the disks that destinations are on."""
    settings = workplace.settings
    disks = {
        file_system(path): (name, path)
        for name, path in disk_paths(places_written_to(workplace.home, settings)).items()
    }
    spaces: dict[str, Space] = {}
    by_disk: dict[str, Space | None] = {}
    for name, destination in settings.destinations.items():
        path = getattr(destination.section, "path", None)
        if path is None or (disk := disks.get(file_system(path))) is None:
            continue
        if disk[0] not in by_disk:
            room = disk_space(disk[1])
            by_disk[disk[0]] = None
            if room is not None:
                days = _full_in_days(workplace, disk[0], room.free, now)
                by_disk[disk[0]] = Space(room.free, room.total, days)
        if (space := by_disk[disk[0]]) is not None:
            spaces[name] = space
    return spaces


def _full_in_days(workplace: Workplace, disk: str, free: int, now: datetime) -> float | None:
    """Say when a disk is full if it goes on as in the last weeks; None: it does not, or unknown."""
    subject = Subject(SubjectKind.DISK, disk)
    past = [
        (one.at, one.figures[Figure.DISK_FREE_BYTES])
        for one in workplace.catalogue.samples.samples(_HOUR_S, now - _PAST, now, subject)
        if Figure.DISK_FREE_BYTES in one.figures
    ]
    if not past or past[-1][0] - past[0][0] < _LEAST_PAST:
        return None
    seconds = Filling(past).full_in_s(float(free))
    return None if seconds is None else seconds / _DAY_S


def _certificates(settings: Settings) -> dict[str, datetime]:
    found = {}
    for section, path in certificate_files(settings).items():
        kind, _dot, name = section.partition(".")
        if kind == "destinations" and (end := ends_at(path)) is not None:
            found[name] = end
    return found


def _devices(settings: Settings) -> dict[str, int]:
    sections: list[object] = [one.section for one in settings.destinations.values()]
    sections += settings.sources.values()
    devices = {}
    for section in sections:
        path = getattr(section, "path", None)
        device = file_system(path) if path is not None else None
        if device is not None:
            devices[str(getattr(section, "address", ""))] = device
    return devices
