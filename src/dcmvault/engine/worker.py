"""The worker: takes durable work from the queues and carries it out in this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa
from dbos import DBOS, DBOSPortableJSONSerializer
from sqlalchemy.exc import SQLAlchemyError

import dcmvault.engine.workflows  # noqa: F401  (registers the workflows)
from dcmvault.engine.binding import Binding, bind, unbind
from dcmvault.engine.database import WorkDatabase
from dcmvault.engine.executor import ExecutorName, Membership
from dcmvault.engine.health import Health
from dcmvault.engine.ledger import BUSY_POLL_S, DEFAULT_CONCURRENCY, RUNS_POLL_S, Ledger
from dcmvault.engine.names import (
    APPLICATION,
    APPLICATION_VERSION,
    RUNS_QUEUE,
    destination_of,
)
from dcmvault.engine.pace import QueuePace
from dcmvault.engine.pruning import Pruning
from dcmvault.engine.upkeep import Upkeep
from dcmvault.errors import StateError
from dcmvault.model.identifiers import DestinationId
from dcmvault.ports.queue import RunStages

_log = logging.getLogger(__name__)

#: Runs carried out at once. A run holds its slot while it waits for its jobs, some of them perhaps
#: on a paused queue, so this only bounds threads; the destinations' queues bound the work.
_RUNS_AT_ONCE = 32
#: Seconds that the engine gets, beyond the grace, to write down what has just ended.
_WRITING_S = 2.0
_WRITING_LOOK_S = 0.01
#: Seconds between looks of the engine's listener for messages, which we do not send; its thread
#: ends after the next look, so a stop waits for it. A look without anybody listening costs nothing.
_LISTENER_POLL_S = 0.02
#: Seconds between looks of the engine's scheduler, which we do not use.
_SCHEDULER_POLL_S = 3600.0


def two_at_once(_destination_id: DestinationId) -> int:
    """Give every destination two jobs at a time, the default."""
    return DEFAULT_CONCURRENCY


class DurableWorker:
    """The Worker (ports.queue) over the engine, of which a process has one: so at most one runs.

    `concurrency` says how many of a destination's jobs this worker does at a time; it is asked at
    the start and when a destination is new. `stopping` is set when the worker stops: stages look
    at it and return early (see RunStages). A worker can be started again after its stop.

    Of an embedded database at most one process may run a worker: hold its Ownership first.
    """

    def __init__(
        self,
        database: WorkDatabase,
        stages: RunStages,
        *,
        concurrency: Callable[[DestinationId], int] = two_at_once,
        stopping: threading.Event | None = None,
        membership: Membership | None = None,
    ) -> None:
        self._database = database
        self._stages = stages
        self._concurrency = concurrency
        self.stopping = stopping if stopping is not None else threading.Event()
        self._binding: Binding | None = None
        self._engine: DBOS | None = None
        self._executor = ExecutorName(database, membership)
        self._upkeep: Upkeep | None = None

    @property
    def running(self) -> int:
        """Count the runs and jobs being carried out, those that outlived a stop included.

        If some are left after `stop`, the interpreter's normal exit would wait for their threads:
        flush, and leave by os._exit. What they do after the stop is not written down, and their
        steps are repeated at the next start.
        """
        return self._binding.running if self._binding is not None else 0

    @property
    def is_broken(self) -> bool:
        """Whether work ended without being written down (a full disk); stop, and start anew."""
        return self._binding is not None and self._binding.is_broken

    def start(self) -> None:
        """Begin to take work; unfinished work of a dead predecessor is taken up first.

        Raises StateError if this process runs a worker already or the database cannot be used.
        """
        try:
            self._start(self._database.prepare(), Ledger(self._database))
        except SQLAlchemyError as error:
            raise StateError(
                f"The database of durable work cannot be used ({type(error).__name__}).",
                hint="Check the database server; the work goes on when it is back.",
            ) from error

    def _start(self, database: sa.Engine, ledger: Ledger) -> None:
        binding = Binding(
            self._stages,
            ledger,
            self._concurrency,
            self.stopping,
            is_shared=not self._database.is_embedded,
            workers=lambda: self._executor.workers,
        )
        bind(binding)
        self.stopping.clear()
        self._binding = binding
        try:
            self._open_queues(ledger)
            self._engine = DBOS(
                config={
                    "name": APPLICATION,
                    "application_version": APPLICATION_VERSION,
                    "executor_id": self._executor.acquire(),
                    "system_database_engine": database,
                    "run_migrations": False,
                    "serializer": DBOSPortableJSONSerializer(),
                    "enable_otlp": False,
                    "log_level": "WARNING",
                    "notification_listener_polling_interval_sec": _LISTENER_POLL_S,
                    "scheduler_polling_interval_sec": _SCHEDULER_POLL_S,
                }
            )
            DBOS.launch()
        except BaseException:
            self._shut_down(binding)
            raise
        pace = QueuePace(ledger, binding)
        self._upkeep = Upkeep(
            (
                pace.adjust,
                lambda: self._look_around(ledger, binding),
                binding.hand_over,
                Pruning(ledger).prune,
                Health(ledger, binding).check,
            )
        )
        self._upkeep.start()

    def stop(self, grace_s: float) -> None:
        """Take no more work; wait up to `grace_s` for running steps to end; harmless if stopped.

        Interrupted runs and jobs stay unfinished in the database and go on at the next start.
        """
        engine, binding = self._engine, self._binding
        if engine is None or binding is None:
            return
        # No further claims; the engine's own shutdown would first do this and then not wait.
        for event in engine.background_thread_stop_events:
            event.set()
        binding.stop()
        if self._upkeep is not None:
            self._upkeep.stop()
        try:
            if binding.wait_until_idle(grace_s):
                _wait_until_written(binding)
            else:
                _log.warning("%d runs or jobs go on at the next start", binding.running)
            self._leave(binding.ledger)
        finally:
            self._shut_down(binding)

    def _look_around(self, ledger: Ledger, binding: Binding) -> None:
        if not self._executor.look_around(ledger):
            _log.error("another worker has taken over the work of this one, which begins anew")
            binding.break_down()

    def _leave(self, ledger: Ledger) -> None:
        """Let other workers go on with what is unfinished; they find out anyway."""
        try:
            self._executor.leave(ledger)
        except (SQLAlchemyError, StateError) as error:
            _log.warning("others could not be told of the stop (%s)", type(error).__name__)

    def _shut_down(self, binding: Binding) -> None:
        DBOS.destroy()
        self._engine = None
        self._executor.release()
        unbind(binding)

    def _open_queues(self, ledger: Ledger) -> None:
        # Before the launch: the engine looks for new queues only once per second.
        ledger.ensure_queue(RUNS_QUEUE, _RUNS_AT_ONCE)
        for registered in ledger.registered():
            destination_id = destination_of(registered.name)
            if destination_id is None:
                registered.set_polling_interval_sec(RUNS_POLL_S)
            else:
                # All but a pause follows the configuration.
                registered.set_worker_concurrency(self._concurrency(destination_id))
                registered.set_polling_interval_sec(BUSY_POLL_S)


def _wait_until_written(binding: Binding) -> None:
    """Give the engine time to write down the results of workflows that have just returned.

    Otherwise their last step would be read again, needlessly, at the next start.
    """
    deadline = time.monotonic() + _WRITING_S
    try:
        while binding.unwritten_ends() and time.monotonic() < deadline:
            time.sleep(_WRITING_LOOK_S)
    except (SQLAlchemyError, StateError) as error:
        # That it is away is often why the work is stopped.
        _log.warning("what ended last is not known to be written (%s)", type(error).__name__)
