"""Whether schedules name plans and windows that there are."""

from __future__ import annotations

from collections.abc import Iterator

from dcmvault.config.addresses import did_you_mean
from dcmvault.config.options import Section
from dcmvault.config.schedule_sections import SUGGESTED, ScheduleSection, WindowSection
from dcmvault.config.settings import Settings
from dcmvault.i18n import gettext as _

#: Families of tables about times, and the class of each of their tables.
TABLES_OF_TIME: dict[str, type[Section]] = {
    "schedules": ScheduleSection,
    "windows": WindowSection,
}


def problems_of_time(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the key of each name that is none, and what may be meant."""
    for name, schedule in settings.schedules.items():
        if schedule.plan not in settings.plans:
            meant = did_you_mean(schedule.plan, settings.plans)
            known = _("Configured plans: %s.") % (", ".join(sorted(settings.plans)) or "-")
            sentence = _("There is no plan “%s”.") % schedule.plan
            yield ("schedules", name, "plan"), f"{sentence} {meant or known}"
        known_windows = (*settings.windows, SUGGESTED)
        if schedule.window and schedule.window not in known_windows:
            meant = did_you_mean(schedule.window, known_windows)
            known = _("Known windows: %s.") % ", ".join(sorted(known_windows))
            sentence = _("There is no window “%s”.") % schedule.window
            yield ("schedules", name, "window"), f"{sentence} {meant or known}"
    if SUGGESTED in settings.windows:
        yield (
            ("windows", SUGGESTED),
            _("“%s” stands for what history suggests; give the window another name.") % SUGGESTED,
        )
