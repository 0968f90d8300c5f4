"""What goes on now: a lane for each destination, transfers, failures; looked at once a second.

However many look at the page, one look a second is taken for all of them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from dcmvault.app.notice_facts import plan_of
from dcmvault.app.overview import pause_of
from dcmvault.app.queue import QueueView, queues
from dcmvault.app.suggesting import SuggestedHours
from dcmvault.app.top import now as now_of
from dcmvault.app.windows import hours_of_destinations
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.window_rates import rate_table
from dcmvault.model.alert import AlertCode, Subject, SubjectKind
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.live import (
    EtaRange,
    Lane,
    Live,
    RecentFailure,
    RunningRun,
    Slowed,
    Window,
)
from dcmvault.model.sample import Figure
from dcmvault.pipeline.slowing import slowed_by_address
from dcmvault.pipeline.window_times import is_any_open, next_change
from dcmvault.ports.samples import RunFigures
from dcmvault.ports.schedules import HoldState

#: A look holds for so long; failures, hours and limits change more seldom.
_FRESH_S = 0.9
_SELDOM_S = 5.0
#: Rates and forecasts that are remembered, one for each second.
_REMEMBERED = 120
_FORECASTS = 60
#: What is shown at most.
_TRANSFERS = 24
_FAILURES = 12
#: A forecast alone may be wrong by this part.
_UNSURE = 0.25


@dataclass(slots=True)
class _Past:
    """What was seen of a lane lately."""

    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    #: When all would be done, as it was foretold.
    ends: deque[datetime] = field(default_factory=lambda: deque(maxlen=_FORECASTS))


@dataclass(frozen=True, slots=True)
class _Seldom:
    """What is asked for now and then: hours and limits, by address, and what failed."""

    windows: Mapping[str, Window] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    failures: Sequence[RecentFailure] = ()


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look found about all destinations."""

    at: datetime
    figures: Mapping[str, Mapping[Figure, float]]
    queues: Mapping[str, QueueView]
    holds: Mapping[DestinationId, HoldState]
    slowed: Mapping[str, Slowed]
    down: Mapping[str, datetime]


class LiveWatch:
    """Looks, at most once a second, and remembers the last minutes. Safe for threads."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._lock = threading.Lock()
        self._past: dict[str, _Past] = {}
        self._last: Live | None = None
        self._looked_s = self._asked_s = float("-inf")
        self._seldom = _Seldom()
        self._suggested = SuggestedHours(workplace)
        #: The plans of runs, by the run's name: it never changes.
        self._plans: dict[RunId, str] = {}
        #: The queues as the last look saw them.
        self.queues: Sequence[QueueView] = ()

    def look(self, *, anew: bool = False) -> Live:
        """Return what goes on; `anew` after something was steered, which is to be seen at once."""
        with self._lock:
            clock_s = self._workplace.clock.monotonic()
            if anew:
                self._asked_s = float("-inf")
            if anew or self._last is None or clock_s - self._looked_s >= _FRESH_S:
                self._last = self._look(clock_s)
                self._looked_s = clock_s
            return self._last

    def _look(self, clock_s: float) -> Live:
        workplace = self._workplace
        catalogue = workplace.catalogue
        moment = now_of(workplace)
        if clock_s - self._asked_s >= _SELDOM_S:
            self._seldom = self._ask_seldom(moment.at)
            self._asked_s = clock_s
        self.queues = queues(workplace)
        seen = _Seen(
            moment.at,
            {one.subject.name: one.figures for one in moment.of_kind(SubjectKind.DESTINATION)},
            {one.destination: one for one in self.queues},
            catalogue.queue_holds.holds(),
            slowed_by_address(catalogue.slowed, catalogue.status, moment.at),
            {
                one.subject.name: one.raised_at
                for one in moment.alerts
                if one.code is AlertCode.DESTINATION_DOWN
            },
        )
        names = self._names()
        transfers = [
            replace(one, destination=names.get(one.destination, one.destination))
            for one in catalogue.live.transfers(_TRANSFERS)
        ]
        failures = [
            replace(one, destination=names.get(one.destination, one.destination))
            for one in self._seldom.failures
        ]
        return Live(
            moment.at,
            moment.live is not None,
            tuple(self._lane(name, address, seen) for address, name in names.items()),
            tuple(self._runs(catalogue.work.unfinished_runs())),
            tuple(transfers),
            tuple(failures),
        )

    def _names(self) -> dict[str, str]:
        """Name all destinations that are configured or were used, by address."""
        settings = self._workplace.settings
        names = {one.section.address: name for name, one in settings.destinations.items()}
        for key, address in self._workplace.catalogue.status.destinations().items():
            names.setdefault(address, f"#{key}")
        return names

    def _lane(self, name: str, address: str, seen: _Seen) -> Lane:
        figures = seen.figures.get(name, {})
        queue = seen.queues.get(address)
        past = self._past.get(name)
        if past is None:
            past = self._past[name] = self._begin(name, seen.at)
        rate = figures.get(Figure.BYTES_PER_S, 0.0)
        past.rates.append(rate)
        slowed = seen.slowed.get(address)
        limits = [self._seldom.limits.get(address), slowed.bytes_per_s if slowed else None]
        running = sum(
            figures.get(one, 0) for one in (Figure.JOBS_IN_PROGRESS, Figure.JOBS_VERIFYING)
        )
        if queue is not None:
            # Figures are some seconds old: nobody who has just paused it may read that it rests.
            running = max(running, queue.state.running)
        waiting = sum(
            figures.get(one, 0)
            for one in (Figure.JOBS_PENDING, Figure.JOBS_QUEUED, Figure.JOBS_RETRYING)
        )
        associations = figures.get(Figure.ASSOCIATIONS)
        return Lane(
            name,
            address if queue is not None else "",
            rate,
            tuple(past.rates),
            min((limit for limit in limits if limit is not None), default=None),
            slowed,
            None if associations is None else int(associations),
            int(waiting),
            int(running),
            int(figures.get(Figure.INSTANCES_LEFT, 0)),
            int(figures.get(Figure.BYTES_LEFT, 0)),
            _eta(past, figures.get(Figure.ETA_S), seen.at),
            pause_of(queue.state if queue is not None else None, seen.holds),
            self._seldom.windows.get(address),
            seen.down.get(name),
        )

    def _begin(self, name: str, now: datetime) -> _Past:
        """Take the rates of the last minutes from what was written down."""
        past = _Past()
        since = now - timedelta(seconds=_REMEMBERED)
        subject = Subject(SubjectKind.DESTINATION, name)
        for sample in self._workplace.catalogue.samples.samples(1, since, now, subject):
            past.rates.append(sample.figures.get(Figure.BYTES_PER_S, 0.0))
        return past

    def _ask_seldom(self, now: datetime) -> _Seldom:
        settings = self._workplace.settings
        hours = hours_of_destinations(settings, now, self._suggested)
        local = now.astimezone()
        overall = settings.bandwidth.table().rate_at(local)
        limits = {}
        for one in settings.destinations.values():
            rates = (overall, rate_table(settings, one.section).rate_at(local))
            least = min((rate for rate in rates if rate is not None), default=None)
            if least is not None:
                limits[one.section.address] = least
        return _Seldom(
            {
                address: Window(is_any_open(tables, now), next_change(tables, now))
                for address, tables in hours.items()
            },
            limits,
            self._workplace.catalogue.live.recent_failures(_FAILURES),
        )

    def _runs(self, parts: Sequence[RunFigures]) -> list[RunningRun]:
        by_run: dict[RunId, list[RunFigures]] = {}
        for part in parts:
            by_run.setdefault(part.run_id, []).append(part)
        self._plans = {run_id: self._plan(run_id) for run_id in by_run}
        return [
            RunningRun(
                run_id,
                self._plans[run_id],
                some[0].state.value,
                sum(part.items for part in some),
                sum(part.settled for part in some),
                sum(part.failed for part in some),
                sum(part.bytes for part in some),
                sum(part.settled_bytes for part in some),
                some[0].scanned,
            )
            for run_id, some in by_run.items()
        ]

    def _plan(self, run_id: RunId) -> str:
        if run_id in self._plans:
            return self._plans[run_id]
        workplace = self._workplace
        return plan_of(workplace.settings, workplace.catalogue.runs.run(run_id).request)


def _eta(past: _Past, eta_s: float | None, now: datetime) -> EtaRange | None:
    """Say when all is done: between the best and the worst forecast of the last minute."""
    if eta_s is None:
        past.ends.clear()
        return None
    past.ends.append(now + timedelta(seconds=min(eta_s, 1e9)))
    least = (min(past.ends) - now).total_seconds()
    most = (max(past.ends) - now).total_seconds()
    if len(past.ends) < _FORECASTS // 6:
        # So few say little about how far off they are.
        least, most = min(least, eta_s * (1 - _UNSURE)), max(most, eta_s * (1 + _UNSURE))
    return EtaRange(max(0.0, least), max(0.0, most))
