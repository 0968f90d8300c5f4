"""Verification: claims about a study at a destination become evidence, or reasoned failures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from dcmvault.errors import DestinationError, DestinationUnreachableError, SourceUnavailableError
from dcmvault.model.evidence import ExpectedInstance, Finding, Level, Verification
from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import InstanceEntry, InstanceFile, UnreadableEntry
from dcmvault.model.job import ItemState, Job
from dcmvault.ports.catalogue import EvidenceCatalogue, Item, ItemCatalogue, Outcome
from dcmvault.ports.destination import Verifier
from dcmvault.ports.source import Source

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class SourceOriginals:
    """The files of a job's items at their source, which is opened when the first is asked for."""

    open_source: Callable[[], Source]
    entries: dict[VersionId, InstanceEntry]
    _source: Source | None = None

    def files(
        self, instances: Sequence[ExpectedInstance]
    ) -> Iterator[tuple[ExpectedInstance, InstanceFile | UnreadableEntry]]:
        """Make files readable, one answer for each instance; a path is valid until the next."""
        by_locator = {self.entries[one.version_id].locator: one for one in instances}
        entries = [self.entries[one.version_id] for one in instances]
        try:
            if self._source is None:
                self._source = self.open_source()
            for answer in self._source.read(entries):
                yield by_locator.pop(answer.entry.locator), answer
        except SourceUnavailableError as error:
            for locator, instance in by_locator.items():
                entry = self.entries[instance.version_id]
                assert entry.locator == locator
                yield instance, UnreadableEntry(entry, error.code, error.message)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found out about items of a job's study, and is not written down yet.

    Items in `lost_are_due` are delivered (again) in this run if evidence shows them missing or
    damaged.
    """

    job: Job
    items: Sequence[Item]
    verification: Verification
    lost_are_due: Collection[int]

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
    open_source: Callable[[], Source],
    lost_are_due: Collection[int] = (),
) -> Found:
    """Look for evidence of `level` for these items of the job's study.

    The source is opened only by who compares copies with it (`Level.PROVEN` at a PACS).
    Raises DestinationUnreachableError when the destination cannot be asked.
    """
    study = jobs.expected_study(job.job_id, items)
    if level is Level.PROVEN:
        entries = {item.plan.version_id: item.plan.entry for item in items}
        study = replace(study, originals=SourceOriginals(open_source, entries))
    verification = verifier.verify(study, level)
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
