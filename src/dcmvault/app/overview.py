"""The overview: the state of everything in one sentence, plans, destinations, and what to do.

Cheap however much there is: what must be counted over all instances comes in (`app.standing`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from dcmvault.app.lateness import expectations
from dcmvault.app.names import Names
from dcmvault.app.needs import PRESSING, needs
from dcmvault.app.notice_facts import addresses_of_plan, place_name
from dcmvault.app.queue import queues
from dcmvault.app.schedules import ScheduleView, views
from dcmvault.app.standing import Counted
from dcmvault.app.three_two_one import rulings
from dcmvault.app.top import open_alerts
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.peer_sections import DimseDestinationSection, StowDestinationSection
from dcmvault.config.sections import FolderDestinationSection, VaultSection
from dcmvault.config.settings import Settings
from dcmvault.model.alert import Alert, AlertCode
from dcmvault.model.identifiers import DestinationId
from dcmvault.model.overview import (
    DestinationCard,
    Need,
    Occasion,
    Outcome,
    Overview,
    Pause,
    Place,
    PlanCard,
    Proof,
    RunRow,
    Standing,
    Week,
)
from dcmvault.model.plan import RunKind
from dcmvault.pipeline.scheduling import next_due
from dcmvault.ports.queue import QueueState
from dcmvault.ports.schedules import HoldState
from dcmvault.telemetry.sampling import Left

#: Runs in a strip, and those that are looked at for all strips.
STRIP_RUNS = 30
_LOOKED_AT = 400
#: Needs that are shown, and weeks of growth.
_SHOWN_NEEDS = 5
_WEEKS = 53
#: A look holds for so long.
_FRESH_S = 0.9
_DAY_S = 86_400


class OverviewWatch:
    """Puts the overview together at most once a second, for all pages. Safe for threads."""

    def __init__(self, workplace: Workplace, standing: Callable[[], Counted | None]) -> None:
        self._workplace = workplace
        self._standing = standing
        self._lock = threading.Lock()
        self._last: Overview | None = None
        self._looked_s = float("-inf")

    def look(self, *, anew: bool = False) -> Overview:
        """Return how everything is; `anew` after something was steered."""
        with self._lock:
            clock = self._workplace.clock
            last = self._last
            if anew or last is None or clock.monotonic() - self._looked_s >= _FRESH_S:
                last = self._last = overview(self._workplace, self._standing())
                self._looked_s = clock.monotonic()
            return last


def overview(workplace: Workplace, counted: Counted | None) -> Overview:
    """Put together what the first page shows; `counted` is None while nobody counted yet."""
    catalogue, settings = workplace.catalogue, workplace.settings
    now = workplace.clock.now()
    rows = catalogue.overview.run_rows(_LOOKED_AT, now)
    alerts = open_alerts(workplace)
    plans = _plan_cards(workplace, rows, now)
    proof = latest_proof(workplace)
    states = {one.destination: one.state for one in queues(workplace)}
    destinations = _destination_cards(workplace, counted, alerts, states, now)
    found = needs(workplace, now, alerts, plans, counted, proof)
    held = {card.name: card.held_bytes or 0 for card in destinations}
    unfinished = catalogue.work.unfinished_runs()
    filling = [
        (card.name, card.space.full_in_days)
        for card in destinations
        if card.space is not None and card.space.full_in_days is not None
    ]
    left = Left.of(unfinished)
    return Overview(
        at=now,
        standing=standing_of(settings, rows, states, found, counted),
        protection=counted.protection if counted is not None else None,
        counted_at=counted.at if counted is not None else None,
        debt=counted.debt if counted is not None else None,
        last=_last(settings, rows),
        next=_next(plans),
        proof=proof,
        plans=plans,
        destinations=destinations,
        rulings=rulings(settings, counted, held, proof),
        needs=tuple(found[:_SHOWN_NEEDS]),
        needs_in_all=len(found),
        pressing=sum(need.weight >= PRESSING for need in found),
        critical=sum(need.critical for need in found),
        running=sum(row.bar.outcome is Outcome.GOES_ON for row in rows),
        weeks=_weeks(workplace, now),
        full_in_days=min(filling, key=lambda one: one[1], default=None),
        instances_left=left.items - left.done,
    )


def standing_of(
    settings: Settings,
    rows: Sequence[RunRow],
    states: Mapping[str, QueueState],
    needs_: Sequence[Need],
    counted: Counted | None,
) -> Standing:
    """Say the state of everything: what comes first in this order is what is said."""
    goes_on = any(row.bar.outcome is Outcome.GOES_ON for row in rows)
    waiting = [one for one in states.values() if one.waiting or one.running]
    protection = counted.protection if counted is not None else None
    table = (
        (not settings.plans and not rows, Standing.NOTHING_CONFIGURED),
        (any(need.weight >= PRESSING for need in needs_), Standing.NEEDS_YOU),
        (not rows, Standing.NEVER_RAN),
        (goes_on and bool(waiting) and all(one.paused for one in waiting), Standing.PAUSED),
        (goes_on, Standing.WORKING),
        (protection is None, Standing.COUNTING),
        (protection is not None and protection.protected < protection.studies, Standing.BEHIND),
    )
    return next((standing for holds, standing in table if holds), Standing.ALL_WELL)


def latest_proof(workplace: Workplace) -> Proof | None:
    """Return the newest proof that studies come back, whatever it said."""
    proofs = [
        Proof(
            drill.drilled_at,
            place_name(workplace.settings, drill.place),
            drill.passed,
            is_drill=True,
            studies=len(drill.studies),
        )
        for drill in workplace.catalogue.restores.latest_drills()
    ]
    restore = workplace.catalogue.overview.latest_restore()
    if restore is not None:
        place = place_name(workplace.settings, restore.place)
        proofs.append(Proof(restore.at, place, restore.passed, is_drill=False))
    return max(proofs, key=lambda proof: proof.at, default=None)


def _plan_cards(
    workplace: Workplace, rows: Sequence[RunRow], now: datetime
) -> tuple[PlanCard, ...]:
    settings = workplace.settings
    schedules = views(workplace, runs_each=0)
    catalogue = workplace.catalogue
    expected = expectations(
        settings, catalogue.notices, catalogue.notices, catalogue.schedules, now
    )
    cards = []
    for name, plan in settings.plans.items():
        sources, destinations = addresses_of_plan(settings, name)
        wanted = set(destinations)
        bars = [row.bar for row in rows if _is_of(row, sources, wanted)][:STRIP_RUNS]
        late = expected.get(name)
        is_late = late is not None and late.is_missed(now)
        cards.append(
            PlanCard(
                name,
                plan.sources,
                plan.destinations,
                tuple(reversed(bars)),
                _next_of_plan(schedules, name, now),
                late.until if late is not None and is_late else None,
            )
        )
    return tuple(cards)


def _is_of(row: RunRow, sources: Sequence[str], destinations: set[str]) -> bool:
    return (
        row.kind == RunKind.BACKUP.value
        and row.source in sources
        and set(row.destinations) == destinations
    )


def _next_of_plan(schedules: Sequence[ScheduleView], plan: str, now: datetime) -> datetime | None:
    moments = [
        moment
        for view in schedules
        if view.section.plan == plan and view.enabled and (moment := _next_of(view, now))
    ]
    return min(moments, default=None)


def _next_of(view: ScheduleView, now: datetime) -> datetime | None:
    state = view.state
    if state is not None and state.definition == view.section.definition:
        return state.waiting_since or state.next_at
    return next_due(view.section.trigger, now)


def _destination_cards(
    workplace: Workplace,
    counted: Counted | None,
    alerts: Sequence[Alert],
    states: Mapping[str, QueueState],
    now: datetime,
) -> tuple[DestinationCard, ...]:
    settings = workplace.settings
    ids = {address: key for key, address in workplace.catalogue.status.destinations().items()}
    names = Names(settings, workplace.catalogue.status.destinations)
    holds = workplace.catalogue.queue_holds.holds()
    probed = workplace.probed.last()
    down = {
        one.subject.name: one.raised_at for one in alerts if one.code is AlertCode.DESTINATION_DOWN
    }
    addresses = {one.section.address: name for name, one in settings.destinations.items()}
    addresses |= {
        address: names.destination(key) for address, key in ids.items() if address not in addresses
    }
    cards = []
    for address, name in addresses.items():
        key = ids.get(address)
        state = states.get(address)
        copies = counted.copies.get(key) if counted is not None and key is not None else None
        probe = probed.get(key) if key is not None else None
        end = counted.certificates.get(name) if counted is not None else None
        cards.append(
            DestinationCard(
                name,
                place_of(workplace.destination_section(address)),
                space=counted.spaces.get(name) if counted is not None else None,
                held_bytes=None if counted is None else copies.held_bytes if copies else 0,
                certificate_days=(end - now).total_seconds() / _DAY_S if end else None,
                latency_s=probe.seconds if probe is not None else None,
                looked_at=probe.at if probe is not None else None,
                oldest_evidence_at=(
                    counted.oldest_evidence.get(key)
                    if counted is not None and key is not None
                    else None
                ),
                down_since=down.get(name),
                waiting=state.waiting if state is not None else 0,
                running=state.running if state is not None else 0,
                pause=pause_of(state, holds),
                refuted=copies.refuted if copies is not None else 0,
            )
        )
    return tuple(cards)


def pause_of(state: QueueState | None, holds: Mapping[DestinationId, HoldState]) -> Pause | None:
    """Say why a queue stands; None where it does not."""
    if state is None or not state.paused:
        return None
    held = holds.get(state.destination_id) is HoldState.HELD
    return Pause.WINDOW if held else Pause.BY_HAND


def place_of(section: object) -> Place:
    """Say what kind of place a destination is."""
    match section:
        case FolderDestinationSection():
            return Place.FOLDER
        case VaultSection() if not section.scheme:
            return Place.VAULT
        case VaultSection() if section.scheme == "sftp":
            return Place.SFTP
        case VaultSection() if section.scheme in {"s3", "az", "gs"}:
            return Place.CLOUD
        case DimseDestinationSection():
            return Place.PACS
        case StowDestinationSection():
            return Place.DICOMWEB
        case _:
            return Place.OTHER


def _last(settings: Settings, rows: Sequence[RunRow]) -> Occasion | None:
    """Return the backup that ended last, with its plan's name."""
    ended = [
        row for row in rows if row.finished_at is not None and row.kind == RunKind.BACKUP.value
    ]
    if not ended:
        return None
    row = max(ended, key=lambda one: one.finished_at or one.bar.begun_at)
    plan = next(
        (
            name
            for name in settings.plans
            for sources, destinations in [addresses_of_plan(settings, name)]
            if _is_of(row, sources, set(destinations))
        ),
        "",
    )
    assert row.finished_at is not None
    return Occasion(plan, row.finished_at, row.bar.run_id, row.bar.outcome)


def _next(plans: Sequence[PlanCard]) -> Occasion | None:
    moments = [(plan.next_at, plan.name) for plan in plans if plan.next_at is not None]
    if not moments:
        return None
    at, name = min(moments)
    return Occasion(name, at)


def _weeks(workplace: Workplace, now: datetime) -> tuple[Week, ...]:
    """List the weeks of the last year, those without a byte too."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    last = day - timedelta(days=day.weekday())
    begins = [last - timedelta(weeks=number) for number in reversed(range(_WEEKS))]
    sent = workplace.catalogue.overview.sent_by_week(begins[0])
    return tuple(Week(begin, sent.get(begin, 0)) for begin in begins)
