"""The section that limits bandwidth: a rate in words, and others by day and time of day."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dcmvault.i18n import gettext as _
from dcmvault.model.bandwidth import MINUTES_PER_DAY, RateTable, RateWindow

#: How a rate says that there is no limit.
UNLIMITED = "unlimited"
#: Below this a peer would take us for dead (bytes per second).
_LOWEST_RATE = 8_000
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(|k|M|G|Ki|Mi|Gi)(B|bit)/s\Z")
_UNITS = {
    "": 1,
    "k": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "Ki": 1024,
    "Mi": 1024**2,
    "Gi": 1024**3,
}
_TIME = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])\Z")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _bytes_per_second(text: str) -> float | None:
    if text.strip() == UNLIMITED:
        return None
    found = _RATE.match(text.strip())
    if found is None:
        raise ValueError(
            _("Write a rate such as “2 MB/s” or “16 Mbit/s” (a byte is 8 bits), or “unlimited”.")
        )
    rate = float(found[1]) * _UNITS[found[2]] / (1 if found[3] == "B" else 8)
    if not math.isfinite(rate):
        raise ValueError(_("A rate is a number of bytes that can be counted; or “unlimited”."))
    if rate < _LOWEST_RATE:
        raise ValueError(_("A rate is at least 8 kB/s: peers give slower connections up."))
    return rate


def _minutes(text: str) -> int:
    found = _TIME.match(text)
    minutes = int(found[1]) * 60 + int(found[2]) if found is not None else MINUTES_PER_DAY + 1
    if minutes > MINUTES_PER_DAY:
        raise ValueError(_("Write a time of day such as “07:30”, from “00:00” to “24:00”."))
    return minutes


def _week_days(text: str) -> frozenset[int]:
    """Read `mon-fri,sun`; a range may go over the end of the week."""
    days: set[int] = set()
    for part in text.split(","):
        first, _dash, last = part.strip().partition("-")
        if first not in _DAYS or (last or first) not in _DAYS or part.strip().endswith("-"):
            raise ValueError(_("Write days such as “mon-fri” or “sat,sun”: %s.") % ", ".join(_DAYS))
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        days.update((begin + ahead) % len(_DAYS) for ahead in range((end - begin) % len(_DAYS) + 1))
    return frozenset(days)


def _checked_rate(text: str) -> str:
    _bytes_per_second(text)
    return text


def _checked_end(text: str) -> str:
    _minutes(text)
    return text


def _checked_beginning(text: str) -> str:
    if _minutes(text) == MINUTES_PER_DAY:
        raise ValueError(_("A window begins at 00:00, not at 24:00."))
    return text


def _checked_days(text: str) -> str:
    _week_days(text)
    return text


#: `2 MB/s`, `16 Mbit/s`, or `unlimited`.
Rate = Annotated[str, AfterValidator(_checked_rate)]


class BandwidthWindowSection(BaseModel):
    """Another rate on some days between two times of day."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Days on which the window begins.
    days: Annotated[str, AfterValidator(_checked_days)] = "mon-sun"
    #: Local time at which it begins.
    from_: Annotated[str, AfterValidator(_checked_beginning)] = Field(alias="from")
    #: Local time at which it ends; before `from`: on the next day.
    to: Annotated[str, AfterValidator(_checked_end)]
    #: The rate in it.
    rate: Rate

    @model_validator(mode="after")
    def _lasts(self) -> BandwidthWindowSection:
        if _minutes(self.from_) == _minutes(self.to):
            raise ValueError(
                _("A window ends at another time than it begins; a whole day is 00:00 to 24:00.")
            )
        return self


class BandwidthSection(BaseModel):
    """How fast bytes may be sent; a text alone is its rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: The usual rate.
    rate: Rate = UNLIMITED
    #: Other rates by time; the first that covers a moment counts.
    windows: tuple[BandwidthWindowSection, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _rate_alone(cls, value: object) -> object:
        if isinstance(value, str):
            return {"rate": value}
        if not isinstance(value, dict | BandwidthSection):
            raise ValueError(_("Write a rate such as “2 MB/s”, in quotes, or a table."))
        return value

    def table(self) -> RateTable:
        """Return the rates by time."""
        return RateTable(
            _bytes_per_second(self.rate),
            tuple(
                RateWindow(
                    _week_days(window.days),
                    _minutes(window.from_),
                    _minutes(window.to),
                    _bytes_per_second(window.rate),
                )
                for window in self.windows
            ),
        )
