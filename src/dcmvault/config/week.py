"""Windows of a week in the configuration: days, and times of day."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from dcmvault.config.options import Section
from dcmvault.i18n import gettext as _
from dcmvault.model.week import MINUTES_PER_DAY, WeekWindow

_TIME = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])\Z")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def minutes(text: str) -> int:
    """Read a time of day; ValueError for another text."""
    found = _TIME.match(text)
    count = int(found[1]) * 60 + int(found[2]) if found is not None else MINUTES_PER_DAY + 1
    if count > MINUTES_PER_DAY:
        raise ValueError(_("Write a time of day such as “07:30”, from “00:00” to “24:00”."))
    return count


def week_days(text: str) -> frozenset[int]:
    """Read `mon-fri,sun`; a range may go over the end of the week."""
    days: set[int] = set()
    for part in text.split(","):
        first, _dash, last = part.strip().partition("-")
        if first not in _DAYS or (last or first) not in _DAYS or part.strip().endswith("-"):
            raise ValueError(_("Write days such as “mon-fri” or “sat,sun”: %s.") % ", ".join(_DAYS))
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        days.update((begin + ahead) % len(_DAYS) for ahead in range((end - begin) % len(_DAYS) + 1))
    return frozenset(days)


def _checked_end(text: str) -> str:
    minutes(text)
    return text


def _checked_beginning(text: str) -> str:
    if minutes(text) == MINUTES_PER_DAY:
        raise ValueError(_("A window begins at 00:00, not at 24:00."))
    return text


def _checked_days(text: str) -> str:
    week_days(text)
    return text


class WeekWindowSection(Section):
    """Some days, between two times of day."""

    #: Days on which the window begins.
    days: Annotated[str, AfterValidator(_checked_days)] = "mon-sun"
    #: Local time at which it begins.
    from_: Annotated[str, AfterValidator(_checked_beginning)] = Field(alias="from")
    #: Local time at which it ends; before `from`: on the next day.
    to: Annotated[str, AfterValidator(_checked_end)]

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if minutes(self.from_) == minutes(self.to):
            raise ValueError(
                _("A window ends at another time than it begins; a whole day is 00:00 to 24:00.")
            )
        return self

    def window(self) -> WeekWindow:
        """Return the window."""
        return WeekWindow(week_days(self.days), minutes(self.from_), minutes(self.to))
