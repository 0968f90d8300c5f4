"""Safe to delete: a pure function of what is known of a study, what is asked, and the time."""

from __future__ import annotations

from datetime import datetime, timedelta

from dcmvault.model.deletion import (
    CopyFacts,
    DeletionPolicy,
    DeletionVerdict,
    HeldPart,
    NotYet,
    Reason,
    SourceFacts,
    StudyFacts,
)

_DAY = timedelta(days=1)


def judge(
    study: StudyFacts, source: SourceFacts, policy: DeletionPolicy, now: datetime
) -> DeletionVerdict:
    """Say whether a study's original may be deleted, with every reason why not.

    What is wrong with single copies is told only while too few others count. One place under two
    addresses is one copy.
    """
    reasons = [
        *_of_source(study, source, policy),
        *_of_holds(study, source),
    ]
    counting: list[CopyFacts] = []
    flaws: list[Reason] = []
    for copy in study.copies:
        found = _flaws(copy, source, policy, now)
        flaws += found
        if not found:
            counting.append(copy)
    places = {copy.place or copy.destination for copy in counting}
    if len(places) < policy.copies:
        reasons.append(Reason(NotYet.TOO_FEW_COPIES, "", len(places), policy.copies))
        reasons += flaws
    locked = len({copy.place or copy.destination for copy in counting if _is_locked(copy, now)})
    if locked < policy.immutable:
        reasons.append(Reason(NotYet.NOT_IMMUTABLE, "", locked, policy.immutable))
    return DeletionVerdict(study, tuple(reasons), tuple(copy.destination for copy in counting))


def _of_source(study: StudyFacts, source: SourceFacts, policy: DeletionPolicy) -> list[Reason]:
    facts = [
        (not study.instances, NotYet.ABSENT, 0),
        (study.unreadable, NotYet.UNREADABLE, study.unreadable),
        (source.unplaced, NotYet.UNPLACED, source.unplaced),
        (not source.lists_all, NotYet.LISTING_INCOMPLETE, 0),
        (study.conflicts, NotYet.CONFLICT, study.conflicts),
        (study.changed, NotYet.CHANGED, study.changed),
        (policy.require_unchanged and not source.shows_changes, NotYet.CHANGES_UNSEEN, 0),
    ]
    return [Reason(kind, count=count) for is_so, kind, count in facts if is_so]


def _of_holds(study: StudyFacts, source: SourceFacts) -> list[Reason]:
    held = source.holds.get(study.study_instance_uid, ())
    return [
        *(Reason(NotYet.LEGAL_HOLD, destination) for destination in held),
        *(Reason(NotYet.VAULT_UNASKED, destination) for destination in source.unasked),
    ]


def _flaws(
    copy: CopyFacts, source: SourceFacts, policy: DeletionPolicy, now: datetime
) -> list[Reason]:
    """Return why a copy does not count."""
    if copy.destination in source.at_source:
        return [Reason(NotYet.AT_SOURCE, copy.destination)]
    if copy.destination in source.set_back:
        return [Reason(NotYet.SET_BACK, copy.destination)]
    if copy.is_listed_no_more:
        return [Reason(NotYet.LISTED_NO_MORE, copy.destination)]
    level = policy.level_at(copy.destination)
    held = copy.held(level)
    count = sum(part.instances for part in held)
    if not copy.instances or count < copy.instances:
        return [Reason(NotYet.NOT_HELD, copy.destination, count, copy.instances, level)]
    flaws = []
    age = _age_of_evidence(held, now)
    if age is None or age > policy.evidence_max_age:
        days = -1 if age is None else age // _DAY
        wanted = policy.evidence_max_age // _DAY
        flaws.append(Reason(NotYet.EVIDENCE_TOO_OLD, copy.destination, days, wanted, level))
    newest = max((part.newest_copy_at for part in held if part.newest_copy_at), default=None)
    if newest is not None and now - newest < policy.min_age:
        days = max(now - newest, timedelta()) // _DAY
        wanted = -(-policy.min_age // _DAY)
        flaws.append(Reason(NotYet.BACKED_UP_TOO_LATELY, copy.destination, days, wanted, level))
    return flaws


def _age_of_evidence(held: list[HeldPart], now: datetime) -> timedelta | None:
    """Return the age of the oldest evidence; None where some has none, or is from the future."""
    times = [part.oldest_evidence_at for part in held]
    if any(time is None or time > now for time in times):
        return None
    return now - min(time for time in times if time is not None)


def _is_locked(copy: CopyFacts, now: datetime) -> bool:
    return copy.immutable_until is not None and copy.immutable_until > now
