"""Jobs: what the worker asks and writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.counters import UNDELIVERED_STATES, Move, count_moves, count_of
from dcmvault.catalogue.database import Database
from dcmvault.catalogue.items import item_of, select_items
from dcmvault.catalogue.outcomes import record_outcomes
from dcmvault.catalogue.planning import select_jobs
from dcmvault.catalogue.rows import job_of
from dcmvault.catalogue.tables import STATE_COUNTERS, items, jobs
from dcmvault.catalogue.verification import expected_study, record_verification
from dcmvault.model.evidence import ExpectedStudy, Verification
from dcmvault.model.identifiers import JobId
from dcmvault.model.job import JOB_TRANSITIONS, ItemState, Job, JobState
from dcmvault.ports.catalogue import Item, Outcome

_ENDED = [state for state, following in JOB_TRANSITIONS.items() if not following]


@dataclass(frozen=True, slots=True)
class JobsInDatabase:
    """Implements `ports.catalogue.JobCatalogue`."""

    database: Database

    def together(self) -> AbstractContextManager[None]:
        """Make what this thread writes inside one transaction."""
        return self.database.together()

    def job(self, job_id: JobId) -> Job:
        """Return a job; KeyError if there is none."""
        with self.database.read() as connection:
            return job_of(_row(connection, job_id))

    def set_job_state(self, job_id: JobId, state: JobState, *, attempt: int | None = None) -> None:
        """Move a job along JOB_TRANSITIONS (ValueError otherwise; the same state is a no-op).

        A cancelled job stays cancelled, whatever its worker says late.
        """
        with self.database.write() as connection:
            row = _row(connection, job_id, lock=True)
            if row.state is JobState.CANCELLED:
                return
            if state is not row.state and state not in JOB_TRANSITIONS[row.state]:
                raise ValueError(f"job {job_id} cannot go from {row.state} to {state}")
            changes: dict[str, object] = {"state": state}
            if attempt is not None:
                changes["attempt"] = attempt
            connection.execute(sa.update(jobs).where(jobs.c.id == row.id).values(changes))

    def items(self, job_id: JobId, states: frozenset[ItemState], limit: int) -> list[Item]:
        """List items in plan order."""
        with self.database.read() as connection:
            query = select_items().where(jobs.c.job_id == job_id, items.c.state.in_(states))
            return [item_of(row) for row in connection.execute(query.limit(limit))]

    def count_items(self, job_id: JobId) -> Mapping[ItemState, int]:
        """Count a job's items by state; states without items are left out."""
        with self.database.read() as connection:
            row = _row(connection, job_id)
        return {state: count_of(row, state) for state in STATE_COUNTERS if count_of(row, state)}

    def record_outcomes(self, job_id: JobId, outcomes: Sequence[Outcome]) -> None:
        """Write a batch: item states, receipts (a version's digest is set from its receipt).

        A receipt makes the holding `sent`: whatever was proven before was about an earlier put,
        unless the receipt says that the file was there already. Where the receipt's digest is
        not the version's, the file changed under the same fingerprint: the old version keeps
        its digest, and entry, item and receipt move to a version with the new content. Where
        two versions of one identity turn out to be equal, both stay. Items that were cancelled
        meanwhile stay cancelled; their receipts count all the same.
        """
        with self.database.write() as connection:
            record_outcomes(connection, _row(connection, job_id), outcomes)

    def release_waiting(self, job_id: JobId) -> int:
        """Make WAITING items DUE again; return how many."""
        with self.database.write() as connection:
            row = _row(connection, job_id)
            sizes = connection.scalars(
                sa.update(items)
                .where(items.c.job_id == row.id, items.c.state == ItemState.WAITING)
                .values(state=ItemState.DUE)
                .returning(items.c.size)
            ).all()
            count_moves(
                connection,
                [Move(row.id, ItemState.WAITING, ItemState.DUE, size) for size in sizes],
            )
        return len(sizes)

    def study_settled(self, job_id: JobId) -> bool:
        """Say whether no other job of the same run, study and destination has items to deliver.

        Jobs that ended deliver nothing any more, whatever they left behind.
        """
        with self.database.read() as connection:
            row = _row(connection, job_id)
            waiting = sum(
                (jobs.c[STATE_COUNTERS[state]] for state in UNDELIVERED_STATES), sa.literal(0)
            )
            other = connection.scalar(
                sa.select(jobs.c.id)
                .where(
                    _same_study(row),
                    jobs.c.id != row.id,
                    jobs.c.state.not_in(_ENDED),
                    waiting > 0,
                )
                .limit(1)
            )
        return other is None

    def sent_items(self, job_id: JobId) -> list[Item]:
        """List the SENT items of the job's run, study and destination, whichever job has them."""
        with self.database.read() as connection:
            row = _row(connection, job_id)
            query = select_items().where(
                _same_study(row),
                jobs.c[STATE_COUNTERS[ItemState.SENT]] > 0,
                items.c.state == ItemState.SENT,
            )
            return [item_of(found) for found in connection.execute(query)]

    def expected_study(self, job_id: JobId, items: Sequence[Item]) -> ExpectedStudy:
        """Say what the destination should hold of the job's study for these items to be held.

        At level `present`, whose evidence is a count, that is everything sent or held there of
        the study too; at other levels the items alone.
        """
        with self.database.read() as connection:
            return expected_study(connection, _row(connection, job_id), items)

    def record_verification(
        self,
        job_id: JobId,
        items: Sequence[Item],
        verification: Verification,
        *,
        lost_are_due: Collection[int] = (),
    ) -> None:
        """Write evidence, holdings and item states (HELD, or FAILED with the reason).

        A holding never loses a higher level to evidence of a lower one. FAILED items have code
        `missing`, `damaged` or `unknown`; lost ones of `lost_are_due` are DUE instead. Items
        that moved on since they were read (sent again, cancelled) are left alone.
        """
        with self.database.write() as connection:
            record_verification(
                connection,
                _row(connection, job_id),
                items,
                verification,
                lost_are_due=frozenset(lost_are_due),
            )


@cache
def _select_job(*, lock: bool) -> sa.Select[Any]:
    query = select_jobs().where(jobs.c.job_id == sa.bindparam("named"))
    return query.with_for_update(of=jobs) if lock else query


def _row(connection: sa.Connection, job_id: JobId, *, lock: bool = False) -> Any:
    row = connection.execute(_select_job(lock=lock), {"named": job_id}).one_or_none()
    if row is None:
        raise KeyError(job_id)
    return row


def _same_study(row: Any) -> sa.ColumnElement[bool]:
    return sa.and_(
        jobs.c.run_destination_id == row.run_destination_id,
        jobs.c.study_instance_uid == row.study_instance_uid,
    )
