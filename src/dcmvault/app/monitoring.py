"""Monitoring: what the process that works measures each second, and what is wrong by that."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from dcmvault.app.alert_ends import verdict_of_held, with_reasons
from dcmvault.app.at_destinations import Probed
from dcmvault.app.names import Names
from dcmvault.config.monitoring_section import MonitoringSection
from dcmvault.config.settings import Settings
from dcmvault.errors import StateError
from dcmvault.model.alert import AlertChange, AlertCode, Subject, SubjectKind
from dcmvault.model.identifiers import DestinationId
from dcmvault.model.job import JobState
from dcmvault.model.sample import Figure, Sample
from dcmvault.model.thinning import begin_of
from dcmvault.pipeline.retry import Answering
from dcmvault.ports.alerts import AlertBook
from dcmvault.ports.clock import Clock
from dcmvault.ports.samples import RunFigures, SampleBook, WorkFigures
from dcmvault.ports.signs import SignBook
from dcmvault.ports.status import StatusCatalogue
from dcmvault.telemetry import conditions
from dcmvault.telemetry.alerts import AlertMachine, Change, Observation
from dcmvault.telemetry.conditions import Thresholds
from dcmvault.telemetry.filling import WINDOW, Filling
from dcmvault.telemetry.live_file import Live, remove_live, write_live
from dcmvault.telemetry.machine import DiskSpace, MachineProbe, disk_space, file_system
from dcmvault.telemetry.meter import ByteMeter
from dcmvault.telemetry.sampling import Look, Probes, Sampler, look

_log = logging.getLogger(__name__)

#: Between two looks, between two writes of what was seen, and how many samples wait at most.
EACH = timedelta(seconds=1)
_WRITE_EACH = timedelta(seconds=30)
_LONGEST_BUFFER = 10_000
#: What a question may cost: one that takes long is asked seldom, so that it takes this share.
_COST_SHARE = 0.02
_OF_A_MOMENT = frozenset({AlertCode.STALLED, AlertCode.CPU_HIGH})
#: Alerts that are over are remembered so long, and looked through so often.
_REMEMBERED = timedelta(days=366)
_SELDOM_S = 3600

_T = TypeVar("_T")


class MonitoredCatalogue(Protocol):
    """What of the catalogue is asked."""

    @property
    def work(self) -> WorkFigures:
        """What is left to be done."""
        ...

    @property
    def samples(self) -> SampleBook:
        """What was measured."""
        ...

    @property
    def alerts(self) -> AlertBook:
        """What is wrong."""
        ...

    @property
    def status(self) -> StatusCatalogue:
        """Which destinations there are."""
        ...

    @property
    def signs(self) -> SignBook:
        """What happened to sources."""
        ...


class AtWork(Protocol):
    """What the steps of this process know of destinations they deliver to."""

    def busy_lanes(self) -> Mapping[DestinationId, int]:
        """Count the deliveries at once, of destinations that take several."""
        ...

    def answering(self) -> Mapping[DestinationId, Answering]:
        """Say which destinations answered lately."""
        ...


class Others(Protocol):
    """The other workers of an installation."""

    def leads(self) -> bool:
        """Say whether this process is the one that keeps samples and alerts for all."""
        ...

    def moved(self) -> Mapping[str, int]:
        """Return the bytes that went to each destination by others, by address."""
        ...

    def associations(self) -> Mapping[str, int]:
        """Count the deliveries at once of others, by address."""
        ...


def thresholds_of(section: MonitoringSection) -> Thresholds:
    """Turn what is configured into limits."""
    return Thresholds(
        stalled_after_s=section.stalled_after_s,
        disk_low_bytes=section.disk_low_mb << 20,
        disk_full_within_s=section.disk_full_within_h * 3600,
        cpu_share=section.cpu_percent / 100,
        cpu_after_s=section.cpu_after_s,
        certificate_days=section.certificate_days,
    )


class _Costly(Generic[_T]):
    """A question that is asked seldom enough not to cost much; in between the last answer holds."""

    def __init__(self, ask: Callable[[], _T], monotonic: Callable[[], float]) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._answer: _T | None = None
        self._due = 0.0

    def __call__(self) -> _T:
        if self._answer is None or self._monotonic() >= self._due:
            began = time.perf_counter()
            self._answer = self._ask()
            cost_s = time.perf_counter() - began
            self._due = self._monotonic() + cost_s / _COST_SHARE
        return self._answer


class WorkProbes:
    """Implements `telemetry.sampling.Probes` over a state folder and the steps at work."""

    def __init__(
        self,
        home: Path,
        settings: Settings,
        work: WorkFigures,
        names: Names,
        meter: ByteMeter,
        at_work: AtWork,
        clock: Clock,
        others: Others | None = None,
    ) -> None:
        self._others = others
        self._names = names
        self._meter = meter
        self._at_work = at_work
        self._machine = MachineProbe()
        # Which of these share a file system changes: disks are plugged in and mounted later.
        self._places = places_written_to(home, settings)
        self.runs: Callable[[], Sequence[RunFigures]] = _Costly(
            work.unfinished_runs, clock.monotonic
        )
        self.jobs: Callable[[], Mapping[DestinationId, Mapping[JobState, int]]] = _Costly(
            work.open_jobs, clock.monotonic
        )

    def machine(self) -> Mapping[Figure, float]:
        """Return figures of the machine and of this process."""
        return self._machine.look()

    def disks(self) -> Mapping[str, DiskSpace]:
        """Return the room of each disk that is written to."""
        rooms = {name: disk_space(path) for name, path in disk_paths(self._places).items()}
        return {name: room for name, room in rooms.items() if room is not None}

    def moved(self) -> Mapping[str, int]:
        """Return the bytes that went to each destination so far, by all who work."""
        moved = Counter(self._meter.totals())
        if self._others is not None:
            moved.update(self._others.moved())
        return {name: moved[one] for one in moved if (name := self._names.destination_at(one))}

    def associations(self) -> Mapping[str, int]:
        """Return how many deliveries are at work at each destination."""
        busy = Counter(
            {self.name_of(one): count for one, count in self._at_work.busy_lanes().items()}
        )
        for address, count in (self._others.associations() if self._others else {}).items():
            if name := self._names.destination_at(address):
                busy[name] += count
        return busy

    def name_of(self, destination_id: DestinationId) -> str:
        """Return how a destination is called."""
        return self._names.destination(destination_id)


def places_written_to(home: Path, settings: Settings) -> Mapping[str, Path]:
    """Return the folders that are written to, by name; the state folder is `state`, and first."""
    places = {"state": home, "spool": settings.listener.spool}
    for name, destination in settings.destinations.items():
        path = getattr(destination.section, "path", None)
        if isinstance(path, Path):
            places[name] = path
    if not any("listener" in section.kind for section in settings.sources.values()):
        del places["spool"]
    return places


def disk_paths(places: Mapping[str, Path]) -> Mapping[str, Path]:
    """Return those of these places that are on file systems of their own, as they lie now.

    A disk is called by what is on it first.
    """
    paths: dict[str, Path] = {}
    seen = set()
    for name, path in places.items():
        device = file_system(path)
        if device not in seen:
            seen.add(device)
            paths[name] = path
    return paths


@dataclass(slots=True)
class _Pending:
    """What is still to be written: a full disk loses no alert, and holds no sample for ever."""

    samples: list[Sample] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


class Monitoring:
    """What is done each second, as a function of the time; for one process and one thread.

    `catalogue` keeps samples and alerts. Nothing it does stops the work: what cannot be written
    now is written later.
    """

    def __init__(
        self,
        home: Path,
        settings: Settings,
        catalogue: MonitoredCatalogue,
        names: Names,
        probes: Probes,
        at_work: AtWork,
        probed: Probed,
        began: datetime,
        others: Others | None = None,
    ) -> None:
        self._others = others
        self._home = home
        self._catalogue = catalogue
        self._names = names
        self._probes = probes
        self._at_work = at_work
        self._probed = probed
        self._began = began
        self._settings = settings
        self._limits = thresholds_of(settings.monitoring)
        self._sampler = Sampler()
        self._stalling = conditions.Stalling()
        self._filling: dict[str, Filling] = {}
        self._pending = _Pending()
        self._machine: AlertMachine | None = None
        self._written_at = began
        self._failing = False

    def look(self, now: datetime) -> datetime:
        """Look at everything once, write what is due, and return when to look again."""
        try:
            seen = look(now, self._probes)
            samples = self._sampler.samples(seen)
            self._pending.samples += samples
            # Before the catalogue, which others may keep busy for long, or which may be full: the
            # figures of now are also of use then. Where these cannot be written, alerts may be.
            with suppress(OSError):
                write_live(self._home, Live(now, os.getpid(), self._began, samples, seen.moved))
            if self._others is not None and not self._others.leads():
                # Another host looks for all: two of them would take back what the other raised.
                self._pending = _Pending()
                self._machine = None
                return now + EACH
            self._pending.changes += self._changes(seen)
            self._write_alerts()
            if not timedelta(0) <= now - self._written_at < _WRITE_EACH:
                self._write_samples(now)
            self._failing = False
        except (OSError, StateError) as error:
            self._fail(error)
        return now + EACH

    def end(self, now: datetime) -> None:
        """Write what is left: nobody works here any more."""
        try:
            if self._others is not None and not self._others.leads():
                self._pending, self._machine = _Pending(), None
            if self._machine is not None:
                # Nobody looks any more, and these say something of a moment only.
                self._pending.changes += self._machine.look(now, (), _OF_A_MOMENT)
            self._write_alerts()
            self._write_samples(now)
        except (OSError, StateError) as error:
            self._fail(error)
        remove_live(self._home)

    def _fail(self, error: Exception) -> None:
        if not self._failing:
            _log.warning("what is measured cannot be written: %s", type(error).__name__)
        self._failing = True
        del self._pending.samples[:-_LONGEST_BUFFER]

    def _changes(self, seen: Look) -> list[Change]:
        if self._machine is None:
            mine = [
                alert
                for alert in self._catalogue.alerts.open_alerts()
                if alert.code in conditions.EACH_LOOK
            ]
            self._machine = AlertMachine(mine)
        for name, disk in seen.disks.items():
            if name not in self._filling:
                self._filling[name] = Filling(self._past_of(name, seen.at))
            self._filling[name].observe(seen.at, disk.free)
        observations = self._observations(seen, self._machine)
        changes = self._machine.look(seen.at, observations, conditions.EACH_LOOK)
        return with_reasons(changes, self._settings)

    def _observations(self, seen: Look, machine: AlertMachine) -> list[Observation]:
        observations = [
            *conditions.of_machine(seen, self._filling, self._limits),
            *self._stalling.observe(seen, self._limits),
        ]
        configured = self._settings.destinations
        answering = self._answering()
        # One that is down, and that nobody deals with now, stays down; unless nobody ever will.
        down = {
            name: Answering(None)
            for name in machine.raised(AlertCode.DESTINATION_DOWN)
            if name in configured or name in seen.jobs
        }
        for name, one in (down | answering).items():
            observations.append(conditions.destination(name, one.answers, one.code))
        for held in self._catalogue.signs.held():
            figures: dict[str, float | int | str] = {
                "known": held.signs.known,
                "changed": held.signs.changed,
                "spoilt": held.signs.spoilt,
                "gone": held.signs.gone,
            }
            name = self._names.source(held.name, held.source_id)
            verdict = verdict_of_held(name, held.held_at, seen.at)
            if verdict is not None:
                observations.append(conditions.source_held(name, verdict, figures))
        return observations

    def _answering(self) -> dict[str, Answering]:
        """Say which destinations answer, by what deliveries found, else by what probes found.

        One that takes what is delivered though it cannot be opened anew (a vault whose passphrase
        is another by now) does neither: its alert would come and go with every run.
        """
        answering = {
            name: one
            for destination_id, one in self._probed.answering().items()
            # What was tried before the configuration changed is nobody's business now.
            if (name := self._probes.name_of(destination_id)) in self._settings.destinations
        }
        for destination_id, one in self._at_work.answering().items():
            name = self._probes.name_of(destination_id)
            probed = answering.get(name)
            if one.answers and probed is not None and probed.answers is False:
                answering[name] = Answering(None)
            elif one.answers is not None:
                answering[name] = one
        return answering

    def _past_of(self, disk: str, now: datetime) -> list[tuple[datetime, float]]:
        """Return how full a disk was before this process began."""
        subject = Subject(SubjectKind.DISK, disk)
        past = self._catalogue.samples.samples(60, now - WINDOW, now, subject)
        return [
            (sample.at, sample.figures[Figure.DISK_FREE_BYTES])
            for sample in past
            if Figure.DISK_FREE_BYTES in sample.figures
        ]

    def _write_alerts(self) -> None:
        while self._pending.changes:
            apply(self._catalogue.alerts, self._pending.changes[0])
            del self._pending.changes[0]

    def _write_samples(self, now: datetime) -> None:
        samples = self._catalogue.samples
        samples.keep_samples(self._pending.samples)
        self._pending.samples.clear()
        samples.thin_samples(now)
        if begin_of(now, _SELDOM_S) != begin_of(self._written_at, _SELDOM_S):
            self._catalogue.alerts.forget_alerts(now - _REMEMBERED)
        self._written_at = now


def apply(book: AlertBook, change: Change) -> None:
    """Write down that an alert was raised or cleared."""
    if change.change is AlertChange.RAISED:
        book.raise_alert(change.code, change.subject, change.severity, change.at, change.figures)
    else:
        book.clear_alert(change.code, change.subject, change.at, change.figures)
