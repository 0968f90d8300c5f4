"""Back up (and verify): ask for a run, do its work or follow who does it, and report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dcmvault.app.places import is_same_pacs, overlap
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.destinations import build_destination
from dcmvault.app.wiring.sources import build_source
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.plans import PlanSection
from dcmvault.config.routing_section import RoutingSection
from dcmvault.config.sections import (
    FolderSourceSection,
    HorosSourceSection,
    SourceSection,
)
from dcmvault.config.settings import NamedDestination, Settings
from dcmvault.errors import LevelNotSupportedError, RunInterruptedError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId, new_run_id
from dcmvault.model.job import JobState, Priority
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest, Sample, Strategy
from dcmvault.model.report import RunReport, RunState
from dcmvault.model.routing import MIRROR, Routing, RoutingMode, RoutingRule
from dcmvault.model.selection import EVERYTHING, Selection
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
    routing: RoutingSection | None = None,
    max_studies: int = 0,
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
    if max_studies and strategy.considers_held:
        raise UsageError(
            _("A run of the strategy “%s” considers everything, and is not limited to studies.")
            % strategy.value,
            hint=_("Use --strategy incremental or smart with --max-studies."),
        )
    requested: list[DestinationRequest] = []
    addresses: dict[str, str] = {}
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
        addresses[name] = destination.name
    return RunRequest(
        kind=kind,
        source=build_source(section, settings.listener).name,
        destinations=tuple(requested),
        strategy=strategy,
        priority=priority,
        include_other_files=include_other_files
        or (isinstance(section, FolderSourceSection) and section.include_other_files),
        selection=selection,
        routing=_routing(routing, addresses),
        max_studies=max_studies,
        accept_changes=accept_changes,
    )


def _routing(section: RoutingSection | None, addresses: Mapping[str, str]) -> Routing:
    """Name destinations by their addresses."""
    if section is None:
        return MIRROR
    rules = [
        RoutingRule(
            rule.conditions, tuple(addresses[place] for place in rule.to), RoutingMode(rule.mode)
        )
        for rule in section.rules
    ]
    return Routing(RoutingMode(section.mode), tuple(rules))


def make_requests(
    settings: Settings,
    *,
    sources: Sequence[str],
    destinations: Sequence[str],
    level: Level | None,
    strategy: Strategy = Strategy.INCREMENTAL,
    priority: Priority = Priority.NORMAL,
    include_other_files: bool = False,
    routing: RoutingSection | None = None,
    max_studies: int = 0,
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
            routing=routing,
            max_studies=max_studies,
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
    return requests_of(settings, settings.plan(name), accept_changes=accept_changes)


def requests_of(
    settings: Settings, plan: PlanSection, *, accept_changes: bool = False
) -> list[RunRequest]:
    """Make the backups of a plan, one for each source."""
    return make_requests(
        settings,
        sources=plan.sources,
        destinations=plan.destinations,
        level=Level.from_word(plan.level) if plan.level else None,
        strategy=Strategy(plan.strategy),
        priority=Priority[plan.priority.upper()],
        include_other_files=plan.include_other_files,
        routing=plan.routing,
        max_studies=plan.max_studies,
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


def start(workplace: Workplace, request: RunRequest, run_id: RunId | None = None) -> Started:
    """Write down and enqueue a run; an unfinished run of the same request is continued instead.

    With a `run_id` it is that run, however often it is asked for.
    """
    request = with_remembered_library(workplace, request)
    if run_id is not None and (known := _asked_before(workplace, run_id)) is not None:
        return known
    asked = _ask(workplace, request, run_id)
    if asked.continued and not workplace.queue.is_open(asked.run_id):
        # Its work ended, but nothing could write that down (a full disk, a cut power line).
        _close_abandoned(workplace, asked.run_id)
        asked = _ask(workplace, request, run_id)
    return asked


def _ask(workplace: Workplace, request: RunRequest, wanted: RunId | None) -> Started:
    now = workplace.clock.now()
    new = wanted or new_run_id(now)
    run_id = workplace.catalogue.runs.ask_for_run(new, request, now)
    _submit(workplace, run_id, request)
    return Started(run_id, continued=run_id != new)


def _asked_before(workplace: Workplace, run_id: RunId) -> Started | None:
    """Take up a run that was written down, and perhaps never enqueued; None where it was not."""
    try:
        record = workplace.catalogue.runs.run(run_id)
    except KeyError:
        return None
    if record.state not in _ENDED:
        _submit(workplace, run_id, record.request)
        if not workplace.queue.is_open(run_id):
            _close_abandoned(workplace, run_id)
    return Started(run_id, continued=True)


def _submit(workplace: Workplace, run_id: RunId, request: RunRequest) -> None:
    destination = workplace.catalogue.plans.destination
    workplace.queue.submit(run_id, [destination(one.address) for one in request.destinations])


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


def with_remembered_library(workplace: Workplace, request: RunRequest) -> RunRequest:
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
