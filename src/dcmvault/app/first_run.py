"""From the answers of the first run to the configuration: its tables, and the first plan."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from dcmvault.app.first_run_draft import Draft, DraftPlace, When
from dcmvault.config.addresses import destination_section, source_section
from dcmvault.config.editing import AddTable, Edit, RemoveKey, SetKey
from dcmvault.config.load import load_settings
from dcmvault.config.peer_sections import (
    DimsePeerSection,
    OrthancSourceSection,
    WebPeerSection,
)
from dcmvault.config.places import config_path
from dcmvault.config.schedule_sections import WindowSection
from dcmvault.config.sections import (
    DestinationSection,
    HorosSourceSection,
    SourceSection,
    VaultSection,
)
from dcmvault.config.settings import Settings
from dcmvault.config.toml_values import TomlValue
from dcmvault.config.week_grid import ALL_HOURS, Hours, grid_of, windows_of

#: The names that the first plan, its schedule and its window get.
PLAN = "main"
_WINDOW = "quiet-hours"
CHANNEL = "problems"

_NIGHT_HOURS = {"days": "mon-sun", "from": "20:00", "to": "06:00"}
_OFFICE_HOURS = {"days": "mon-fri", "from": "08:00", "to": "18:00"}


def preset_hours(when: When, painted: Hours = frozenset()) -> Hours:
    """Return the hours of the week in which a preset sends."""
    if when is When.PAINTED:
        return painted
    window = _window_table(when, painted)
    return grid_of(WindowSection.model_validate(window)) if window else ALL_HOURS


def edits_of(home: Path, draft: Draft) -> list[Edit]:
    """Return the edits that write a draft down; what is there already under its names is changed.

    The schedule is written, but not enabled: it is when somebody starts it (`enabling`).
    """
    settings = load_settings(config_path(home))
    edits: list[Edit] = []
    if draft.language:
        edits.append(SetKey(("language",), draft.language))
    edits.append(SetKey(("bandwidth", "rate"), draft.rate))
    for source in draft.sources:
        edits += _table(("sources", source.name), source.table, settings.sources)
    for destination in draft.destinations:
        edits += _table(
            ("destinations", destination.name), destination.table, settings.destinations
        )
    if draft.channel:
        edits += _table(("notifications", CHANNEL), _channel(draft), settings.notifications)
    if draft.sources and draft.destinations:
        edits += _plan(draft, settings)
    return edits


def _channel(draft: Draft) -> dict[str, TomlValue]:
    table: dict[str, TomlValue] = dict(draft.channel)
    if "to" in table:
        table["to"] = [one.strip() for one in str(table["to"]).split(",")]
    return table


def enabling(enabled: bool) -> list[Edit]:
    """Return the edits that enable the first plan's schedule, or do not."""
    return [SetKey(("schedules", PLAN, "enabled"), enabled)]


def _plan(draft: Draft, settings: Settings) -> Iterator[Edit]:
    plan: dict[str, TomlValue] = {
        "sources": [one.name for one in draft.sources],
        "destinations": [one.name for one in draft.destinations],
    }
    yield from _table(("plans", PLAN), plan, settings.plans)
    window = _window_table(draft.when, draft.hours)
    schedule: dict[str, TomlValue] = {"plan": PLAN}
    if draft.when is When.ALWAYS:
        schedule["every"] = "1h"
    else:
        schedule["cron"] = f"0 {_first_hour(preset_hours(draft.when, draft.hours))} * * *"
    if window:
        schedule["window"] = _WINDOW
        if _WINDOW in settings.windows:
            yield from (RemoveKey(("windows", _WINDOW, key)) for key in ("open", "closed"))
        yield from _table(("windows", _WINDOW), window, settings.windows)
    schedule["enabled"] = False
    if PLAN in settings.schedules:
        stale = {"every", "cron", "window"} - {*schedule}
        yield from (RemoveKey(("schedules", PLAN, key)) for key in sorted(stale))
    yield from _table(("schedules", PLAN), schedule, settings.schedules)


def _window_table(when: When, painted: Hours) -> dict[str, TomlValue]:
    match when:
        case When.NIGHTS:
            return {"open": [_NIGHT_HOURS]}
        case When.OFF_HOURS:
            return {"closed": [_OFFICE_HOURS]}
        case When.PAINTED if painted != ALL_HOURS:
            return {"open": list(windows_of(painted))}
        case _:
            return {}


def _first_hour(hours: Hours) -> int:
    """Return the hour at which the longest stretch of hours begins on most days."""
    best, longest = 2, 0
    for hour in range(24):
        begins = sum(
            (day, hour) in hours and (day, (hour - 1) % 24) not in hours for day in range(7)
        )
        if begins > longest:
            best, longest = hour, begins
    return best


def _table(
    path: tuple[str, str], values: Mapping[str, TomlValue], known: Collection[str]
) -> Iterator[Edit]:
    if path[1] in known:
        yield from (SetKey((*path, key), value) for key, value in values.items())
    else:
        yield AddTable(path, values)


def name_for(section: SourceSection | DestinationSection, taken: Collection[str]) -> str:
    """Propose a name for a place, which nothing else has."""
    name = "folder"
    if isinstance(section, HorosSourceSection):
        name = "library"
    elif isinstance(section, VaultSection):
        name = "vault"
    elif isinstance(section, OrthancSourceSection):
        name = "orthanc"
    elif isinstance(section, DimsePeerSection):
        name = "pacs"
    elif isinstance(section, WebPeerSection):
        name = "web"
    number = 1
    proposed = name
    while proposed in taken:
        number += 1
        proposed = f"{name}{number}"
    return proposed


def drafted_source(
    address: str, options: Mapping[str, str | int | bool], taken: Collection[str]
) -> DraftPlace:
    """Make a source of the draft; AddressError for what is none."""
    section = source_section(address, allow_plain_http=options.get("allow_plain_http") is True)
    return DraftPlace(name_for(section, taken), section.address, options)


def drafted_destination(
    address: str, options: Mapping[str, str | int | bool], taken: Collection[str]
) -> DraftPlace:
    """Make a destination of the draft; AddressError for what is none."""
    section = destination_section(address, allow_plain_http=options.get("allow_plain_http") is True)
    return DraftPlace(name_for(section, taken), section.address, options)
