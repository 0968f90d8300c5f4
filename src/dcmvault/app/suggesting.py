"""Windows that recorded history suggests, for people and for plans that ask for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.time_zones import local_zone
from dcmvault.model.schedule import WeekTable
from dcmvault.model.suggestion import Suggestion
from dcmvault.model.week import WeekWindow
from dcmvault.pipeline.suggesting import suggest

#: History that is older says little of a practice as it is now.
_LOOKED_BACK = timedelta(weeks=8)
#: How long a suggestion is followed before it is worked out anew.
_FOLLOWED = timedelta(days=1)
_DAYS_PER_WEEK = 7


def suggest_windows(workplace: Workplace, now: datetime, days: int, zone: tzinfo) -> Suggestion:
    """Suggest windows for the coming days by what is recorded."""
    history = workplace.catalogue.history
    since = now - _LOOKED_BACK
    return suggest(history.arrivals(since), history.transfers(since), now=now, days=days, zone=zone)


@dataclass(slots=True)
class SuggestedHours:
    """The hours of plans whose window is `suggested`; worked out once a day.

    None while history says too little: then transfers run at all hours.
    """

    workplace: Workplace
    _table: WeekTable | None = None
    _until: datetime | None = field(default=None)

    def __call__(self, now: datetime) -> WeekTable | None:
        """Return the hours that are followed at `now`."""
        if self._until is None or now >= self._until:
            self._until = now + _FOLLOWED
            zone = local_zone()
            found = suggest_windows(self.workplace, now, _DAYS_PER_WEEK, zone)
            self._table = weekly_hours(found, zone)
        return self._table


def weekly_hours(found: Suggestion, zone: tzinfo) -> WeekTable | None:
    """Return suggested windows as the hours of every week; None where there are none."""
    windows = tuple(
        _weekly(one.begins.astimezone(zone), one.ends.astimezone(zone)) for one in found.windows
    )
    return WeekTable(zone, open=windows) if windows else None


def _weekly(begins: datetime, ends: datetime) -> WeekWindow:
    return WeekWindow(frozenset({begins.weekday()}), begins.hour * 60, ends.hour * 60)
