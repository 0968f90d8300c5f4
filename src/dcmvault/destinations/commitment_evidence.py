"""Evidence from a PACS by storage commitment: what its report names is committed, nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.commitment_coding import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_OBJECT_INSTANCE,
    Reference,
    explain_failure,
)
from dcmvault.dicom.commitment_receiver import CommitmentReceiver
from dcmvault.dicom.commitment_scu import (
    NEW_ASSOCIATION,
    AskedFor,
    CommitmentWaiting,
    Way,
    ask_for_commitment,
)
from dcmvault.dicom.commitment_transactions import CommitmentTransactions, Reported
from dcmvault.model.evidence import ExpectedInstance, ExpectedStudy, Finding, Level, Verification
from dcmvault.model.identifiers import VersionId
from dcmvault.ports.clock import Clock

#: What a Failure Reason says of the copy; any other leaves it open.
_FINDINGS = {
    NO_SUCH_OBJECT_INSTANCE: Finding.MISSING,
    CLASS_INSTANCE_CONFLICT: Finding.DAMAGED,
}


def waiting_for(section: DimseDestinationSection, clock: Clock) -> CommitmentWaiting:
    """Say how reports of a PACS are waited for; nothing is listened on yet."""
    transactions = CommitmentTransactions(clock.now)
    receiver = None
    if section.commitment_port:
        receiver = CommitmentReceiver(
            section.calling_ae_title,
            (section.commitment_host, section.commitment_port),
            section.dimse_timeout_s,
            partial(transactions.take, way=NEW_ASSOCIATION),
        )
    return CommitmentWaiting(transactions, section.commitment_timeout_s, receiver)


def ask_to_commit(
    peer: Peer,
    way: Way,
    study: ExpectedStudy,
    listed: Verification,
    clock: Clock,
    waiting: CommitmentWaiting,
) -> Verification:
    """Ask a PACS to commit to a study, but for what its own lists (COMPLETE) show missing.

    Raises DestinationUnreachableError, and DestinationError where the peer offers no commitment.
    """
    asking = _Asking(listed)
    references: dict[Reference, list[ExpectedInstance]] = {}
    for instance in study.instances:
        if listed.findings[instance.version_id] is Finding.MISSING:
            asking.note(instance, Finding.MISSING, listed.reasons[instance.version_id])
        elif not is_usable_uid(instance.sop_class_uid):
            asking.note(instance, Finding.UNKNOWN, "its SOP class is not known here")
        else:
            reference = Reference(instance.sop_class_uid, instance.identity.sop_instance_uid)
            references.setdefault(reference, []).append(instance)
    asked_at = clock.now()
    asked = ask_for_commitment(peer, way, list(references), waiting) if references else []
    for one in asked:
        for reference in one.references:
            for instance in references[reference]:
                asking.note(instance, *_finding(one, reference, waiting.timeout_s))
    observed_at = clock.now()
    return Verification(
        level=Level.COMMITTED,
        study_instance_uid=study.study_instance_uid,
        observed_at=observed_at,
        findings={one.version_id: asking.findings[one.version_id] for one in study.instances},
        proof={
            "peer": peer.name,
            "method": "storage commitment",
            "transactions": [_row(one) for one in asked],
            "refused_reports": waiting.transactions.refused,
            "asked_at": asked_at.isoformat(),
            "answered_at": observed_at.isoformat(),
            "listed": dict(listed.proof),
        },
        extras=listed.extras,
        reasons=asking.reasons,
    )


@dataclass(slots=True)
class _Asking:
    """What was found out so far."""

    listed: Verification
    findings: dict[VersionId, Finding] = field(default_factory=dict)
    reasons: dict[VersionId, str] = field(default_factory=dict)

    def note(self, instance: ExpectedInstance, finding: Finding, why: str) -> None:
        """Write a finding down."""
        self.findings[instance.version_id] = finding
        if finding is not Finding.HELD:
            self.reasons[instance.version_id] = why


def _finding(asked: AskedFor, reference: Reference, timeout_s: float) -> tuple[Finding, str]:
    reported = asked.reported
    if reported is None:
        return Finding.UNKNOWN, _why_no_report(asked, timeout_s)
    if reference in reported.committed:
        return Finding.HELD, ""
    reason = reported.failed.get(reference)
    if reason is None:
        return Finding.UNKNOWN, "the peer's report of storage commitment does not name it"
    return _FINDINGS.get(reason, Finding.UNKNOWN), explain_failure(reason)


def _why_no_report(asked: AskedFor, timeout_s: float) -> str:
    if asked.lost:
        return asked.lost
    if not asked.is_understood:
        return f"the peer answered {asked.status} to the request for storage commitment"
    return f"the peer sent no report of storage commitment within {timeout_s:g} s"


def _row(asked: AskedFor) -> Mapping[str, object]:
    row: dict[str, object] = {
        "transaction_uid": asked.transaction_uid,
        "instances": len(asked.references),
        "action_status": asked.status,
    }
    return row | (_report(asked.reported, len(asked.references)) if asked.reported else {})


def _report(reported: Reported, instances: int) -> dict[str, object]:
    reasons = Counter(f"{reason:04X}" for reason in reported.failed.values())
    return {
        "reported": reported.way,
        "reported_at": reported.at.isoformat(),
        "event_type": reported.event_type,
        "committed": len(reported.committed),
        "failed": dict(sorted(reasons.items())),
        "not_named": instances - len(reported.committed) - len(reported.failed),
        "not_asked_for": reported.unasked,
    }
