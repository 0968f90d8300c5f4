"""Windows that recorded history suggests: a pure function of arrivals and transfers.

Of each day the hours are chosen in which the fewest studies come, transfers failed least and were
fastest, as many hours as a day like it needs. With too little history none are suggested.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo

from dcmvault.model.suggestion import Arrival, SuggestedWindow, Suggestion, Transfer

#: Less than a week has not seen every hour of it; fewer runs are chance.
NEEDED_DAYS = 7
NEEDED_RUNS = 5
#: A window has room for half as much again as is expected, and is never longer than this.
_ROOM = 1.5
_LONGEST_H = 12
_HOURS_PER_DAY = 24
_HOURS_PER_WEEK = 7 * _HOURS_PER_DAY
#: What failures and speed count, beside the share of arrivals (from 0 to 1 each).
_FAILING, _FAST = 2.0, 0.5
#: Among equal hours those near this one are chosen.
_QUIET_HOUR = 2
_HOUR = timedelta(hours=1)


@dataclass(slots=True)
class _Hour:
    """What was seen of one hour of the week."""

    studies: int = 0
    bytes: int = 0
    rates: list[float] = field(default_factory=list)
    instances: int = 0
    failed: int = 0


def suggest(
    arrivals: Sequence[Arrival],
    transfers: Sequence[Transfer],
    *,
    now: datetime,
    days: int,
    zone: tzinfo,
) -> Suggestion:
    """Suggest a window for each of so many days from `now` on; hours are those of `zone`."""
    sent = [one for one in transfers if one.bytes and one.busy_s > 0]
    first = min((one.began for one in sent), default=now)
    rates = [one.bytes / one.busy_s for one in sent]
    suggestion = Suggestion(
        windows=(),
        observed_days=(now - first).days,
        runs=len(sent),
        bytes_per_second=statistics.median(rates) if rates else 0.0,
        studies=len(arrivals),
        needed_days=NEEDED_DAYS,
        needed_runs=NEEDED_RUNS,
    )
    if not suggestion.is_founded:
        return suggestion
    week = _week(arrivals, transfers, zone)
    weeks = max((now - first) / timedelta(weeks=1), 1.0)
    windows = (
        _window(week, weeks, now + ahead * timedelta(days=1), suggestion.bytes_per_second, zone)
        for ahead in range(days)
    )
    return Suggestion(
        tuple(window for window in windows if window.ends > now),
        suggestion.observed_days,
        suggestion.runs,
        suggestion.bytes_per_second,
        suggestion.studies,
        NEEDED_DAYS,
        NEEDED_RUNS,
    )


def _week(arrivals: Sequence[Arrival], transfers: Sequence[Transfer], zone: tzinfo) -> list[_Hour]:
    week = [_Hour() for _ in range(_HOURS_PER_WEEK)]
    for arrival in arrivals:
        hour = week[_hour_of_week(arrival.at, zone)]
        hour.studies += 1
        hour.bytes += arrival.bytes
    for transfer in transfers:
        # Each hour that it took part in has seen its speed; what it sent counts where it began.
        moment, seen = transfer.began, set[int]()
        while moment <= transfer.ended and len(seen) < _LONGEST_H:
            seen.add(_hour_of_week(moment, zone))
            moment += _HOUR
        if transfer.bytes and transfer.busy_s > 0:
            for number in seen:
                week[number].rates.append(transfer.bytes / transfer.busy_s)
        begun = week[_hour_of_week(transfer.began, zone)]
        begun.instances += transfer.instances
        begun.failed += transfer.failed
    return week


def _hour_of_week(moment: datetime, zone: tzinfo) -> int:
    local = moment.astimezone(zone)
    return local.weekday() * _HOURS_PER_DAY + local.hour


def _window(
    week: list[_Hour], weeks: float, day: datetime, rate: float, zone: tzinfo
) -> SuggestedWindow:
    local = day.astimezone(zone)
    first = local.weekday() * _HOURS_PER_DAY
    today = week[first : first + _HOURS_PER_DAY]
    expected = sum(hour.bytes for hour in today) / weeks
    expected_s = expected / rate
    length = min(max(math.ceil(expected_s * _ROOM / _HOUR.total_seconds()), 1), _LONGEST_H)
    costs = _costs(week)

    def cost(begin: int) -> tuple[float, int]:
        hours = ((first + begin + ahead) % _HOURS_PER_WEEK for ahead in range(length))
        away = min((begin - _QUIET_HOUR) % _HOURS_PER_DAY, (_QUIET_HOUR - begin) % _HOURS_PER_DAY)
        return (round(sum(costs[number] for number in hours), 6), away)

    begin = min(range(_HOURS_PER_DAY), key=cost)
    chosen = [week[(first + begin + ahead) % _HOURS_PER_WEEK] for ahead in range(length)]
    rates = [one for hour in chosen for one in hour.rates]
    begins = datetime.combine(local.date(), time(begin), tzinfo=zone).astimezone(UTC)
    return SuggestedWindow(
        begins=begins,
        ends=begins + length * _HOUR,
        expected_s=expected_s,
        expected_bytes=round(expected),
        arrivals_per_hour=sum(hour.studies for hour in chosen) / weeks / length,
        usual_arrivals_per_hour=sum(hour.studies for hour in today) / weeks / _HOURS_PER_DAY,
        bytes_per_second=statistics.median(rates) if rates else None,
        instances=sum(hour.instances for hour in chosen),
        failed=sum(hour.failed for hour in chosen),
    )


def _costs(week: list[_Hour]) -> list[float]:
    """Say of each hour of the week how bad it is for transfers."""
    most = max((hour.studies for hour in week), default=0) or 1
    fastest = max((max(hour.rates, default=0.0) for hour in week), default=0.0) or 1.0
    return [
        hour.studies / most
        + _FAILING * (hour.failed / hour.instances if hour.instances else 0.0)
        - _FAST * (statistics.median(hour.rates) / fastest if hour.rates else 0.0)
        for hour in week
    ]
