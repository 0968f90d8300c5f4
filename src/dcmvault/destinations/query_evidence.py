"""Evidence from a PACS by C-FIND or QIDO-RS: counts for PRESENT, sets of UIDs for COMPLETE."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.find import StudyCounts
from dcmvault.errors import DestinationError, DestinationUnreachableError
from dcmvault.model.evidence import ExpectedInstance, ExpectedStudy, Finding, Level, Verification
from dcmvault.model.identifiers import VersionId
from dcmvault.ports.clock import Clock

#: How a finding was made, as it stands in the proof.
_BY_COUNT = "study-level count"
_BY_UIDS = "SOP Instance UIDs at IMAGE level"


class StudyQuestions(Protocol):
    """Questions about studies that a peer answers, whatever the protocol.

    Each raises DestinationUnreachableError when no answer comes, and DestinationError when the
    peer refuses the question or does not answer all of it.
    """

    #: One JSON-able row per question that was answered, without patient data.
    asked: list[Mapping[str, object]]

    @property
    def peer_name(self) -> str:
        """How messages call the peer."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether a further question can be answered."""
        ...

    def study_counts(self, study_instance_uid: str) -> StudyCounts:
        """Return the peer's counts of one study."""
        ...

    def series_uids(self, study_instance_uid: str) -> frozenset[str]:
        """Return the Series Instance UIDs of one study."""
        ...

    def instance_uids(
        self, study_instance_uid: str, series_instance_uid: str, among: Collection[str] = ()
    ) -> frozenset[str]:
        """Return the SOP Instance UIDs of one series; with `among` those of these only."""
        ...


@dataclass
class _Findings:
    """What was found out so far about the instances of one study."""

    found: dict[VersionId, Finding] = field(default_factory=dict)
    reasons: dict[VersionId, str] = field(default_factory=dict)
    extras: set[str] = field(default_factory=set)
    #: Whether the peer answered any question at all.
    answered: bool = False

    def note(self, instances: Collection[ExpectedInstance], finding: Finding, why: str) -> None:
        """Write the same finding down for several instances."""
        for instance in instances:
            self.found[instance.version_id] = finding
            if finding is not Finding.HELD:
                self.reasons[instance.version_id] = why


def find_evidence(
    query: StudyQuestions, study: ExpectedStudy, level: Level, clock: Clock
) -> Verification:
    """Verify one study at PRESENT or COMPLETE.

    PRESENT trusts a study-level count that is not below ours; without one, or with a lower
    one, instances are looked up by UID as for COMPLETE. Raises DestinationUnreachableError
    when the peer answers nothing; once it answered something, open questions are UNKNOWN.
    """
    asked_at = clock.now()
    findings = _Findings()
    askable = [instance for instance in study.instances if _is_askable(instance)]
    findings.note(
        [instance for instance in study.instances if not _is_askable(instance)],
        Finding.MISSING,
        "a PACS cannot hold an instance without valid UIDs",
    )
    proof: dict[str, object] = {"peer": query.peer_name}
    distinct = {instance.identity.sop_instance_uid for instance in askable}
    proof["expected_instances"] = len(distinct)
    if askable and level is Level.PRESENT:
        _look_for_count(query, study.study_instance_uid, askable, len(distinct), findings, proof)
    elif askable:
        proof["method"] = _BY_UIDS
        _look_for_uids(query, study.study_instance_uid, askable, findings)
        _look_for_extra_series(query, study.study_instance_uid, askable, findings)
    proof["questions"] = [dict(row) for row in query.asked]
    proof["asked_at"] = asked_at.isoformat()
    observed_at = clock.now()
    proof["answered_at"] = observed_at.isoformat()
    return Verification(
        level=level,
        study_instance_uid=study.study_instance_uid,
        observed_at=observed_at,
        findings=findings.found,
        proof=proof,
        extras=tuple(sorted(findings.extras)),
        reasons=findings.reasons,
    )


def nothing_listed(study: ExpectedStudy, peer_name: str, why: str, clock: Clock) -> Verification:
    """Say that the peer did not answer, so that every question of COMPLETE is open."""
    asked_at = clock.now()
    return Verification(
        level=Level.COMPLETE,
        study_instance_uid=study.study_instance_uid,
        observed_at=asked_at,
        findings={one.version_id: Finding.UNKNOWN for one in study.instances},
        proof={"peer": peer_name, "method": _BY_UIDS, "refusal": why},
        reasons={one.version_id: why for one in study.instances},
    )


def _is_askable(instance: ExpectedInstance) -> bool:
    """Say whether its UIDs can be keys of a query: wildcards and lists must not slip in."""
    identity = instance.identity
    uids = (
        identity.study_instance_uid,
        identity.series_instance_uid,
        identity.sop_instance_uid,
    )
    return all(is_usable_uid(uid) for uid in uids)


def _look_for_count(
    query: StudyQuestions,
    study_instance_uid: str,
    instances: Collection[ExpectedInstance],
    expected: int,
    findings: _Findings,
    proof: dict[str, object],
) -> None:
    try:
        counts = query.study_counts(study_instance_uid)
    except DestinationUnreachableError:
        raise
    except DestinationError as error:
        proof["counts"] = error.message
    else:
        findings.answered = True
        proof["counts"] = {
            "answers": counts.answers,
            "series": counts.series,
            "instances": counts.instances,
        }
        if counts.answers == 0:
            proof["method"] = _BY_COUNT
            findings.note(instances, Finding.MISSING, "the peer knows no such study")
            return
        if counts.instances is not None and counts.instances >= expected:
            proof["method"] = _BY_COUNT
            findings.note(instances, Finding.HELD, "")
            return
    # A count that is lower says that something is missing, but not what.
    proof["method"] = _BY_UIDS
    _look_for_uids(query, study_instance_uid, instances, findings)


def _look_for_uids(
    query: StudyQuestions,
    study_instance_uid: str,
    instances: Collection[ExpectedInstance],
    findings: _Findings,
) -> None:
    for series_uid, members in sorted(_by_series(instances).items()):
        if not query.is_open:
            findings.note(members, Finding.UNKNOWN, "the peer stopped answering before")
            continue
        wanted = {instance.identity.sop_instance_uid for instance in members}
        try:
            held = _held(query, study_instance_uid, series_uid, wanted)
        except DestinationUnreachableError as error:
            if not findings.answered:
                raise
            findings.note(members, Finding.UNKNOWN, error.message)
            continue
        except DestinationError as error:
            findings.note(members, Finding.UNKNOWN, error.message)
            continue
        findings.answered = True
        findings.extras |= held - wanted
        for instance in members:
            is_held = instance.identity.sop_instance_uid in held
            findings.note(
                [instance],
                Finding.HELD if is_held else Finding.MISSING,
                "the peer does not name it among the instances of its series",
            )


def _held(
    query: StudyQuestions, study_instance_uid: str, series_uid: str, wanted: Collection[str]
) -> frozenset[str]:
    """List a series, and ask again by UID for what is missing: peers cap their answers."""
    try:
        held = query.instance_uids(study_instance_uid, series_uid)
    except DestinationUnreachableError:
        raise
    except DestinationError:
        # Too many to list, perhaps: a question about ours only has a short answer.
        return query.instance_uids(study_instance_uid, series_uid, among=wanted)
    missing = set(wanted) - held
    if missing:
        held |= query.instance_uids(study_instance_uid, series_uid, among=missing)
    return held


def _look_for_extra_series(
    query: StudyQuestions,
    study_instance_uid: str,
    instances: Collection[ExpectedInstance],
    findings: _Findings,
) -> None:
    """Name what the peer holds in further series of the study; no answer changes no finding."""
    if not query.is_open:
        return
    try:
        for series_uid in sorted(
            query.series_uids(study_instance_uid) - _by_series(instances).keys()
        ):
            findings.extras |= query.instance_uids(study_instance_uid, series_uid)
    except DestinationError:
        return  # extras are news, not evidence; `questions` in the proof shows the refusal


def _by_series(
    instances: Collection[ExpectedInstance],
) -> Mapping[str, list[ExpectedInstance]]:
    series: dict[str, list[ExpectedInstance]] = {}
    for instance in instances:
        series.setdefault(instance.identity.series_instance_uid, []).append(instance)
    return series
