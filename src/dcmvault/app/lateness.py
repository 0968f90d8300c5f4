"""By when plans are to succeed again: by their `expected_every`, else by their schedules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from dcmvault.app.notice_facts import addresses_of_plan
from dcmvault.config.settings import Settings
from dcmvault.model.schedule import ScheduleState
from dcmvault.pipeline.scheduling import next_due
from dcmvault.ports.notices import NewsCatalogue, NoticeBook
from dcmvault.ports.schedules import ScheduleBook

#: Marks of plans: since when it is known that they are to succeed.
_KNOWN_PLAN = "plan:"


@dataclass(frozen=True, slots=True)
class Expectation:
    """When a plan last succeeded with all its sources, and until when it is to succeed again."""

    last: datetime | None
    until: datetime

    def is_missed(self, now: datetime) -> bool:
        """Say whether it is overdue."""
        return self.until < now


def expectations(
    settings: Settings,
    book: NoticeBook,
    news: NewsCatalogue,
    schedules: ScheduleBook,
    now: datetime,
) -> Mapping[str, Expectation]:
    """Say of each plan of which it is known how often it is to succeed until when that is.

    What never succeeded is late from when this was first asked.
    """
    states = schedules.schedules()
    known = {
        name.removeprefix(_KNOWN_PLAN): at
        for name, at in book.marks().items()
        if name.startswith(_KNOWN_PLAN)
    }
    found: dict[str, Expectation] = {}
    for plan in settings.plans:
        if _until(settings, plan, states, now) is None:
            continue
        last = _last_success(settings, news, plan)
        if last is None and plan not in known:
            book.mark(_KNOWN_PLAN + plan, now)
        until = _until(settings, plan, states, last or known.get(plan, now))
        if until is not None:
            found[plan] = Expectation(last, until)
    for plan in known.keys() - found.keys():
        book.unmark(_KNOWN_PLAN + plan)
    return found


def _last_success(settings: Settings, news: NewsCatalogue, plan: str) -> datetime | None:
    sources, destinations = addresses_of_plan(settings, plan)
    ends = [news.latest_end(one, destinations, good=True) for one in sources]
    times = [end[1] for end in ends if end is not None]
    return min(times, default=None) if len(times) == len(sources) else None


def _until(
    settings: Settings, plan: str, states: Mapping[str, ScheduleState], since: datetime
) -> datetime | None:
    """Return by when a plan is to succeed after `since`; None where nothing says how often.

    By its schedules: when it is due for the second time. One failure is mended by the next run.
    """
    period = timedelta(seconds=settings.plans[plan].period_s)
    if period:
        return since + period
    moments = []
    for name, section in settings.schedules.items():
        state = states.get(name)
        enabled = section.enabled if state is None or state.enabled is None else state.enabled
        if section.plan != plan or not enabled:
            continue
        first = next_due(section.trigger, since)
        second = next_due(section.trigger, first) if first is not None else None
        if second is not None:
            moments.append(second)
    return min(moments, default=None)
