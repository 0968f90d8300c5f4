"""What the daemon does about schedules: duties, which take the time and say when they are due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from dcmvault.app.schedules import start_due
from dcmvault.app.suggesting import SuggestedHours
from dcmvault.app.windows import keep_windows
from dcmvault.app.wiring.workplace import Workplace


def schedules_duty(workplace: Workplace) -> Callable[[datetime], datetime]:
    """Start what is due, and let the sources of plans take their turns."""
    return partial(start_due, workplace)


def windows_duty(workplace: Workplace) -> Callable[[datetime], datetime]:
    """Hold queues in closed hours, and take them up after."""
    hours = SuggestedHours(workplace)
    return lambda now: keep_windows(workplace, now, hours)
