"""From rows to values: entries, identities, kinds, plan items and jobs."""

from __future__ import annotations

from functools import lru_cache
from sys import intern
from typing import Any

from dcmvault.model.identifiers import DestinationId, JobId, RunId, VersionId
from dcmvault.model.instance import (
    Claim,
    Fingerprint,
    InstanceEntry,
    InstanceIdentity,
    InstanceKind,
)
from dcmvault.model.job import Job, Priority
from dcmvault.model.plan import PlanItem

#: Looked up a million times in a plan: an enumeration is slower to ask.
_CLAIMS = {claim.value: claim for claim in Claim}
#: There are a few dozen in all.
_kind_of = lru_cache(maxsize=256)(InstanceKind)


def entry_of(row: Any) -> InstanceEntry:
    """Make the entry of a row with locator, size, mtime_ns, inode and claim."""
    return InstanceEntry(
        row.locator, Fingerprint(row.size, row.mtime_ns, row.inode), _CLAIMS[row.claim]
    )


def plan_item_of(row: Any, reason: str, **flags: bool) -> PlanItem:
    """Make the plan item of a row of entry, version, identity and holding columns."""
    return PlanItem(
        version_id=VersionId(row.version_id),
        entry=entry_of(row),
        identity=InstanceIdentity(
            # One text for all instances: of a study there may be a hundred thousand.
            intern(row.study_instance_uid or ""),
            intern(row.series_instance_uid or ""),
            row.sop_instance_uid or "",
        ),
        kind=_kind_of(row.sop_class_uid or "", row.transfer_syntax_uid or ""),
        reason=reason,
        opaque_reason=row.opaque_reason,
        file_sha256=row.file_sha256 or b"",
        object_key=row.object_key or "",
        **flags,
    )


def job_of(row: Any) -> Job:
    """Make the job of a row of `jobs` with run_id and destination_id."""
    return Job(
        job_id=JobId(row.job_id),
        run_id=RunId(row.run_id),
        destination_id=DestinationId(row.destination_id),
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        state=row.state,
        priority=Priority(row.priority),
        instances=row.instances,
        bytes=row.bytes,
        attempt=row.attempt,
    )
