"""The life of an alert, as a table: raised once, cleared once, whatever is seen in between.

Pure: what is observed and the time go in, changes come out. What was raised is kept elsewhere and
given back after a restart; what was only about to be raised begins anew then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from dcmvault.model.alert import Alert, AlertChange, AlertCode, AlertSeverity, Subject

#: Seconds without a look after which nobody knows what was in between: the machine slept, say.
LONGEST_GAP_S = 90.0


class Verdict(StrEnum):
    """What one look says. Between bad and good lies a margin, in which nothing changes."""

    BAD = "bad"
    BETWEEN = "between"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Observation:
    """What is seen of one thing now, and for how long that must last to count."""

    code: AlertCode
    subject: Subject
    severity: AlertSeverity
    verdict: Verdict
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
    raise_after_s: float = 0.0
    clear_after_s: float = 0.0


class Phase(StrEnum):
    """Where an alert stands."""

    CALM = "calm"
    #: Bad, but not for long enough.
    RISING = "rising"
    RAISED = "raised"
    #: Good again, but not for long enough.
    FALLING = "falling"


#: What a verdict does in each phase; where a phase is entered, its time begins.
TRANSITIONS: Mapping[tuple[Phase, Verdict], Phase] = {
    (Phase.CALM, Verdict.BAD): Phase.RISING,
    (Phase.CALM, Verdict.BETWEEN): Phase.CALM,
    (Phase.CALM, Verdict.GOOD): Phase.CALM,
    (Phase.RISING, Verdict.BAD): Phase.RISING,
    (Phase.RISING, Verdict.BETWEEN): Phase.CALM,
    (Phase.RISING, Verdict.GOOD): Phase.CALM,
    (Phase.RAISED, Verdict.BAD): Phase.RAISED,
    (Phase.RAISED, Verdict.BETWEEN): Phase.RAISED,
    (Phase.RAISED, Verdict.GOOD): Phase.FALLING,
    (Phase.FALLING, Verdict.BAD): Phase.RAISED,
    (Phase.FALLING, Verdict.BETWEEN): Phase.RAISED,
    (Phase.FALLING, Verdict.GOOD): Phase.FALLING,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an alert stands, since when, and when that was last looked at."""

    phase: Phase
    since: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """An alert is to be raised or cleared."""

    change: AlertChange
    code: AlertCode
    subject: Subject
    severity: AlertSeverity
    at: datetime
    figures: Mapping[str, float | int | str] = field(default_factory=dict)


def step(before: Standing, seen: Observation, now: datetime) -> tuple[Standing, AlertChange | None]:
    """Return where an alert stands after a look, and whether it was raised or cleared by it."""
    phase = TRANSITIONS[before.phase, seen.verdict]
    since = before.since
    away = now - before.seen_at
    # Nobody saw it all the time, or the clock was set back.
    is_unsure = away > timedelta(seconds=LONGEST_GAP_S) or away < timedelta(0)
    if phase is not before.phase or is_unsure:
        since = now
    lasted_s = (now - since).total_seconds()
    if phase is Phase.RISING and lasted_s >= seen.raise_after_s:
        return Standing(Phase.RAISED, now, now), AlertChange.RAISED
    if phase is Phase.FALLING and lasted_s >= seen.clear_after_s:
        return Standing(Phase.CALM, now, now), AlertChange.CLEARED
    return Standing(phase, since, now), None


class AlertMachine:
    """All alerts of whoever looks. `raised` is what was raised before, by whomever."""

    def __init__(self, raised: Iterable[Alert] = ()) -> None:
        self._standings: dict[tuple[AlertCode, Subject], Standing] = {}
        self._severities: dict[tuple[AlertCode, Subject], AlertSeverity] = {}
        for alert in raised:
            key = (alert.code, alert.subject)
            self._standings[key] = Standing(Phase.RAISED, alert.raised_at, alert.raised_at)
            self._severities[key] = alert.severity

    def raised(self, code: AlertCode) -> list[str]:
        """Name the subjects of which an alert is raised."""
        return [
            key[1].name
            for key, one in self._standings.items()
            if key[0] is code and one.phase in {Phase.RAISED, Phase.FALLING}
        ]

    def look(
        self,
        now: datetime,
        observations: Sequence[Observation],
        looked_for: Collection[AlertCode],
    ) -> list[Change]:
        """Take in what is seen now; return what is to be raised and cleared, each once.

        All things of the codes that were `looked_for` are among the observations: of what is
        not there any more (a run that ended, a disk nobody names) the alert is cleared.
        """
        changes: list[Change] = []
        seen_keys = set()
        for seen in observations:
            key = (seen.code, seen.subject)
            seen_keys.add(key)
            before = self._standings.get(key, Standing(Phase.CALM, now, now))
            after, change = step(before, seen, now)
            if change is AlertChange.RAISED:
                self._severities[key] = seen.severity
            if change is not None:
                severity = self._severities[key]
                changes.append(Change(change, *key, severity, now, seen.figures))
            if after.phase is Phase.CALM:
                self._standings.pop(key, None)
                self._severities.pop(key, None)
            else:
                self._standings[key] = after
        gone = [key for key in self._standings if key[0] in looked_for and key not in seen_keys]
        for key in sorted(gone):
            if self._standings.pop(key).phase in {Phase.RAISED, Phase.FALLING}:
                severity = self._severities.pop(key)
                changes.append(Change(AlertChange.CLEARED, *key, severity, now))
        return changes
