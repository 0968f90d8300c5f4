"""Evidence: what should be looked for, and what was found."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.counters import Move, count_moves
from dcmvault.catalogue.database import chunks, upsert
from dcmvault.catalogue.facts import NO_FACTS, fact_of
from dcmvault.catalogue.outcomes import read_items
from dcmvault.catalogue.study_changes import note_study
from dcmvault.catalogue.tables import (
    REFUTED,
    HoldingState,
    evidence,
    holdings,
    instances,
    items,
    run_destinations,
    series,
    studies,
    versions,
)
from dcmvault.model.evidence import (
    COERCED,
    ExpectedInstance,
    ExpectedStudy,
    Finding,
    Level,
    Verification,
)
from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import InstanceIdentity
from dcmvault.model.job import ItemState
from dcmvault.ports.catalogue import Item

#: Versions written down at once.
_AT_ONCE = 5_000


def expected_study(connection: sa.Connection, job: Any, of_items: Sequence[Item]) -> ExpectedStudy:
    """Say what should be there for these items of one study; `job` is the job's row."""
    sizes = _learned_sizes(connection, of_items)
    expected = {
        item.plan.version_id: ExpectedInstance(
            version_id=item.plan.version_id,
            identity=item.plan.identity,
            size=item.plan.entry.fingerprint.size or sizes.get(item.plan.version_id, 0),
            file_sha256=item.plan.file_sha256,
            object_key=item.plan.object_key,
            sop_class_uid=item.plan.kind.sop_class_uid,
        )
        for item in of_items
    }
    asked = connection.scalar(
        sa.select(run_destinations.c.level).where(run_destinations.c.id == job.run_destination_id)
    )
    if asked == Level.PRESENT and job.study_instance_uid:
        named = {one.identity for one in expected.values()}
        for other in _held_of_study(connection, job):
            if other.identity not in named:
                expected[other.version_id] = other
                named.add(other.identity)
    return ExpectedStudy(job.study_instance_uid, tuple(expected.values()))


def _learned_sizes(connection: sa.Connection, of_items: Sequence[Item]) -> dict[int, int]:
    """Return the sizes of fetched files, which their entries did not tell."""
    untold = {item.plan.version_id for item in of_items if not item.plan.entry.fingerprint.size}
    found: dict[int, int] = {}
    for some in chunks(sorted(untold)):
        query = sa.select(versions.c.id, versions.c.size).where(versions.c.id.in_(some))
        found |= {row.id: row.size for row in connection.execute(query)}
    return found


def _held_of_study(connection: sa.Connection, job: Any) -> list[ExpectedInstance]:
    """List what the destination is said to hold of the job's study, newest version first."""
    query = (
        sa.select(
            versions.c.id,
            versions.c.size,
            versions.c.file_sha256,
            instances.c.sop_instance_uid,
            series.c.series_instance_uid,
            holdings.c.object_key,
        )
        .select_from(studies)
        .join(series, series.c.study_id == studies.c.id)
        .join(instances, instances.c.series_id == series.c.id)
        .join(versions, versions.c.instance_id == instances.c.id)
        .join(
            holdings,
            sa.and_(
                holdings.c.version_id == versions.c.id,
                holdings.c.destination_id == job.destination_id,
            ),
        )
        .where(
            studies.c.study_instance_uid == job.study_instance_uid,
            holdings.c.level >= Level.SENT,
        )
        .order_by(versions.c.id.desc())
    )
    return [
        ExpectedInstance(
            version_id=VersionId(row.id),
            identity=InstanceIdentity(
                job.study_instance_uid, row.series_instance_uid, row.sop_instance_uid
            ),
            size=row.size,
            file_sha256=row.file_sha256 or b"",
            object_key=row.object_key,
        )
        for row in connection.execute(query)
    ]


def record_verification(
    connection: sa.Connection,
    job: Any,
    of_items: Sequence[Item],
    verification: Verification,
    *,
    lost_are_due: Collection[int],
) -> None:
    """Write evidence, holdings and item states in one transaction; `job` is the job's row.

    Items of `lost_are_due` that are found missing or damaged are DUE, others FAILED. What was
    found out about an item that was sent anew meanwhile is older than its receipt, and is not
    believed.
    """
    # Items are locked before holdings, as by `record_outcomes`: no two wait in a circle.
    _lock_items(connection, of_items)
    evidence_id = _write_evidence(connection, job, verification)
    note_study(connection, verification.study_instance_uid)
    moves: list[Move] = []
    # Part by part, so that of a large study not all rows are in memory at once. In order, so that
    # two writers never wait for each other's holdings in a circle.
    ordered = sorted(of_items, key=_version_of)
    at = 0
    for some in chunks(sorted({*verification.findings, *map(_version_of, ordered)}), _AT_ONCE):
        end = bisect_right(ordered, some[-1], lo=at, key=_version_of)
        part, at = ordered[at:end], end
        rows = read_items(connection, [item.item_id for item in part])
        sent_anew = {
            item.plan.version_id for item in part if rows[item.item_id].attempts != item.attempts
        }
        _write_holdings(connection, job, verification, evidence_id, some, leave=sent_anew)
        moves += _move_items(connection, part, rows, verification, lost_are_due)
    count_moves(connection, moves)


def _version_of(item: Item) -> VersionId:
    return item.plan.version_id


def _lock_items(connection: sa.Connection, of_items: Sequence[Item]) -> None:
    """Lock rows of items, where the database has a lock for each."""
    if connection.dialect.name == "sqlite":
        return
    for some in chunks(sorted(item.item_id for item in of_items)):
        connection.execute(
            sa.select(items.c.id).where(items.c.id.in_(some)).order_by(items.c.id).with_for_update()
        )


def _move_items(
    connection: sa.Connection,
    part: Sequence[Item],
    rows: Mapping[int, Any],
    verification: Verification,
    lost_are_due: Collection[int],
) -> list[Move]:
    """Give items the states that were found, and return what that changes in counters."""
    moves = []
    changes = []
    for item in part:
        row = rows[item.item_id]
        if (row.state, row.attempts) != (item.state, item.attempts):
            continue
        finding = verification.findings.get(item.plan.version_id, Finding.UNKNOWN)
        state = _state(finding, is_due_if_lost=item.item_id in lost_are_due)
        moves.append(Move(row.job_id, row.state, state, row.size))
        changes.append(
            {
                "key": row.id,
                "new_state": state,
                **_words(verification, item.plan.version_id, row),
            }
        )
    if changes:
        connection.execute(
            sa.update(items)
            .where(items.c.id == sa.bindparam("key"))
            .values({name: sa.bindparam(f"new_{name}") for name in ("state", "code", "message")}),
            changes,
        )
    return moves


def _words(verification: Verification, version_id: VersionId, row: Any) -> Mapping[str, str]:
    """Say what is worth a word about an item, whose row has what was worth it at delivery."""
    finding = verification.findings.get(version_id, Finding.UNKNOWN)
    if finding is not Finding.HELD:
        why = verification.reasons.get(version_id) or _EXPLANATIONS[finding]
        return {"new_code": finding.value, "new_message": why}
    if coerced := verification.coerced.get(version_id):
        return {"new_code": COERCED, "new_message": coerced}
    return {"new_code": row.code, "new_message": row.message}


def _state(finding: Finding, *, is_due_if_lost: bool) -> ItemState:
    if finding is Finding.HELD:
        return ItemState.HELD
    is_lost = finding is not Finding.UNKNOWN
    return ItemState.DUE if is_lost and is_due_if_lost else ItemState.FAILED


_EXPLANATIONS = {
    Finding.MISSING: "the destination does not hold it",
    Finding.DAMAGED: "the destination holds other bytes",
    Finding.UNKNOWN: "the destination did not answer the question",
}


def _write_evidence(connection: sa.Connection, job: Any, verification: Verification) -> int:
    study_id = (
        sa.select(studies.c.id)
        .where(studies.c.study_instance_uid == verification.study_instance_uid)
        .scalar_subquery()
    )
    run_key = (
        sa.select(run_destinations.c.run_id)
        .where(run_destinations.c.id == job.run_destination_id)
        .scalar_subquery()
    )
    held = sum(finding is Finding.HELD for finding in verification.findings.values())
    proof = {**verification.proof, "extras": list(verification.extras)}
    key = connection.scalar(
        sa.insert(evidence)
        .values(
            destination_id=job.destination_id,
            study_id=study_id,
            run_id=run_key,
            level=verification.level.value,
            observed_at=verification.observed_at,
            held=held,
            not_held=len(verification.findings) - held,
            proof=json.dumps(proof, sort_keys=True, separators=(",", ":")),
        )
        .returning(evidence.c.id)
    )
    assert key is not None
    return int(key)


def _write_holdings(
    connection: sa.Connection,
    job: Any,
    verification: Verification,
    evidence_id: int,
    version_ids: Sequence[VersionId],
    *,
    leave: Collection[VersionId],
) -> None:
    levels = _levels(connection, job, version_ids)
    at, fact = verification.observed_at, fact_of(verification.level)
    held, refuted, confirmed = [], [], []
    for version_id in version_ids:
        finding = verification.findings.get(version_id, Finding.UNKNOWN)
        if finding is Finding.UNKNOWN or version_id in leave:
            continue
        if finding is Finding.HELD and levels.get(version_id, 0) > verification.level:
            # A weaker fact: it neither lowers nor refreshes the stronger one.
            confirmed.append({"key": version_id, "at": at})
            continue
        row = {
            "destination_id": job.destination_id,
            "version_id": version_id,
            "verified_at": at,
            "evidence_id": evidence_id,
        }
        if finding is Finding.HELD:
            held.append(
                row
                | {
                    "state": HoldingState.HELD,
                    "level": verification.level.value,
                    "coerced": version_id in verification.coerced,
                    fact: at,
                }
            )
        else:
            refuted.append(row | {"state": REFUTED[finding], "level": Level.NONE.value, **NO_FACTS})
    upsert(connection, holdings, held)
    upsert(connection, holdings, refuted)
    if confirmed:
        connection.execute(
            sa.update(holdings)
            .where(
                holdings.c.destination_id == job.destination_id,
                holdings.c.version_id == sa.bindparam("key"),
            )
            .values({fact: sa.bindparam("at")}),
            confirmed,
        )


def _levels(
    connection: sa.Connection, job: Any, version_ids: Sequence[VersionId]
) -> dict[int, int]:
    found: dict[int, int] = {}
    for some in chunks(version_ids):
        query = sa.select(holdings.c.version_id, holdings.c.level).where(
            holdings.c.destination_id == job.destination_id, holdings.c.version_id.in_(some)
        )
        found |= {row.version_id: row.level for row in connection.execute(query)}
    return found
