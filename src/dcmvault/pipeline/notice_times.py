"""When somebody is told: waits between attempts, digests at a time of day, and when a plan is late.

Pure functions of the time that they are given.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo

#: Waits between attempts to tell: a minute, then twice as long each time, at most an hour.
_FIRST_WAIT = timedelta(minutes=1)
_LONGEST_WAIT = timedelta(hours=1)
#: After so long nobody would thank for the news: longer than a weekend with its holiday.
GIVE_UP_AFTER = timedelta(days=4)
#: What is longer ago is no news to anybody, though nobody was told.
NEWS_FOR = timedelta(days=30)
#: Notices are kept so long: longer than they are news, so that none is told twice.
KEPT_FOR = timedelta(days=366)
#: A late start is no start: a check would measure from the wrong moment.
GIVE_UP_START_AFTER = timedelta(minutes=15)


def next_attempt(attempts: int, now: datetime) -> datetime:
    """Return when to try again after so many attempts, at least one, of which the last failed."""
    factor: int = 2 ** min(attempts - 1, 10)
    return now + min(_FIRST_WAIT * factor, _LONGEST_WAIT)


def latest_moment(
    now: datetime, minute_of_day: int, *, weekday: int | None = None, zone: tzinfo | None = None
) -> datetime:
    """Return the newest moment, `now` at the latest, when clocks showed a time of day.

    `weekday` (0 is Monday) leaves one day of each week. Without a zone that of the machine counts.
    A time that a change of clocks left out came when they jumped; one that came twice, the first.
    """
    today = now.astimezone(zone).date()
    for days_back in range(9):
        day = today - timedelta(days=days_back)
        if weekday is not None and day.weekday() != weekday:
            continue
        if (moment := _moment(day, minute_of_day, zone)) <= now:
            return moment
    raise AssertionError  # a week has every day


def next_moment(
    now: datetime, minute_of_day: int, *, weekday: int | None = None, zone: tzinfo | None = None
) -> datetime:
    """Return the first moment after `now` as `latest_moment` finds them."""
    today = now.astimezone(zone).date()
    for days_on in range(9):
        day = today + timedelta(days=days_on)
        if weekday is not None and day.weekday() != weekday:
            continue
        if (moment := _moment(day, minute_of_day, zone)) > now:
            return moment
    raise AssertionError  # a week has every day


def _moment(day: date, minute_of_day: int, zone: tzinfo | None) -> datetime:
    local = datetime.combine(day, time(*divmod(minute_of_day, 60)), tzinfo=zone)
    return local.astimezone(UTC)
