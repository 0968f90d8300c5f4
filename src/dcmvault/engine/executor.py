"""Which worker this is: work is written down under a worker's name until it ends.

Of an embedded database there is one worker, always of the same name, so a successor finds the
unfinished work of a dead predecessor as its own. On PostgreSQL any number of workers share the
database. Each takes the smallest free number, by an advisory lock of a session that lasts as long
as its process: the server frees the number of a dead worker, and whoever then gets the number,
a new worker or a living one that looks, takes up the work left under it. A worker that was only
frozen, or cut off, cannot write down a result any more once its work was taken over.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa

from dcmvault.engine.database import WorkDatabase
from dcmvault.engine.ledger import Ledger
from dcmvault.engine.names import EMBEDDED_EXECUTOR
from dcmvault.errors import StateError

_log = logging.getLogger(__name__)

#: First key of our advisory locks; any constant that others are unlikely to use.
_LOCK_CLASS = 0x64636D76
_PREFIX = "worker-"
_MOST_WORKERS = 100
#: Have the server notice within half a minute that a host is gone (a killed process is noticed at
#: once). Without effect over a local socket.
_NOTICE_DEATH = ("tcp_keepalives_idle=10", "tcp_keepalives_interval=5", "tcp_keepalives_count=4")


class ExecutorName:
    """This worker's name, and on PostgreSQL its lock. Of one thread at a time."""

    def __init__(self, database: WorkDatabase) -> None:
        self._database = database
        self._session: sa.Connection | None = None
        self._number = 0

    def acquire(self) -> str:
        """Take a name that no living worker has; StateError if there are too many workers."""
        if self._database.is_embedded:
            return EMBEDDED_EXECUTOR
        engine = self._database.prepare()
        self._session = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        for setting in _NOTICE_DEATH:
            self._session.execute(sa.text(f"SET {setting}"))
        for number in range(_MOST_WORKERS):
            if self._lock(self._session, number):
                self._number = number
                return _executor(number)
        self.release()
        raise StateError(
            f"The database has {_MOST_WORKERS} workers already.", hint="Stop one of them first."
        )

    def release(self) -> None:
        """Give the name up; what is unfinished under it is for the next that takes it."""
        if self._session is not None:
            # The lock belongs to the session, so the connection must not go back to the pool.
            self._session.invalidate()
            self._session.close()
            self._session = None

    def take_over(self, ledger: Ledger) -> None:
        """Take up the work of workers that died; nothing on an embedded database."""
        if self._session is None:
            return
        self._keep(self._session)
        for executor in ledger.executors_at_work():
            number = _number(executor)
            if number is None or number == self._number:
                continue
            if self._lock(self._session, number):
                try:
                    _log.warning("the work of a dead worker (%s) is taken over", executor)
                    ledger.hand_back(executor)
                finally:
                    self._session.execute(
                        sa.select(sa.func.pg_advisory_unlock(_LOCK_CLASS, number))
                    )

    def _keep(self, session: sa.Connection) -> None:
        if session.invalidated:
            session.rollback()
            if not self._lock(session, self._number):
                _log.error("the connection was lost, and another worker has taken over our work")

    @staticmethod
    def _lock(session: sa.Connection, number: int) -> bool:
        attempt = sa.select(sa.func.pg_try_advisory_lock(_LOCK_CLASS, number))
        return bool(session.execute(attempt).scalar())


def _executor(number: int) -> str:
    return f"{_PREFIX}{number}"


def _number(executor: str) -> int | None:
    number = executor.removeprefix(_PREFIX)
    return int(number) if number != executor and number.isdecimal() else None
