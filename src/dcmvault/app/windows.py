"""Windows: in closed hours the queues of the destinations that they are for are held.

`keep_windows` is a plain function of the time. A destination is closed while no schedule that
sends there has an open hour. What is in flight ends. Urgent work goes on where the window lets it:
then the queue stays open for it, and other work of that queue waits at its next step. Somebody's
own `queue pause` and `queue resume` outweigh every window until its closed hours are over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.schedule_sections import SUGGESTED, ScheduleSection
from dcmvault.config.settings import Settings
from dcmvault.errors import DcmvaultError
from dcmvault.model.identifiers import DestinationId
from dcmvault.model.job import Priority
from dcmvault.model.schedule import WeekTable
from dcmvault.ports.schedules import HoldState

#: Windows begin and end with a minute.
_MINUTE = timedelta(minutes=1)
#: Of urgent work its first jobs tell enough.
_LOOKED_AT = 1000

#: Gives the hours that history suggests; None where it says too little.
Suggest = Callable[[datetime], WeekTable | None]


@dataclass(frozen=True, slots=True)
class _Hours:
    """What one schedule says of one destination: its hours, and whether urgent work goes on."""

    table: WeekTable | None
    urgent: bool


def keep_windows(workplace: Workplace, now: datetime, suggest: Suggest) -> datetime:
    """Hold and take up queues as the windows say; return when to look again."""
    hours = _hours_by_destination(workplace.settings, now, suggest)
    holds = workplace.catalogue.queue_holds.holds()
    names = workplace.catalogue.status.destinations()
    paused = {state.destination_id: state.paused for state in workplace.queue.queues()}
    urgent = _with_urgent_work(workplace) if hours else set()
    for destination_id, address in names.items():
        said = hours.get(address, ())
        is_open = not said or any(one.table is None or one.table.is_open(now) for one in said)
        is_paused = paused.get(destination_id, False)
        if is_open:
            if destination_id in holds:
                _open(workplace, destination_id, holds[destination_id], is_paused=is_paused)
            continue
        lets_urgent = all(one.urgent for one in said) and destination_id in urgent
        _close(
            workplace,
            destination_id,
            holds,
            is_paused=is_paused,
            lets_urgent=lets_urgent,
        )
    return (now + _MINUTE).replace(second=0, microsecond=0)


def hours_of_destinations(
    settings: Settings, now: datetime, suggest: Suggest
) -> Mapping[str, Sequence[WeekTable | None]]:
    """Return, by address, the hours of destinations that have some: one that is open is enough."""
    hours = _hours_by_destination(settings, now, suggest)
    return {address: [one.table for one in said] for address, said in hours.items()}


def _open(
    workplace: Workplace, destination_id: DestinationId, state: HoldState, *, is_paused: bool
) -> None:
    if state is HoldState.HELD and is_paused:
        workplace.queue.resume(destination_id)
    workplace.catalogue.queue_holds.set_hold(destination_id, None)


def _close(
    workplace: Workplace,
    destination_id: DestinationId,
    holds: Mapping[DestinationId, HoldState],
    *,
    is_paused: bool,
    lets_urgent: bool,
) -> None:
    state = holds.get(destination_id)
    if state is None:
        state = HoldState.USERS if is_paused else HoldState.HELD
        # Written first: a queue that is held by nobody would stay paused for ever.
        workplace.catalogue.queue_holds.set_hold(destination_id, state)
    if state is HoldState.HELD and is_paused is lets_urgent:
        (workplace.queue.resume if lets_urgent else workplace.queue.pause)(destination_id)


def _with_urgent_work(workplace: Workplace) -> set[DestinationId]:
    """Return the destinations for which an urgent job has not ended; jobs come by priority."""
    jobs = workplace.catalogue.runs.jobs(limit=_LOOKED_AT)
    return {job.destination_id for job in jobs if job.priority >= Priority.URGENT}


def _hours_by_destination(
    settings: Settings, now: datetime, suggest: Suggest
) -> dict[str, list[_Hours]]:
    """Gather, by address, what schedules say of destinations; those without a window say: open.

    Only where one of them has a window.
    """
    hours: dict[str, list[_Hours]] = {}
    for schedule in settings.schedules.values():
        plan = settings.plans[schedule.plan]
        said = _hours_of(settings, schedule, now, suggest)
        for place in plan.destinations:
            try:
                address = settings.destination(place).section.address
            except DcmvaultError:
                continue  # the run itself says so
            hours.setdefault(address, []).append(said)
    return {address: said for address, said in hours.items() if any(one.table for one in said)}


def _hours_of(
    settings: Settings, schedule: ScheduleSection, now: datetime, suggest: Suggest
) -> _Hours:
    if schedule.window == SUGGESTED:
        return _Hours(suggest(now), urgent=True)
    if not schedule.window:
        return _Hours(None, urgent=True)
    window = settings.windows[schedule.window]
    return _Hours(window.table, window.urgent)


def note_pause(workplace: Workplace, destination_id: DestinationId) -> None:
    """Note that somebody pauses a destination: no window takes it up again."""
    _note(workplace, destination_id, HoldState.USERS)


def note_resume(workplace: Workplace, destination_id: DestinationId) -> None:
    """Note that somebody takes a destination up, in spite of its closed hours."""
    _note(workplace, destination_id, HoldState.LIFTED)


def _note(workplace: Workplace, destination_id: DestinationId, state: HoldState) -> None:
    if destination_id in workplace.catalogue.queue_holds.holds():
        workplace.catalogue.queue_holds.set_hold(destination_id, state)
