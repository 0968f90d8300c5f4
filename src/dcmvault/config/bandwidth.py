"""The section that limits bandwidth: a rate in words, and others by day and time of day."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import AfterValidator, model_validator

from dcmvault.config.options import Section
from dcmvault.config.week import WeekWindowSection
from dcmvault.i18n import gettext as _
from dcmvault.model.bandwidth import RateTable, RateWindow

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


def _checked_rate(text: str) -> str:
    _bytes_per_second(text)
    return text


#: `2 MB/s`, `16 Mbit/s`, or `unlimited`.
Rate = Annotated[str, AfterValidator(_checked_rate)]


class BandwidthWindowSection(WeekWindowSection):
    """Another rate on some days between two times of day."""

    #: The rate in it.
    rate: Rate

    def rate_window(self) -> RateWindow:
        """Return the window with its rate."""
        there = self.window()
        return RateWindow(there.days, there.begin_min, there.end_min, _bytes_per_second(self.rate))


class BandwidthSection(Section):
    """How fast bytes may be sent; a text alone is its rate."""

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
            tuple(window.rate_window() for window in self.windows),
        )
