"""What needs somebody: the worst first, each with the one thing to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from dcmvault.app.standing import Counted
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.model.alert import Alert, AlertCode, AlertSeverity
from dcmvault.model.overview import Need, NeedKind, Outcome, PlanCard, Proof, Verb

#: Needs from this weight on are told in the first sentence; others can wait.
PRESSING = 50
#: Without a drill or a restore for so long, one is asked for.
_PROVEN_EACH = timedelta(days=90)

_VERBS: Mapping[AlertCode, Verb] = {
    AlertCode.STALLED: Verb.LOOK_AT_WORK,
    AlertCode.DISK_LOW: Verb.MAKE_ROOM,
    AlertCode.DISK_FULL_FORECAST: Verb.MAKE_ROOM,
    AlertCode.CPU_HIGH: Verb.LOOK_AT_WORK,
    AlertCode.DESTINATION_DOWN: Verb.TRY,
    AlertCode.CERTIFICATE_EXPIRING: Verb.RENEW,
    AlertCode.RUN_OVERDUE: Verb.RUN_NOW,
    AlertCode.VERIFICATION_DEBT: Verb.VERIFY,
    AlertCode.SOURCE_HELD: Verb.LOOK_AT_SOURCE,
}
#: Of alerts that are equally severe, these come first.
_HEAVIER = {AlertCode.SOURCE_HELD: 9, AlertCode.DISK_LOW: 8, AlertCode.DESTINATION_DOWN: 7}
_LIGHTER = {AlertCode.CPU_HIGH: -20, AlertCode.VERIFICATION_DEBT: -8}


def needs(
    workplace: Workplace,
    now: datetime,
    alerts: Sequence[Alert],
    plans: Sequence[PlanCard],
    counted: Counted | None,
    proof: Proof | None,
) -> list[Need]:
    """List everything that needs somebody, the worst first."""
    overdue = {one.subject.name for one in alerts if one.code is AlertCode.RUN_OVERDUE}
    found = [
        *map(_of_alert, alerts),
        *_of_plans(plans, overdue),
        *_of_copies(workplace, counted),
        *_of_proof(now, counted, proof),
        *_of_channels(workplace),
    ]
    return sorted(found, key=lambda need: (-need.weight, need.since or now, need.subject))


def _of_alert(alert: Alert) -> Need:
    critical = alert.severity is AlertSeverity.CRITICAL
    weight = 85 if critical else 60
    weight += _HEAVIER.get(alert.code, 0) + _LIGHTER.get(alert.code, 0)
    return Need(
        NeedKind.ALERT,
        _VERBS[alert.code],
        alert.subject.name,
        weight,
        alert.raised_at,
        critical=critical,
        alert=alert,
    )


def _of_plans(plans: Sequence[PlanCard], overdue: set[str]) -> Iterator[Need]:
    for plan in plans:
        ended = [run for run in plan.runs if run.outcome is not Outcome.GOES_ON]
        if not plan.runs:
            if plan.name not in overdue:
                yield Need(NeedKind.NEVER_RAN, Verb.RUN_NOW, plan.name, 45)
        elif ended and ended[-1].outcome is Outcome.FAILED:
            last = ended[-1]
            yield Need(
                NeedKind.RUN_FAILED,
                Verb.LOOK_AT_RUN,
                plan.name,
                80,
                last.begun_at,
                critical=True,
                run_id=last.run_id,
            )
        elif ended and ended[-1].outcome is Outcome.INCOMPLETE:
            last = ended[-1]
            short = last.instances - last.held
            yield Need(
                NeedKind.RUN_INCOMPLETE,
                Verb.LOOK_AT_RUN,
                plan.name,
                55,
                last.begun_at,
                short,
                run_id=last.run_id,
            )


def _of_copies(workplace: Workplace, counted: Counted | None) -> Iterator[Need]:
    if counted is None:
        return
    from_addresses = workplace.catalogue.status.destinations()
    for key, copies in counted.copies.items():
        if copies.refuted:
            name = _name(workplace, from_addresses.get(key, ""), key)
            yield Need(
                NeedKind.REFUTED, Verb.RUN_NOW, name, 90, count=copies.refuted, critical=True
            )
    for address, count in counted.unreadable.items():
        names = (
            name
            for name, section in workplace.settings.sources.items()
            if section.address == address
        )
        yield Need(NeedKind.UNREADABLE, Verb.LOOK_AT_SOURCE, next(names, ""), 50, count=count)


def _name(workplace: Workplace, address: str, key: int) -> str:
    for name, one in workplace.settings.destinations.items():
        if one.section.address == address:
            return name
    return f"#{key}"


def _of_proof(now: datetime, counted: Counted | None, proof: Proof | None) -> Iterator[Need]:
    """Ask for a drill where there is something to lose, and nobody brought anything back."""
    if counted is None or not any(one.held_bytes for one in counted.copies.values()):
        return
    if proof is not None and not proof.passed:
        yield Need(NeedKind.NO_DRILL, Verb.DRILL, "", 75, proof.at, critical=True)
    elif proof is None or now - proof.at > _PROVEN_EACH:
        yield Need(NeedKind.NO_DRILL, Verb.DRILL, "", 30, proof.at if proof else None)


def _of_channels(workplace: Workplace) -> Iterator[Need]:
    for state in workplace.catalogue.notices.channel_states():
        if state.channel not in workplace.settings.notifications or not state.code:
            continue
        if state.given_up and state.last_given_up_at is not None:
            later = state.last_sent_at is None or state.last_sent_at < state.last_given_up_at
            if later:
                yield Need(
                    NeedKind.UNTOLD,
                    Verb.TEST_CHANNEL,
                    state.channel,
                    52,
                    state.last_given_up_at,
                    state.given_up,
                )
