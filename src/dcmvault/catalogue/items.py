"""Items of jobs, read for the worker."""

from __future__ import annotations

from functools import cache
from sys import intern
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.rows import plan_item_of
from dcmvault.catalogue.tables import (
    entries,
    holdings,
    instances,
    items,
    jobs,
    kinds,
    run_destinations,
    series,
    studies,
    versions,
)
from dcmvault.ports.catalogue import Item


@cache
def select_items() -> sa.Select[Any]:
    """Return the query that `item_of` reads, in plan order; `jobs` can be used in conditions."""
    return (
        sa.select(
            items.c.id.label("item_id"),
            items.c.size,
            items.c.mtime_ns,
            items.c.inode,
            items.c.state,
            items.c.attempts,
            items.c.code,
            items.c.reason,
            items.c.held,
            items.c.conflict,
            items.c.earlier_version_there,
            entries.c.locator,
            entries.c.claim,
            versions.c.id.label("version_id"),
            versions.c.opaque_reason,
            versions.c.file_sha256,
            instances.c.sop_instance_uid,
            series.c.series_instance_uid,
            studies.c.study_instance_uid,
            kinds.c.sop_class_uid,
            kinds.c.transfer_syntax_uid,
            holdings.c.object_key,
        )
        .select_from(items)
        .join(jobs, jobs.c.id == items.c.job_id)
        .join(run_destinations, run_destinations.c.id == jobs.c.run_destination_id)
        .join(entries, entries.c.id == items.c.entry_id)
        .join(versions, versions.c.id == items.c.version_id)
        .outerjoin(instances, instances.c.id == versions.c.instance_id)
        .outerjoin(series, series.c.id == instances.c.series_id)
        .outerjoin(studies, studies.c.id == series.c.study_id)
        .outerjoin(kinds, kinds.c.id == versions.c.kind_id)
        .outerjoin(
            holdings,
            sa.and_(
                holdings.c.version_id == versions.c.id,
                holdings.c.destination_id == run_destinations.c.destination_id,
            ),
        )
        .order_by(items.c.job_id, items.c.position)
    )


def item_of(row: Any) -> Item:
    """Make the item of a row; its entry is as planned, wherever a later pass moved it."""
    plan = plan_item_of(
        row,
        intern(row.reason),
        held=row.held,
        conflict=row.conflict,
        earlier_version_there=row.earlier_version_there,
    )
    return Item(row.item_id, plan, row.state, row.attempts, intern(row.code))
