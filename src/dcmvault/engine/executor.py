"""Which worker this is: work is written down under a worker's name until it ends.

Of an embedded database there is one worker, always of the same name, so a successor finds the
unfinished work of a dead predecessor as its own. On PostgreSQL any number of workers share the
database. Each takes the smallest free number, by an advisory lock of a session, and says each
second that it lives. Who sees another be silent takes up its work: soon where its lock is free,
because its process is dead; later where it is not, because it is frozen or its host is gone: its
session is ended first. Time is measured by who looks, while it can look: a server that was away
makes nobody dead. A worker whose work was taken over stops, and begins anew under another name.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dcmvault.engine.database import WorkDatabase
from dcmvault.engine.ledger import Ledger
from dcmvault.engine.names import EMBEDDED_EXECUTOR
from dcmvault.errors import StateError
from dcmvault.ports.workers import Doing, KnownWorker, WorkerBook, WorkerIdentity

_log = logging.getLogger(__name__)

#: First key of our advisory locks; any constant that others are unlikely to use.
_LOCK_CLASS = 0x64636D76
_PREFIX = "worker-"
_MOST_WORKERS = 100
#: Have the server notice that a host is gone (a killed process is noticed at once). Without effect
#: over a local socket.
_NOTICE_DEATH = ("tcp_keepalives_idle=4", "tcp_keepalives_interval=2", "tcp_keepalives_count=3")
#: Seconds of silence after which a worker is dead: where nobody has its lock, and where it has.
#: A living one says something each second, and takes a lost lock again at its next look.
_DEAD_S = 5.0
_FROZEN_S = 11.0


@dataclass(frozen=True, slots=True)
class Membership:
    """How a worker tells the others of itself: who it is, and what it does now."""

    book: WorkerBook
    identity: WorkerIdentity
    doing: Callable[[], Doing]


@dataclass(frozen=True, slots=True)
class _Silence:
    """Since when (monotonic) a worker has said nothing after its last sign."""

    sign: datetime | None
    since_s: float


class ExecutorName:
    """This worker's name, and on PostgreSQL its lock. Of one thread at a time."""

    def __init__(self, database: WorkDatabase, membership: Membership | None = None) -> None:
        self._database = database
        self._membership = membership
        self._session: sa.Connection | None = None
        self._number = 0
        self._silences: dict[str, _Silence] = {}
        #: How many workers there were at the last look, this one included.
        self.workers = 1

    @property
    def name(self) -> str:
        """The name that was acquired."""
        return EMBEDDED_EXECUTOR if self._database.is_embedded else _executor(self._number)

    def acquire(self) -> str:
        """Take a name that no living worker has; StateError if there are too many workers."""
        if self._database.is_embedded:
            return EMBEDDED_EXECUTOR
        engine = self._database.prepare()
        self._silences.clear()
        self._session = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        for setting in _NOTICE_DEATH:
            self._session.execute(sa.text(f"SET {setting}"))
        for number in range(_MOST_WORKERS):
            if self._lock(self._session, number):
                self._number = number
                if self._membership is not None:
                    self._membership.book.join(self._membership.identity, self.name)
                return self.name
        self.release()
        raise StateError(
            f"The database has {_MOST_WORKERS} workers already.", hint="Stop one of them first."
        )

    def leave(self, ledger: Ledger) -> None:
        """Put what is unfinished back on its queues, for the others, before the name is released.

        Nothing on an embedded database, where there are no others.
        """
        if self._session is None:
            return
        if self._is_ours(self._session):
            ledger.hand_back(self.name)
        if self._membership is not None:
            self._membership.book.leave(self._membership.identity.worker_id)

    def release(self) -> None:
        """Give the name up; what is unfinished under it is for the next that takes it."""
        if self._session is not None:
            # The lock belongs to the session, so the connection must not go back to the pool.
            self._session.invalidate()
            self._session.close()
            self._session = None

    def look_around(self, ledger: Ledger) -> bool:
        """Say that we live, and take up the work of workers that died.

        False where the name was lost: others have our work. Nothing on an embedded database.
        """
        if self._session is None:
            return True
        try:
            if not self._is_ours(self._session):
                return False
            known = self._beat()
            if known is None:
                return False
            for executor in ledger.executors_at_work():
                self._look_at(executor, known.get(executor), self._session, ledger)
            # One that did nothing, too: it has shares of limits.
            for executor, worker in known.items():
                self._look_at(executor, worker, self._session, ledger)
        except (sa.exc.SQLAlchemyError, StateError):
            # Who cannot look cannot say that others are silent.
            self._silences.clear()
            raise
        return True

    def _beat(self) -> dict[str, KnownWorker] | None:
        """Say that we live; return who is there by executor, None if we were taken for dead."""
        if self._membership is None:
            return {}
        book, identity = self._membership.book, self._membership.identity
        if not book.beat(identity.worker_id, self._membership.doing()):
            return None
        known = {worker.executor: worker for worker in book.workers()}
        self.workers = max(1, len(known))
        return known

    def _look_at(
        self, executor: str, known: KnownWorker | None, session: sa.Connection, ledger: Ledger
    ) -> None:
        number = _number(executor)
        if number is None or number == self._number:
            return
        silent_s = self._silent_s(executor, known)
        if silent_s < _DEAD_S:
            return
        # One of a release that says nothing lives for as long as its session does.
        if silent_s >= _FROZEN_S and known is not None:
            _end_session_of(session, number)
        if self._lock(session, number):
            try:
                _log.warning("the work of a dead worker (%s) is taken over", executor)
                ledger.hand_back(executor)
                if known is not None and self._membership is not None:
                    self._membership.book.leave(known.identity.worker_id)
                self._silences.pop(executor, None)
            finally:
                session.execute(sa.select(sa.func.pg_advisory_unlock(_LOCK_CLASS, number)))

    def _silent_s(self, executor: str, known: KnownWorker | None) -> float:
        """Say for how long a worker has given no new sign while we looked."""
        now_s = time.monotonic()
        sign = None if known is None else known.beat_at
        last = self._silences.get(executor)
        if last is None or last.sign != sign:
            last = self._silences[executor] = _Silence(sign, now_s)
        return now_s - last.since_s

    def _is_ours(self, session: sa.Connection) -> bool:
        """Look whether the session still has our lock, or can have it again."""
        if session.invalidated:
            session.rollback()
        holds = sa.text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            " AND classid = :class AND objid = :number AND granted"
        )
        found = session.execute(holds, {"class": _LOCK_CLASS, "number": self._number})
        return bool(found.scalar()) or self._lock(session, self._number)

    @staticmethod
    def _lock(session: sa.Connection, number: int) -> bool:
        attempt = sa.select(sa.func.pg_try_advisory_lock(_LOCK_CLASS, number))
        return bool(session.execute(attempt).scalar())


def _end_session_of(session: sa.Connection, number: int) -> None:
    """End whoever has a worker's lock in this database, so that the lock is free."""
    session.execute(
        sa.text(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND classid = :class AND objid = :number AND granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        ),
        {"class": _LOCK_CLASS, "number": number},
    )


def _executor(number: int) -> str:
    return f"{_PREFIX}{number}"


def _number(executor: str) -> int | None:
    number = executor.removeprefix(_PREFIX)
    return int(number) if number != executor and number.isdecimal() else None
