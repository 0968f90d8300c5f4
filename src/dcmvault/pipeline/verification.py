"""Verification: claims about a study at a destination become evidence, or reasoned failures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from dcmvault.errors import DestinationError, DestinationUnreachableError
from dcmvault.model.evidence import Finding, Level, Verification
from dcmvault.model.job import ItemState, Job
from dcmvault.ports.catalogue import EvidenceCatalogue, Item, ItemCatalogue, Outcome
from dcmvault.ports.destination import Verifier

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found out about items of a job's study, and is not written down yet.

    With `lost_are_due`, what evidence shows missing or damaged is delivered (again) in this run.
    """

    job: Job
    items: Sequence[Item]
    verification: Verification
    lost_are_due: bool

    def record(self, jobs: EvidenceCatalogue) -> None:
        """Write it down."""
        jobs.record_verification(
            self.job.job_id, self.items, self.verification, lost_are_due=self.lost_are_due
        )


def verify_items(
    job: Job,
    items: Sequence[Item],
    verifier: Verifier,
    level: Level,
    jobs: EvidenceCatalogue,
    *,
    lost_are_due: bool = False,
) -> Found:
    """Look for evidence of `level` for these items of the job's study.

    Raises DestinationUnreachableError when the destination cannot be asked.
    """
    verification = verifier.verify(jobs.expected_study(job.job_id, items), level)
    lost = sum(finding is not Finding.HELD for finding in verification.findings.values())
    if lost:
        _log.warning(
            "study %s: %d of %d instances without %s evidence",
            job.study_instance_uid or "(opaque files)",
            lost,
            len(verification.findings),
            level.word,
        )
    return Found(job, items, verification, lost_are_due)


def cannot_verify(
    job: Job, items: Sequence[Item], error: DestinationError, jobs: ItemCatalogue
) -> None:
    """Fail items whose evidence cannot be had: the claim stays a claim, the next run asks again."""
    unreachable = isinstance(error, DestinationUnreachableError)
    jobs.record_outcomes(
        job.job_id,
        [
            Outcome(
                item.item_id,
                ItemState.FAILED,
                item.attempts,
                code=error.code if unreachable else "cannot_verify",
                message=f"sent, but not verified: {error.message}",
                hint=error.hint,
            )
            for item in items
        ],
    )
