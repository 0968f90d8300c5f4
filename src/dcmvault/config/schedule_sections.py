"""Schedules (when a plan runs by itself) and windows (in which hours of the week it sends)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from dcmvault.config.bandwidth import BandwidthWindowSection
from dcmvault.config.cron import Cron, cron_expression
from dcmvault.config.options import Section
from dcmvault.config.plans import STRATEGY_WORDS
from dcmvault.config.time_zones import TimeZone, time_zone
from dcmvault.config.week import WeekWindowSection
from dcmvault.i18n import gettext as _
from dcmvault.model.schedule import Trigger, WeekTable

#: Stands for a window in `window`: the one that recorded history suggests.
SUGGESTED = "suggested"
_INTERVAL = re.compile(r"([0-9]{1,5})\s*(min|h|d)\Z")
_UNITS = {"min": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LONGEST = timedelta(days=366)


def _interval_s(text: str) -> int:
    found = _INTERVAL.match(text.strip())
    length = int(found[1]) * _UNITS[found[2]] if found is not None else timedelta(0)
    if not timedelta(0) < length <= _LONGEST:
        raise ValueError(_("Write an interval such as “30min”, “6h” or “1d”, a year at most."))
    return int(length.total_seconds())


def _checked_interval(text: str) -> str:
    if text.strip():
        _interval_s(text)
    return text.strip()


def _checked_strategy(text: str) -> str:
    if text and text not in STRATEGY_WORDS:
        raise ValueError(_("Write one of: %s.") % ", ".join(STRATEGY_WORDS))
    return text


class ScheduleSection(Section):
    """When a plan runs by itself, while the daemon does."""

    #: The plan of [plans.NAME] that runs.
    plan: str = Field(min_length=1)
    #: Five fields of crontab(5), or an alias: `0 2 * * mon-fri`, `@daily`.
    cron: Cron = ""
    #: Instead of `cron`, an interval: `30min`, `6h`, `1d`.
    every: Annotated[str, AfterValidator(_checked_interval)] = ""
    #: The zone in which `cron` is meant.
    time_zone: TimeZone = ""
    #: Instead of the plan's own; empty: that.
    strategy: Annotated[str, AfterValidator(_checked_strategy)] = ""
    #: Studies that go to each destination in one run, at most; 0: all that are due.
    max_studies: int = Field(default=0, ge=0, le=1_000_000)
    #: Only studies whose Study Date is at most so many days ago; 0: all.
    study_days: int = Field(default=0, ge=0, le=36_500)
    #: A window of [windows.NAME] in which the plan's destinations are sent to, or `suggested`.
    window: str = ""
    #: Until `dcmvault schedule enable` or `disable` says otherwise.
    enabled: bool = True

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if bool(self.cron) == bool(self.every):
            raise ValueError(_("Write either “cron” or “every”: when is it due?"))
        return self

    @property
    def trigger(self) -> Trigger:
        """When it is due."""
        zone = time_zone(self.time_zone)
        if self.cron:
            return Trigger(cron_expression(self.cron), zone)
        return Trigger(None, zone, _interval_s(self.every))

    @property
    def definition(self) -> str:
        """What decides when it is due, as a text to compare with."""
        return f"{self.cron or 'every ' + self.every} {self.time_zone}".strip()


class WindowSection(Section):
    """In which hours of the week transfers run, and how fast."""

    #: The zone in which times of day are meant.
    time_zone: TimeZone = ""
    #: Transfers run in these hours only; none: at all hours.
    open: tuple[WeekWindowSection, ...] = ()
    #: Transfers pause in these hours.
    closed: tuple[WeekWindowSection, ...] = ()
    #: Urgent and emergency work goes on in closed hours.
    urgent: bool = True
    #: Other rates in some hours, for the destinations of plans that use the window; local time of
    #: this machine, as in `bandwidth`. A destination's own windows come first.
    rates: tuple[BandwidthWindowSection, ...] = ()

    @property
    def table(self) -> WeekTable:
        """The hours."""
        return WeekTable(
            time_zone(self.time_zone),
            tuple(one.window() for one in self.open),
            tuple(one.window() for one in self.closed),
        )
