"""Back up (and verify): ask for a run, do its work or follow who does it, and report."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dcmvault.app.places import is_same_pacs, overlap
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.destinations import build_destination
from dcmvault.app.wiring.sources import build_source
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.sections import (
    FolderSourceSection,
    HorosSourceSection,
    SourceSection,
)
from dcmvault.config.settings import NamedDestination, Settings
from dcmvault.errors import LevelNotSupportedError, RunInterruptedError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId, SourceId, new_run_id
from dcmvault.model.job import JobState, Priority
from dcmvault.model.plan import DestinationRequest, PlanItem, RunKind, RunRequest, Sample, Strategy
from dcmvault.model.report import RunReport, RunState
from dcmvault.model.selection import EVERYTHING, Selection
from dcmvault.pipeline.selection import remarks_of, select_from
from dcmvault.ports.catalogue import RunProgress
from dcmvault.ports.destination import Destination, Verifier

_ENDED = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CANCELLED})
#: Seconds between looks at a run's counters: at first and when all is done, so that a run's end is
#: seen at once, and later.
_FIRST_WATCH_S = 0.02
_WATCH_S = 0.2
#: Each look comes by this factor later than the one before.
_SLOWING = 1.2
#: Looks at a run's counters for one at its queues and jobs, which cost more.
_LOOKS_AT_QUEUES = 5


@dataclass(frozen=True, slots=True)
class Followed:
    """Where a followed run stands: its counters, who works, and what is held up.

    `paused` names destinations of the run whose queue is paused: somebody has to resume them.
    `retrying` is set while everything that is left waits for its next attempt.
    """

    progress: RunProgress
    working: bool
    paused: tuple[str, ...] = ()
    retrying: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """A run that was asked for; `continued` if it is an unfinished one taken up again."""

    run_id: RunId
    continued: bool


def make_request(
    settings: Settings,
    *,
    kind: RunKind,
    source: str | SourceSection,
    destinations: Sequence[str],
    level: Level | None,
    strategy: Strategy = Strategy.INCREMENTAL,
    priority: Priority = Priority.NORMAL,
    include_other_files: bool = False,
    selection: Selection = EVERYTHING,
    sample: Sample | None = None,
    due: bool = False,
    accept_changes: bool = False,
) -> RunRequest:
    """Check what a user asks for, without any connection, and make it canonical.

    A verification looks at a `sample` of studies only, or at what is `due` by the configuration.

    Raises UsageError: a bad address, the same destination twice, a destination inside its
    source, or a level that a destination cannot give.
    """
    if not destinations:
        raise UsageError(_("No destination was named."), hint=_("Name one with --to DESTINATION."))
    section = settings.source(source) if isinstance(source, str) else source
    requested: list[DestinationRequest] = []
    for name in destinations:
        named = settings.destination(name)
        _refuse_overlap(section, named)
        destination = build_destination(named.section, SystemClock())
        asked = level or named.level or destination.default_level
        _refuse_unsupported(destination, asked)
        if any(other.address == destination.name for other in requested):
            raise UsageError(_("The destination %(name)s is named twice.") % {"name": name})
        wanted = _what_is_due(settings, destination.name) if due else sample
        requested.append(DestinationRequest(destination.name, asked, wanted))
    return RunRequest(
        kind=kind,
        source=build_source(section, settings.listener).name,
        destinations=tuple(requested),
        strategy=strategy,
        priority=priority,
        include_other_files=include_other_files
        or (isinstance(section, FolderSourceSection) and section.include_other_files),
        selection=selection,
        accept_changes=accept_changes,
    )


def make_requests(
    settings: Settings,
    *,
    sources: Sequence[str],
    destinations: Sequence[str],
    level: Level | None,
    strategy: Strategy = Strategy.INCREMENTAL,
    priority: Priority = Priority.NORMAL,
    include_other_files: bool = False,
    accept_changes: bool = False,
) -> list[RunRequest]:
    """Make one backup for each source, checked as by `make_request`, before any begins.

    In the order given: of an instance that two sources have, the first one's file is delivered.
    """
    requests: list[RunRequest] = []
    for source in sources:
        request = make_request(
            settings,
            kind=RunKind.BACKUP,
            source=source,
            destinations=destinations,
            level=level,
            strategy=strategy,
            priority=priority,
            include_other_files=include_other_files,
            accept_changes=accept_changes,
        )
        if any(other.source == request.source for other in requests):
            raise UsageError(_("The source %(name)s is named twice.") % {"name": source})
        requests.append(request)
    return requests


def requests_of_plan(
    settings: Settings, name: str, *, accept_changes: bool = False
) -> list[RunRequest]:
    """Make the backups of a configured plan; AddressError where there is none of this name."""
    plan = settings.plan(name)
    return make_requests(
        settings,
        sources=plan.sources,
        destinations=plan.destinations,
        level=Level.from_word(plan.level) if plan.level else None,
        strategy=Strategy(plan.strategy),
        priority=Priority[plan.priority.upper()],
        include_other_files=plan.include_other_files,
        accept_changes=accept_changes,
    )


def _what_is_due(settings: Settings, address: str) -> Sample:
    configured = settings.configured(address)
    if configured is None or not (configured.reverify_after or configured.reverify_share):
        raise UsageError(
            _("The configuration does not say when %s is verified again.") % address,
            hint=_('Write reverify_after = "30d" in its [destinations.NAME], or use --sample.'),
        )
    return configured.due


def _refuse_unsupported(destination: Destination, level: Level) -> None:
    levels = destination.levels if isinstance(destination, Verifier) else frozenset({Level.SENT})
    if level not in levels:
        raise LevelNotSupportedError(
            _("%(destination)s cannot give evidence of the level “%(level)s”.")
            % {"destination": destination.name, "level": level.word},
            hint=_("It can give: %(levels)s.")
            % {"levels": ", ".join(one.word for one in sorted(levels))},
        )


def _refuse_overlap(source: SourceSection, destination: NamedDestination) -> None:
    """Refuse a copy inside its source (backed up again) and a source inside a copy (changed)."""
    if overlap(source, destination.section):
        raise UsageError(
            _("Source and destination overlap: one folder contains the other."),
            hint=_("Choose a destination outside the source, best on another disk."),
        )
    if is_same_pacs(source, destination.section):
        raise UsageError(
            _("Source and destination are the same PACS: that would be no copy."),
            hint=_("Choose another PACS, a vault or a folder."),
        )


def start(workplace: Workplace, request: RunRequest) -> Started:
    """Write down and enqueue a run; an unfinished run of the same request is continued instead."""
    request = _with_remembered_library(workplace, request)
    asked = _ask(workplace, request)
    if asked.continued and not workplace.queue.is_open(asked.run_id):
        # Its work ended, but nothing could write that down (a full disk, a cut power line).
        _close_abandoned(workplace, asked.run_id)
        asked = _ask(workplace, request)
    return asked


def _ask(workplace: Workplace, request: RunRequest) -> Started:
    now = workplace.clock.now()
    new = new_run_id(now)
    run_id = workplace.catalogue.runs.ask_for_run(new, request, now)
    destination = workplace.catalogue.plans.destination
    workplace.queue.submit(run_id, [destination(one.address) for one in request.destinations])
    return Started(run_id, continued=run_id != new)


def _close_abandoned(workplace: Workplace, run_id: RunId) -> None:
    runs = workplace.catalogue.runs
    if runs.run(run_id).state in _ENDED:
        return
    runs.record_error(
        run_id,
        "abandoned",
        "the run's work ended without a word in the catalogue",
        "what it left undone is due in the next run; the log may tell why it ended",
    )
    runs.set_run_state(run_id, RunState.FAILED, workplace.clock.now())
    runs.cancel_items(run_id)


def _with_remembered_library(workplace: Workplace, request: RunRequest) -> RunRequest:
    """Take a plain path for the library that it was before, though `Database.sql` is not seen now.

    An unmounted volume leaves an empty folder, which must not pass for an empty source.
    """
    if request.source.startswith(("horos:", "vault:", "orthanc+", "listener:")):
        return request
    library = HorosSourceSection(path=Path(request.source)).address
    known = {source.name for source in workplace.catalogue.status.sources()}
    if library in known and request.source not in known:
        return replace(request, source=library)
    return request


def follow(
    workplace: Workplace,
    run_id: RunId,
    watch: Callable[[Followed], None],
    stop: threading.Event,
) -> RunReport:
    """Work until the run ends, or follow the process that works in this state folder.

    `watch` is called about five times a second, more often in the first second. Raises
    RunInterruptedError when `stop` is set; the run stays queued.
    """
    runs = workplace.catalogue.runs
    addresses = {wanted.address for wanted in runs.run(run_id).request.destinations}
    paused: tuple[str, ...] = ()
    retrying = False
    looks = 0
    pause_s = _FIRST_WATCH_S
    nearly_ended = False
    while True:
        progress = runs.progress(run_id)
        if progress.state in _ENDED:
            watch(Followed(progress, workplace.working))
            return runs.report(run_id)
        working = workplace.work()
        if looks % _LOOKS_AT_QUEUES == 0 and not workplace.queue.is_open(run_id):
            _close_abandoned(workplace, run_id)
        if progress.state is RunState.RUNNING and looks % _LOOKS_AT_QUEUES == 0:
            paused = tuple(sorted(addresses & paused_destinations(workplace)))
            states = {job.state for job in runs.jobs() if job.run_id == run_id}
            retrying = states == {JobState.RETRYING}
        watch(Followed(progress, working, paused, retrying))
        looks += 1
        pause_s = min(pause_s * _SLOWING, _WATCH_S)
        if nearly_ended != (nearly_ended := 0 < progress.items == progress.settled):
            pause_s = _FIRST_WATCH_S
        if stop.wait(pause_s):
            raise RunInterruptedError(
                _("Stopped. What was done is recorded; the rest of the run is kept."),
                hint=_("The same command continues where this one stopped."),
            )


def paused_destinations(workplace: Workplace) -> set[str]:
    """Return the addresses of the destinations whose queue is paused."""
    paused = [state.destination_id for state in workplace.queue.queues() if state.paused]
    if not paused:
        return set()
    names = workplace.catalogue.status.destinations()
    return {names[destination_id] for destination_id in paused if destination_id in names}


@dataclass(frozen=True, slots=True)
class PreviewDestination:
    """What a run would do at one destination."""

    name: str
    level: Level
    selected: int
    already_held: int
    bytes: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would do, found by reading headers only; nothing is sent or stored."""

    destinations: tuple[PreviewDestination, ...]
    studies: int
    unreadable: int
    not_dicom: int
    warnings: tuple[str, ...]
    items: Callable[[], Iterator[tuple[str, PlanItem]]]


def preview(workplace: Workplace, request: RunRequest) -> Preview:
    """Look at the source and the catalogue and say what a run would do.

    New headers are read and remembered, so that the run itself need not read them again.
    """
    request = _with_remembered_library(workplace, request)
    catalogue = workplace.catalogue
    source = workplace.source(request.source)
    counts = select_from(
        source,
        catalogue.sources,
        None,
        include_other_files=request.include_other_files,
        listed=lambda _entries: None,
        open_other=workplace.source,
        selection=request.selection,
    )
    source_id = catalogue.sources.source(request.source)
    held = _held_versions(workplace, request, source_id)

    def items() -> Iterator[tuple[str, PlanItem]]:
        for wanted in request.destinations:
            for item in catalogue.plans.due(
                source_id,
                catalogue.plans.destination(wanted.address),
                strategy=request.strategy,
                level=wanted.level or Level.SENT,
                run_id=None,
                selection=request.selection,
            ):
                yield wanted.address, item

    reasons: dict[str, Counter[str]] = {w.address: Counter() for w in request.destinations}
    sizes: Counter[str] = Counter()
    studies: set[str] = set()
    for address, item in items():
        reasons[address][item.reason] += 1
        held[address] -= item.reason == request.strategy
        sizes[address] += 0 if item.held else item.entry.fingerprint.size
        studies.add(item.identity.study_instance_uid)
    return Preview(
        destinations=tuple(
            PreviewDestination(
                wanted.address,
                wanted.level or Level.SENT,
                reasons[wanted.address].total(),
                held[wanted.address],
                sizes[wanted.address],
                reasons[wanted.address],
            )
            for wanted in request.destinations
        ),
        studies=len(studies),
        unreadable=counts.unreadable,
        not_dicom=counts.not_dicom,
        warnings=remarks_of(source).warnings,
        items=items,
    )


def _held_versions(workplace: Workplace, request: RunRequest, source_id: SourceId) -> Counter[str]:
    """Count by destination what is held of a source at the level that is asked for."""
    plans = workplace.catalogue.plans
    held: Counter[str] = Counter()
    for wanted in request.destinations:
        keeps_versions = workplace.destination(wanted.address).keeps_versions
        destination_id = plans.destination(wanted.address, keeps_versions=keeps_versions)
        level = wanted.level or Level.SENT
        held[wanted.address] = plans.held_versions(
            source_id, destination_id, level, request.selection
        )
    return held
