"""When a cron expression is due next, in a time zone, across days on which clocks change.

The rules are those of Debian's cron(8), section "Daylight Saving Time and other time changes".
An expression with `*` at the beginning of minute or hour is a rhythm: it is due whenever clocks
show a minute that it names, so never in an hour that they leave out, and twice in one that they
show twice. Every other expression names times of day: one that clocks leave out is due once, right
after the gap, and one that they show twice is due the first time only.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo

from dcmvault.model.cron import CronExpression

_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
#: 29 February of a given weekday, at a turn of a century, comes after 40 years at most.
_LONGEST = 366 * 50


def next_fire(expression: CronExpression, after: datetime, zone: tzinfo) -> datetime | None:
    """Return the first due minute later than `after` (aware), in UTC; None for none in 50 years."""
    if expression.is_fixed_time:
        return _next_time_of_day(expression, after, zone)
    return _next_in_rhythm(expression, after, zone)


def _next_time_of_day(expression: CronExpression, after: datetime, zone: tzinfo) -> datetime | None:
    day = after.astimezone(zone).date()
    times = [time(h, m) for h in sorted(expression.hours) for m in sorted(expression.minutes)]
    for ahead in range(_LONGEST):
        candidate = day + ahead * _DAY
        if not expression.names_day(candidate):
            continue
        for one in times:
            moment = _first_shown(datetime.combine(candidate, one), zone)
            if moment > after:
                return moment
    return None


def _first_shown(local: datetime, zone: tzinfo) -> datetime:
    """Return when clocks show a time first; of one that they leave out, the end of the gap."""
    # In a gap (PEP 495) fold 0 goes by the offset before it, and fold 1 by the one after it.
    late = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    early = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if late <= early:
        return late
    before = early.astimezone(zone).utcoffset()
    while late - early > _MINUTE:
        middle = early + (late - early) // (2 * _MINUTE) * _MINUTE
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late


def _next_in_rhythm(expression: CronExpression, after: datetime, zone: tzinfo) -> datetime | None:
    moment = after.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE
    end = moment + _LONGEST * _DAY
    while moment < end:
        local = moment.astimezone(zone)
        if not expression.names_day(local.date()):
            midnight = datetime.combine(local.date() + _DAY, time())
            moment = _leap(moment, _first_shown(midnight, zone), zone)
        elif local.hour not in expression.hours:
            moment = _leap(moment, moment + (60 - local.minute) * _MINUTE, zone)
        elif local.minute not in expression.minutes:
            moment += _MINUTE
        else:
            return moment
    return None


def _leap(moment: datetime, target: datetime, zone: tzinfo) -> datetime:
    """Go on to `target`; where clocks change before it, only to the next hour, or minute."""
    local = moment.astimezone(zone)
    for end in (target, moment + (60 - local.minute) * _MINUTE):
        if end > moment and local.utcoffset() == end.astimezone(zone).utcoffset():
            return end
    return moment + _MINUTE
