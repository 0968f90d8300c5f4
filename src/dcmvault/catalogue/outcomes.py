"""Writing what became of a batch: item states and receipts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.counters import Move, add_to_run, count_moves
from dcmvault.catalogue.database import chunks, upsert
from dcmvault.catalogue.facts import NO_FACTS
from dcmvault.catalogue.recording import Recorder
from dcmvault.catalogue.study_changes import note_study
from dcmvault.catalogue.tables import (
    EntryState,
    HoldingState,
    entries,
    holdings,
    items,
    run_destinations,
    sources,
    storable,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import SourceId
from dcmvault.model.instance import ScannedEntry
from dcmvault.model.job import ItemState
from dcmvault.model.receipt import Receipt
from dcmvault.ports.catalogue import Outcome


@dataclass(frozen=True, slots=True)
class _Receipted:
    """A receipt and the version that it is about."""

    version_id: int
    receipt: Receipt


def record_outcomes(connection: sa.Connection, job: Any, outcomes: Sequence[Outcome]) -> None:
    """Write the outcomes of items of one job; `job` is its row."""
    rows = read_items(connection, [outcome.item_id for outcome in outcomes])
    moves = []
    receipts = []
    standing = []
    for outcome in outcomes:
        row = rows[outcome.item_id]
        if row.state is not ItemState.CANCELLED:
            standing.append(outcome)
            moves.append(Move(row.job_id, row.state, outcome.state, row.size))
        if outcome.receipt is not None:
            receipts.append((row, outcome.receipt))
    _record_found(connection, job, [(rows[o.item_id], o.found) for o in outcomes if o.found])
    receipted = _settle_versions(connection, job, receipts)
    if standing:
        connection.execute(
            sa.update(items)
            .where(items.c.id == sa.bindparam("key"))
            .values(
                {
                    name: sa.bindparam(f"new_{name}")
                    for name in ("state", "attempts", "code", "status", "message", "hint")
                }
            ),
            [
                {
                    "key": outcome.item_id,
                    "new_state": outcome.state,
                    "new_attempts": outcome.attempts,
                    "new_code": outcome.code,
                    "new_status": outcome.status,
                    "new_message": outcome.message,
                    "new_hint": outcome.hint,
                }
                for outcome in standing
            ],
        )
    _write_holdings(connection, job, receipted)
    if receipted:
        note_study(connection, job.study_instance_uid)
    count_moves(connection, moves)
    transferred = sum(one.receipt.transferred_bytes for one in receipted)
    add_to_run(connection, job.run_destination_id, {"transferred_bytes": transferred})


def read_items(connection: sa.Connection, item_ids: Sequence[int]) -> dict[int, Any]:
    """Read the rows of items with their version's columns, locked where the database can."""
    found: dict[int, Any] = {}
    query = (
        sa.select(items, versions.c.file_sha256)
        .join(versions, versions.c.id == items.c.version_id)
        .order_by(items.c.id)
        .with_for_update(of=items)
    )
    for some in chunks(sorted(item_ids)):
        found |= {row.id: row for row in connection.execute(query.where(items.c.id.in_(some)))}
    return found


def _record_found(
    connection: sa.Connection, job: Any, found: Sequence[tuple[Any, ScannedEntry]]
) -> None:
    """Write down what files were found to be, where the entry still is the one that was planned."""
    if not found:
        return
    run_key = connection.scalar(
        sa.select(run_destinations.c.run_id).where(run_destinations.c.id == job.run_destination_id)
    )
    by_source: dict[int, list[ScannedEntry]] = defaultdict(list)
    planned = {row.entry_id: (row, scanned) for row, scanned in found}
    for some in chunks(sorted(planned)):
        query = sa.select(entries).where(
            entries.c.id.in_(some), entries.c.state == EntryState.PRESENT
        )
        for entry in connection.execute(query):
            row, scanned = planned[entry.id]
            if (entry.version_id, entry.size, entry.mtime_ns, entry.inode) == (
                row.version_id,
                row.size,
                row.mtime_ns,
                row.inode,
            ):
                by_source[entry.source_id].append(scanned)
    for source_id, some_found in sorted(by_source.items()):
        written = Recorder(SourceId(source_id), run_key).record(connection, some_found)
        if any(old is None or old.study_id != new.study_id for old, new in written):
            # The next pass counts its studies anew.
            connection.execute(
                sa.update(sources).where(sources.c.id == source_id).values(counted=False)
            )


def _settle_versions(
    connection: sa.Connection, job: Any, receipts: Sequence[tuple[Any, Receipt]]
) -> list[_Receipted]:
    """Set digests from receipts, and find the versions that the receipts are really about."""
    unread = [
        {"key": row.version_id, "digest": receipt.file_sha256}
        for row, receipt in receipts
        if row.file_sha256 is None
    ]
    if unread:
        connection.execute(
            sa.update(versions)
            .where(versions.c.id == sa.bindparam("key"), versions.c.file_sha256.is_(None))
            .values(file_sha256=sa.bindparam("digest")),
            sorted(unread, key=lambda one: one["key"]),
        )
    known: dict[int, Any] = {}
    for some in chunks(sorted({row.version_id for row, _ in receipts})):
        query = sa.select(versions).where(versions.c.id.in_(some))
        known |= {row.id: row for row in connection.execute(query)}
    _learn_sizes(connection, known, receipts)
    settled = []
    for row, receipt in receipts:
        version = known[row.version_id]
        version_id = row.version_id
        if version.file_sha256 != receipt.file_sha256:
            version_id = _move_to_other_version(connection, job, row, version, receipt)
        settled.append(_Receipted(version_id, receipt))
    return settled


def _learn_sizes(
    connection: sa.Connection, known: Mapping[int, Any], receipts: Sequence[tuple[Any, Receipt]]
) -> None:
    """Write down how large files are whose source told nothing before it fetched them."""
    learned = {
        row.version_id: receipt.fingerprint.size
        for row, receipt in receipts
        if not known[row.version_id].size
        and known[row.version_id].file_sha256 == receipt.file_sha256
    }
    if learned:
        connection.execute(
            sa.update(versions)
            .where(versions.c.id == sa.bindparam("key"), versions.c.size == 0)
            .values(size=sa.bindparam("new_size")),
            [{"key": key, "new_size": size} for key, size in sorted(learned.items())],
        )


def _move_to_other_version(
    connection: sa.Connection, job: Any, row: Any, known: Any, receipt: Receipt
) -> int:
    """Give entry and item the version with the receipt's content, made if there is none."""
    other = None
    if known.instance_id is not None:
        other = connection.scalar(
            sa.select(sa.func.min(versions.c.id)).where(
                versions.c.instance_id == known.instance_id,
                versions.c.file_sha256 == receipt.file_sha256,
            )
        )
    if other is None:
        run_key = (
            sa.select(run_destinations.c.run_id)
            .where(run_destinations.c.id == job.run_destination_id)
            .scalar_subquery()
        )
        other = connection.scalar(
            sa.insert(versions)
            .values(
                instance_id=known.instance_id,
                kind_id=known.kind_id,
                file_sha256=receipt.file_sha256,
                size=receipt.fingerprint.size,
                instance_number=known.instance_number,
                opaque_reason=known.opaque_reason,
                first_run_id=run_key,
            )
            .returning(versions.c.id)
        )
    assert other is not None
    connection.execute(
        sa.update(entries)
        .where(entries.c.id == row.entry_id, entries.c.version_id == known.id)
        .values(version_id=other)
    )
    connection.execute(sa.update(items).where(items.c.id == row.id).values(version_id=other))
    return int(other)


def _write_holdings(connection: sa.Connection, job: Any, receipted: Sequence[_Receipted]) -> None:
    if not receipted:
        return
    run_key = connection.scalar(
        sa.select(run_destinations.c.run_id).where(run_destinations.c.id == job.run_destination_id)
    )
    proven = _evidence_that_stays(connection, job, receipted)
    rows = {}
    for one in receipted:
        row: dict[str, Any] = {
            "destination_id": job.destination_id,
            "version_id": one.version_id,
            "state": HoldingState.SENT,
            "level": Level.SENT.value,
            "object_key": one.receipt.object_key,
            "status": one.receipt.status,
            "warning": storable(one.receipt.warning),
            "received_at": one.receipt.received_at,
            "receipt_run_id": run_key,
            "verified_at": None,
            "evidence_id": None,
            **NO_FACTS,
        }
        rows[one.version_id] = row | proven.get(one.version_id, {})
    # Sorted, so that two writers never wait for each other's rows in a circle.
    upsert(connection, holdings, [rows[key] for key in sorted(rows)])


def _evidence_that_stays(
    connection: sa.Connection, job: Any, receipted: Sequence[_Receipted]
) -> dict[int, dict[str, Any]]:
    """Return what was proven about copies that a put found there and left alone."""
    untouched = sorted({one.version_id for one in receipted if one.receipt.already_there})
    names = ("state", "level", "verified_at", "evidence_id", *NO_FACTS)
    found = {}
    for some in chunks(untouched):
        query = sa.select(holdings).where(
            holdings.c.destination_id == job.destination_id,
            holdings.c.version_id.in_(some),
            holdings.c.state == HoldingState.HELD,
        )
        for row in connection.execute(query):
            found[row.version_id] = {name: getattr(row, name) for name in names}
    return found
