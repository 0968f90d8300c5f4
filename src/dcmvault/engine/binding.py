"""What the workflows of this process work with.

The engine is one per process: workflows are functions registered under constant names, and find
their stages here. A worker binds when it starts and unbinds when it has stopped.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dbos import error as dbos_error
from sqlalchemy import exc as sa_exc

from dcmvault.engine.ledger import HASTY_POLL_S, Ledger
from dcmvault.engine.names import destination_queue
from dcmvault.errors import StateError
from dcmvault.model.identifiers import DestinationId
from dcmvault.ports.queue import LeftToOthers, RunStages, StageInterruption

_log = logging.getLogger(__name__)

#: Ends of workflows that are remembered until the engine has written them down.
_REMEMBERED_ENDS = 256


class Binding:
    """One worker's stages and queue, and what its workflows are doing. Safe for threads."""

    def __init__(
        self,
        stages: RunStages,
        ledger: Ledger,
        concurrency: Callable[[DestinationId], int],
        stopping: threading.Event,
        *,
        is_shared: bool = False,
        workers: Callable[[], int] = lambda: 1,
    ) -> None:
        self.stages = stages
        #: Says how many workers there are.
        self.workers = workers
        self.ledger = ledger
        self._stopping = stopping
        self._is_shared = is_shared
        #: Workflows, with their queues, that others are to do; handed over once they were left.
        self._for_others: dict[str, str] = {}
        #: Once stopped, for ever: `stopping` is cleared when the worker starts again.
        self._stopped = False
        #: Executions of workflows that ended here so far, in all and by queue.
        self.ended_in_all = 0
        self.ended_in: Counter[str] = Counter()
        self._concurrency = concurrency
        self._changed = threading.Condition()
        self._running = 0
        self._just_ended: deque[str] = deque(maxlen=_REMEMBERED_ENDS)
        self.running_in: Counter[str] = Counter()
        self._broken = False

    @property
    def running(self) -> int:
        """Count the workflows that are being executed."""
        with self._changed:
            return self._running

    @property
    def is_broken(self) -> bool:
        """Whether something could not be written down: what waits for it would wait for ever."""
        return self._broken

    def break_down(self) -> None:
        """Note that something could not be written down."""
        self._broken = True

    def leave_if_lost(self, error: Exception) -> None:
        """Leave the workflow where an error means that a shared database cannot be reached.

        That is no end of it: the worker begins anew when it is back, and somebody goes on.
        """
        if self._is_shared and _is_loss(error):
            _log.warning("the database cannot be reached (%s)", type(error).__name__)
            self.break_down()
            raise StageInterruption from error

    def hand_over(self) -> None:
        """Put what others are to do back on its queue; called once per second."""
        with self._changed:
            leaving, self._for_others = self._for_others, {}
        for workflow_id, queue in leaving.items():
            if not self.ledger.ended([workflow_id]):
                self.ledger.client.resume_workflows([workflow_id], queue_name=queue)

    def open_queue(self, destination_id: DestinationId) -> None:
        """Register a destination's queue if it is new, and have it looked at hastily from now."""
        name = destination_queue(destination_id)
        concurrency = self._concurrency(destination_id)
        queue = self.ledger.ensure_queue(name, concurrency)
        if queue.worker_concurrency != concurrency:
            # Whoever asked for the run, or paused its destination, does not know the limit.
            queue.set_worker_concurrency(concurrency)
        self.ledger.set_poll(name, HASTY_POLL_S)

    @property
    def is_stopping(self) -> bool:
        """Whether the worker stops, or has stopped."""
        return self._stopped or self._stopping.is_set()

    def check_stop(self) -> None:
        """Leave the workflow if the worker is stopping; it goes on at the next start."""
        if self.is_stopping:
            raise StageInterruption

    def wait_for_job(self, seen: int, timeout_s: float) -> bool:
        """Wait until more than `seen` workflows ended here, or the worker stops."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.ended_in_all != seen or self.is_stopping, timeout_s
            )

    def stop(self) -> None:
        """Ask stages and workflows to come to an end, now."""
        self._stopping.set()
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until no workflow is executed; False if some still are."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, timeout_s)

    def unwritten_ends(self) -> Sequence[str]:
        """Name the workflows whose function returned while the engine has not written it yet."""
        with self._changed:
            ids = list(self._just_ended)
        written = self.ledger.ended(ids) if ids else {}
        with self._changed:
            for workflow_id in written:
                if workflow_id in self._just_ended:
                    self._just_ended.remove(workflow_id)
        return [workflow_id for workflow_id in ids if workflow_id not in written]

    @contextmanager
    def execution(self, workflow_id: str, queue: str) -> Iterator[None]:
        """Surround a workflow's function: count it, and leave its state alone where it is not ours.

        An Exception that leaves a workflow would be written down as its result. So a workflow
        that was cancelled, taken over, or interrupted by the stop leaves by StageInterruption,
        which the engine does not write down.
        """
        with self._changed:
            self._running += 1
            self.running_in[queue] += 1
        try:
            yield
            with self._changed:
                self._just_ended.append(workflow_id)
        except LeftToOthers:
            with self._changed:
                self._for_others[workflow_id] = queue
            raise
        except (dbos_error.DBOSWorkflowCancelledError, dbos_error.DBOSWorkflowConflictIDError):
            raise StageInterruption from None
        # Outermost frame of a workflow: the engine is being shut down beneath it.
        except Exception as error:
            if self.is_stopping:
                _log.debug("workflow %s was interrupted", workflow_id, exc_info=True)
                raise StageInterruption from None
            self.leave_if_lost(error)
            # Stages let nothing through: this is the engine, which cannot write any more.
            _log.exception("workflow %s could not be written down", workflow_id)
            self.break_down()
            raise
        finally:
            with self._changed:
                self._running -= 1
                self.running_in[queue] -= 1
                self.ended_in_all += 1
                self.ended_in[queue] += 1
                self._changed.notify_all()


def _is_loss(error: BaseException) -> bool:
    """Say whether an error, or what it came of, is that the database does not answer now."""
    if isinstance(error, sa_exc.DBAPIError):
        is_known = isinstance(error, sa_exc.OperationalError | sa_exc.InterfaceError)
        return is_known or error.connection_invalidated
    if isinstance(error, sa_exc.PendingRollbackError | sa_exc.TimeoutError):
        return True
    return error.__cause__ is not None and _is_loss(error.__cause__)


_lock = threading.Lock()
_bound: Binding | None = None


def bind(binding: Binding) -> None:
    """Make a worker's binding that of this process; StateError if there is another."""
    global _bound
    with _lock:
        if _bound is not None:
            raise StateError("This process already runs a worker.", hint="Stop it first.")
        _bound = binding


def unbind(binding: Binding) -> None:
    """Let another worker start in this process; harmless if another is bound already."""
    global _bound
    with _lock:
        if _bound is binding:
            _bound = None


def bound() -> Binding:
    """Give the binding of this process's worker, for a workflow that begins.

    None is bound for a moment while a worker stops: what begins then is left for the next start.
    """
    binding = _bound
    if binding is None:
        raise StageInterruption
    return binding
