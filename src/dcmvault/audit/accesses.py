"""Accesses of peers as lines of the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from dcmvault.model.access import Access
from dcmvault.model.audit import Actor, ActorKind, AuditEvent, AuditKind, AuditOutcome
from dcmvault.ports.audit import AuditJournal

#: Fields of an access that have a place of their own in an event.
_TOLD_ELSEWHERE = frozenset({"at", "who", "address", "certificate", "study_instance_uids"})
_MOST_UIDS = 100
#: Over HTTP: no token, a wrong one, or none for this.
_NOT_LET_IN = frozenset({"401", "403"})
#: First digits of statuses that are no failures (PS3.7 annex C): success, warning, pending, cancel.
_DIMSE_GOOD = frozenset("0BF")


@dataclass(frozen=True, slots=True)
class JournalledAccesses:
    """An AccessJournal over the audit journal."""

    journal: AuditJournal

    def record(self, access: Access) -> None:
        """Append the access; what could not be written is in the log."""
        self.journal.record(
            AuditEvent(
                access.at,
                AuditKind.LOGIN_FAILED if access.outcome in _NOT_LET_IN else AuditKind.ACCESS,
                Actor(ActorKind.PEER, access.who, access.address, access.certificate),
                _outcome(access),
                study_instance_uids=access.study_instance_uids,
                details=_details(access),
            )
        )


def _outcome(access: Access) -> AuditOutcome:
    outcome = access.outcome
    if len(outcome) == 3 and outcome.isdecimal():
        good = outcome < "400"
    elif len(outcome) == 4:
        good = outcome[0] in _DIMSE_GOOD
    else:
        good = outcome not in {"refused", "failed", "lost"}
    return AuditOutcome.SUCCESS if good else AuditOutcome.MINOR_FAILURE


def _details(access: Access) -> Mapping[str, str | int | float]:
    """Say the rest: lists as words, what is empty left out."""
    told: dict[str, str | int | float] = {}
    for field in fields(access):
        name, value = field.name, getattr(access, field.name)
        if name in _TOLD_ELSEWHERE or not value:
            continue
        if isinstance(value, tuple):
            told[name] = " ".join(value[:_MOST_UIDS])
            if len(value) > _MOST_UIDS:
                told[f"{name}_count"] = len(value)
        else:
            told[name] = round(value, 3) if isinstance(value, float) else value
    return told
