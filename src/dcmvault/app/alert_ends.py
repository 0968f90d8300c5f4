"""Alerts about what is not configured any more: nobody looks there, so they are over."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from dcmvault.config.settings import Settings
from dcmvault.model.alert import AlertChange, Subject, SubjectKind
from dcmvault.telemetry.alerts import Change, Verdict

#: The figure of an end that says why, and its value.
REASON, NOT_CONFIGURED = "reason", "not_configured"
#: A source that is in no configuration, and was held: told so soon after, and so long.
_HELD_JUST_NOW = timedelta(days=1)
_HELD_LATELY = timedelta(days=30)


def with_reasons(
    changes: Iterable[Change], settings: Settings, certificates: Collection[str] = ()
) -> list[Change]:
    """Say of each alert that ends because its thing is not configured that this is why.

    `certificates` are the names of those that are configured.
    """
    return [
        replace(change, figures={**change.figures, REASON: NOT_CONFIGURED})
        if change.change is AlertChange.CLEARED
        and not change.figures
        and not _is_configured(change.subject, settings, certificates)
        else change
        for change in changes
    ]


def _is_configured(subject: Subject, settings: Settings, certificates: Collection[str]) -> bool:
    """Say whether a thing has a name in the configuration; of a run, a machine, a disk: always."""
    named: dict[SubjectKind, Collection[str]] = {
        SubjectKind.DESTINATION: settings.destinations,
        # A source may be a destination's place, read.
        SubjectKind.SOURCE: {*settings.sources, *settings.destinations},
        SubjectKind.PLAN: settings.plans,
        SubjectKind.CERTIFICATE: certificates,
    }
    kind = subject.kind
    if kind is SubjectKind.SOURCE and subject.name.startswith("#"):
        return True  # it never was, and ends by being believed
    return kind not in named or subject.name in named[kind]


def verdict_of_held(name: str, held_at: datetime, now: datetime) -> Verdict | None:
    """Judge a source whose backups are held; None for one that nobody backs up any more.

    One without a name in the configuration (“#” and a number) was given on a command line once,
    or is left of a configuration: it is told when it is held, and forgotten after a while. Its
    backups stay held.
    """
    age = now - held_at
    if not name.startswith("#") or age <= _HELD_JUST_NOW:
        return Verdict.BAD
    return Verdict.BETWEEN if age <= _HELD_LATELY else None
