"""Cron expressions in the configuration, as crontab(5) describes them; errors name the field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from dcmvault.i18n import gettext as _
from dcmvault.model.cron import CronExpression

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_NUMBER = re.compile(r"[0-9]{1,4}\Z")
#: The most days that each month has.
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
#: No expression that people write is longer.
_LONGEST_TEXT = 1000


@dataclass(frozen=True, slots=True)
class _Field:
    """One field: what it is called, what numbers it takes, and their names (from `first`)."""

    name: str
    first: int
    last: int
    words: tuple[str, ...] = ()

    def error(self, part: str, reason: str) -> ValueError:
        return ValueError(
            _("Field “%(field)s”, “%(part)s”: %(reason)s")
            % {"field": self.name, "part": part, "reason": reason}
        )

    def number(self, word: str, part: str) -> int:
        if word in self.words:
            return self.first + self.words.index(word)
        if not _NUMBER.match(word) or not self.first <= int(word) <= self.last:
            reason = _("write a number from %(first)d to %(last)d.") % {
                "first": self.first,
                "last": self.last,
            }
            if self.words:
                reason = _("write a number from %(first)d to %(last)d, or a name: %(names)s.") % {
                    "first": self.first,
                    "last": self.last,
                    "names": ", ".join(self.words),
                }
            raise self.error(part, reason)
        return int(word)

    def numbers(self, text: str) -> set[int]:
        """Read a list of `*`, numbers and ranges, each with a step or without."""
        found: set[int] = set()
        for part in text.split(","):
            span, slash, step_text = part.partition("/")
            step = 1
            if slash:
                if not _NUMBER.match(step_text) or not int(step_text):
                    raise self.error(part, _("a step is a number from 1: “*/15”."))
                step = int(step_text)
            first_word, dash, last_word = span.partition("-")
            if span == "*":
                # In the day of week 0 and 7 are one day: a step does not count it twice.
                begin, end = self.first, self.first + len(self.words or ()) - 1
                end = end if self.words else self.last
            else:
                begin = self.number(first_word, part)
                end = self.number(last_word, part) if dash else begin
                if slash and not dash:
                    end = self.last
            if end < begin:
                raise self.error(
                    part, _("a range goes upwards; write two ranges with a comma between them.")
                )
            found.update(range(begin, end + 1, step))
        return found


def _fields() -> tuple[_Field, ...]:
    return (
        _Field(_("minute"), 0, 59),
        _Field(_("hour"), 0, 23),
        _Field(_("day of month"), 1, 31),
        _Field(_("month"), 1, 12, _MONTHS),
        _Field(_("day of week"), 0, 7, _WEEKDAYS),
    )


def cron_expression(text: str) -> CronExpression:
    """Read five fields or an alias; ValueError with a sentence that names the field."""
    written = text.strip().lower()
    if len(written) > _LONGEST_TEXT:
        raise ValueError(_("This is too long for a cron expression."))
    if written.startswith("@"):
        if written not in _ALIASES:
            known = ", ".join(_ALIASES)
            raise ValueError(_("There is no such alias; there are: %s.") % known)
        written = _ALIASES[written]
    parts = written.split()
    fields = _fields()
    if len(parts) != len(fields):
        raise ValueError(
            _("A cron expression has 5 fields, here are %(count)d: %(names)s.")
            % {"count": len(parts), "names": ", ".join(field.name for field in fields)}
        )
    minutes, hours, days, months, weekdays = (
        frozenset(field.numbers(part)) for field, part in zip(fields, parts, strict=True)
    )
    both_days = parts[2].startswith("*") or parts[4].startswith("*")
    if both_days and min(days) > max(_LONGEST_MONTHS[month - 1] for month in months):
        raise fields[2].error(parts[2], _("none of the months has so many days."))
    return CronExpression(
        text=text.strip(),
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=frozenset(day % 7 for day in weekdays),
        both_days=both_days,
        is_fixed_time=not (parts[0].startswith("*") or parts[1].startswith("*")),
    )


def _checked(text: str) -> str:
    if text.strip():
        cron_expression(text)
    return text.strip()


#: `0 2 * * mon-fri`, `@daily`; empty for none.
Cron = Annotated[str, AfterValidator(_checked)]
