"""How fast is sent to a destination by the hour: its own rates, and those of its windows."""

from __future__ import annotations

from dcmvault.config.sections import DestinationSection
from dcmvault.config.settings import Settings
from dcmvault.errors import AddressError
from dcmvault.model.bandwidth import RateTable


def rate_table(settings: Settings, section: DestinationSection) -> RateTable:
    """Return the rates of a destination; its own windows come first, then those of schedules."""
    own = section.bandwidth.table()
    rates = [
        rate.rate_window()
        for schedule in settings.schedules.values()
        if schedule.window in settings.windows
        and _sends_to(settings, settings.plans[schedule.plan].destinations, section.address)
        for rate in settings.windows[schedule.window].rates
    ]
    return RateTable(own.bytes_per_second, (*own.windows, *dict.fromkeys(rates)))


def _sends_to(settings: Settings, places: tuple[str, ...], address: str) -> bool:
    for place in places:
        try:
            if settings.destination(place).section.address == address:
                return True
        except AddressError:
            continue  # the plan's run says so
    return False
