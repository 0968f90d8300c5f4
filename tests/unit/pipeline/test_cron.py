"""Cron expressions: beside cronsim, and by hand on the days on which clocks change."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError

from dcmvault.config.cron import cron_expression
from dcmvault.pipeline.cron import next_fire

_EXPRESSIONS = 10_000
_TIMES_EACH = 4
#: Zones, and days near which their clocks change (or did, at midnight, by half an hour, by a day).
_ZONES = {
    "UTC": ("2026-03-28",),
    "Europe/Berlin": ("2026-03-28", "2026-10-24"),
    "America/New_York": ("2026-03-07", "2026-10-31"),
    "America/Sao_Paulo": ("2017-10-14", "2018-02-17", "2026-06-01"),
    "America/Santiago": ("2026-04-04", "2026-09-05"),
    "Africa/Cairo": ("2026-04-23", "2026-10-29"),
    "Asia/Kolkata": ("2026-01-01",),
    "Australia/Lord_Howe": ("2026-04-04", "2026-10-03"),
    "Pacific/Apia": ("2011-12-28",),
    "Asia/Tokyo": ("2026-12-30",),
}
#: Where clocks change at midnight or by half an hour cronsim loses up to an hour of a rhythm.
_ODD = {
    "America/Sao_Paulo",
    "America/Santiago",
    "Africa/Cairo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


def _field(chance: random.Random, first: int, last: int, words: list[str]) -> str:
    def one() -> str:
        kind = chance.random()
        if kind < 0.3:
            return "*" + (f"/{chance.randint(1, last)}" if chance.random() < 0.6 else "")
        low = chance.randint(first, last)
        if kind < 0.6:
            return words[low - first] if words and low - first < len(words) else str(low)
        if kind < 0.7:
            return f"{low}/{chance.randint(1, last)}"
        high = chance.randint(low, last)
        # Of a range of one number cronsim takes the step to go on to the end; cron does not.
        step = f"/{chance.randint(1, 9)}" if high > low and chance.random() < 0.4 else ""
        return f"{low}-{high}{step}"

    if chance.random() < 0.25:
        return "*"
    return ",".join(one() for _ in range(chance.choice((1, 1, 1, 2, 3))))


def _expression(chance: random.Random) -> str:
    return " ".join(
        (
            _field(chance, 0, 59, []),
            # Hours in which clocks change come often.
            chance.choice(("1", "2", "3", "0,2", _field(chance, 0, 23, []))),
            _field(chance, 1, 31, []),
            _field(chance, 1, 12, _MONTHS),
            _field(chance, 0, 7, _DAYS),
        )
    )


def _by_cronsim(text: str, after: datetime, zone: ZoneInfo) -> list[datetime]:
    """Its times, without two answers that are none: minutes not shown, and one moment twice."""
    times: list[datetime] = []
    for local in islice(CronSim(text, after.astimezone(zone)), 500):
        moment = local.astimezone(UTC)
        shown = moment.astimezone(zone)
        left_out = shown.replace(tzinfo=None) != local.replace(tzinfo=None)
        if left_out or moment <= (times[-1] if times else after):
            continue
        times.append(moment)
        if len(times) == _TIMES_EACH:
            break
    return times


def test_ten_thousand_expressions_are_due_when_cronsim_says() -> None:
    """Random expressions, zones and moments, most of them beside a change of clocks."""
    chance = random.Random(20261129)
    compared = 0
    while compared < _EXPRESSIONS:
        text = _expression(chance)
        name = chance.choice(list(_ZONES))
        zone = ZoneInfo(name)
        day = datetime.fromisoformat(chance.choice(_ZONES[name])).replace(tzinfo=zone)
        after = (day + timedelta(minutes=chance.randint(0, 2 * 24 * 60))).astimezone(UTC)
        if name in _ODD and "*" in (text[0], text.split()[1][0]):
            continue  # these are compared with a look at every minute
        try:
            expected = _by_cronsim(text, after, zone)
        except CronSimError:
            with pytest.raises(ValueError, match="day of month"):
                cron_expression(text)
            continue
        expression = cron_expression(text)
        ours: list[datetime] = []
        for _ in range(len(expected)):
            moment = next_fire(expression, ours[-1] if ours else after, zone)
            assert moment is not None
            ours.append(moment)
        assert ours == expected, (text, name, after)
        compared += 1


def _by_looking(text: str, after: datetime, zone: ZoneInfo, until: datetime) -> list[datetime]:
    """Look at each minute as clocks show it."""
    expression = cron_expression(text)
    moment, times = after, []
    while (moment := moment + timedelta(minutes=1)) <= until:
        if expression.names(moment.astimezone(zone)):
            times.append(moment)
    return times


def _in_rhythm(chance: random.Random) -> str:
    while True:
        text = _expression(chance)
        if "*" in (text[0], text.split()[1][0]):
            return text


@pytest.mark.parametrize("name", sorted(_ZONES))
def test_a_rhythm_is_due_whenever_clocks_show_its_minutes(name: str) -> None:
    """On days on which clocks change, beside a look at every minute."""
    zone, chance = ZoneInfo(name), random.Random(name)
    for day in _ZONES[name]:
        after = datetime.fromisoformat(day).replace(tzinfo=zone).astimezone(UTC)
        until = after + timedelta(days=2)
        for text in ("*/20 * * * *", "* */7 * * *", *(_in_rhythm(chance) for _ in range(30))):
            ours: list[datetime] = []
            try:
                expression = cron_expression(text)
            except ValueError:
                continue  # a day that none of its months has
            while (moment := next_fire(expression, ours[-1] if ours else after, zone)) is not None:
                if moment > until:
                    break
                ours.append(moment)
            assert ours == _by_looking(text, after, zone, until), text


_BERLIN = ZoneInfo("Europe/Berlin")


def _times(text: str, first: str, last: str, zone: ZoneInfo = _BERLIN) -> list[str]:
    moment = datetime.fromisoformat(first).replace(tzinfo=zone).astimezone(UTC)
    end = datetime.fromisoformat(last).replace(tzinfo=zone)
    shown: list[str] = []
    while (found := next_fire(cron_expression(text), moment, zone)) is not None and found < end:
        shown.append(f"{found.astimezone(zone):%d %H:%M %z}")
        moment = found
    return shown


def test_a_time_that_clocks_leave_out_is_due_once_right_after_the_gap() -> None:
    """2:00 to 3:00 is not there on 29 March 2026 in Berlin."""
    assert _times("30 2 * * *", "2026-03-28", "2026-03-31") == [
        "28 02:30 +0100",
        "29 03:00 +0200",
        "30 02:30 +0200",
    ]
    assert _times("0,30 2 * * *", "2026-03-29", "2026-03-30") == ["29 03:00 +0200"]
    # Two times that fall together are due once.
    assert _times("0 2,3 * * *", "2026-03-29", "2026-03-30") == ["29 03:00 +0200"]


def test_a_time_that_clocks_show_twice_is_due_the_first_time() -> None:
    """2:00 to 3:00 comes twice on 25 October 2026 in Berlin."""
    assert _times("30 2 * * *", "2026-10-24", "2026-10-27") == [
        "24 02:30 +0200",
        "25 02:30 +0200",
        "26 02:30 +0100",
    ]
    second_half_past_two = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    found = next_fire(cron_expression("30 2 * * *"), second_half_past_two, _BERLIN)
    assert found == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_midnight_that_clocks_leave_out() -> None:
    """São Paulo once changed its clocks at midnight."""
    zone = ZoneInfo("America/Sao_Paulo")
    assert _times("@daily", "2018-11-03 12:00", "2018-11-05 12:00", zone) == [
        "04 01:00 -0200",
        "05 00:00 -0200",
    ]


def test_a_day_that_is_left_out() -> None:
    """Apia had no 30 December 2011: what was due on it is due right after."""
    zone = ZoneInfo("Pacific/Apia")
    assert _times("30 12 30 * *", "2011-12-01", "2012-01-15", zone) == ["31 00:00 +1400"]


def test_days_are_either_or_where_both_are_named_and_both_where_one_is_a_star() -> None:
    """The rule of Vixie's cron."""
    either = _times("0 0 13 * fri", "2026-02-12 12:00", "2026-03-01", ZoneInfo("UTC"))
    assert [one[:2] for one in either] == ["13", "20", "27"]
    both = _times("0 0 */2 * fri", "2026-02-12 12:00", "2026-03-01", ZoneInfo("UTC"))
    assert [one[:2] for one in both] == ["13", "27"]


def test_an_expression_that_is_due_never() -> None:
    """Refused where the field shows it, and else not looked for without end."""
    with pytest.raises(ValueError, match="none of the months"):
        cron_expression("0 0 31 2,4 *")
    assert _times("0 0 29 2 *", "2026-01-01", "2029-01-01") == ["29 00:00 +0100"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "5 fields, here are 0"),
        ("0 2 * *", "5 fields, here are 4"),
        ("60 2 * * *", "“minute”, “60”: write a number from 0 to 59"),
        ("0 24 * * *", "“hour”, “24”"),
        ("0 2 0 * *", "“day of month”, “0”"),
        ("0 2 * janeiro *", "“month”, “janeiro”.*jan, feb"),
        ("0 2 * * fri-mon", "“day of week”, “fri-mon”: a range goes upwards"),
        ("*/0 * * * *", "“minute”, “\\*/0”: a step"),
        ("1,,2 * * * *", "“minute”, “”"),
        ("-1 * * * *", "“minute”"),
        ("² * * * *", "“minute”"),
        ("@reboot", "no such alias"),
    ],
)
def test_errors_name_the_field(text: str, says: str) -> None:
    """And what may stand there."""
    with pytest.raises(ValueError, match=says):
        cron_expression(text)


def test_aliases_and_names() -> None:
    """Small and capital letters are alike."""
    assert cron_expression("@Daily").hours == {0}
    assert cron_expression("0 2 * JAN-mar Sun,7").weekdays == {0}
    assert cron_expression("0 2 * JAN-mar Sun,7").months == {1, 2, 3}
