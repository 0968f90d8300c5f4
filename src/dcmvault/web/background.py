"""Long work that pages ask for: one thing after the other, looked at while it goes on.

It lives as long as the daemon: what must outlive it is a run. What ended is kept for a while, so
that its result can be looked at.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dcmvault.errors import DcmvaultError, RunInterruptedError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.i18n import language, speaking

_log = logging.getLogger(__name__)

#: Work that waits at most, and how much that ended is kept.
MOST_WAITING = 8
MOST_KEPT = 12


class WorkState(StrEnum):
    """Where a piece of work stands."""

    WAITING = "waiting"
    GOING_ON = "going-on"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is; `all` is 0 while nobody knows."""

    words: str = ""
    done: int = 0
    all: int = 0


@dataclass(slots=True)
class Work:
    """One piece of work: who asked for what, how far it is, and what came of it."""

    work_id: str
    title: str
    #: The page that asked, and below it the path where the result is shown.
    page: str
    result_path: str
    asked_by: str
    asked_at: datetime
    #: What was asked, as the page wants it back.
    asked: object = None
    state: WorkState = WorkState.WAITING
    progress: Progress = Progress()
    result: object = None
    message: str = ""
    hint: str = ""
    #: Set when it is to end.
    stop: threading.Event = field(default_factory=threading.Event)
    #: What is kept open (files of a result) until the work is forgotten.
    keeps: ExitStack = field(default_factory=ExitStack)
    language: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in (WorkState.DONE, WorkState.FAILED, WorkState.STOPPED)


_Do = Callable[[Work], object]


@dataclass(slots=True)
class Background:
    """Does the work that pages ask for, in one thread, which lives while there is some."""

    _works: dict[str, Work] = field(default_factory=dict)
    _queue: deque[tuple[Work, _Do]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    _is_closed: bool = False

    def ask(
        self, title: str, page: str, do: _Do, *, by: str, at: datetime, asked: object = None
    ) -> Work:
        """Have something done; its result is shown at `page`, a slash, and the work's id.

        `do` gives the result, or raises a DcmvaultError. It is to look at `Work.stop` often.
        UsageError where too much waits already.
        """
        work_id = secrets.token_hex(8)
        work = Work(work_id, title, page, f"{page}/{work_id}", by, at, asked, language=language())
        forgotten: list[Work] = []
        with self._lock:
            if self._is_closed or len(self._queue) >= MOST_WAITING:
                raise UsageError(
                    _("Too much waits to be done already."),
                    hint=_("Wait until some of it has ended, or stop it."),
                )
            self._works[work_id] = work
            self._queue.append((work, do))
            ended = [one for one in self._works.values() if one.has_ended]
            forgotten = ended[: max(0, len(ended) - MOST_KEPT)]
            for one in forgotten:
                del self._works[one.work_id]
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="background", daemon=True)
                self._thread.start()
        for one in forgotten:
            one.keeps.close()
        return work

    def find(self, work_id: str) -> Work:
        """Return a piece of work; UsageError for one that is not known, or not any more."""
        with self._lock:
            found = self._works.get(work_id)
        if found is None:
            raise UsageError(
                _("This is not kept any more."),
                hint=_("Results are kept for a while, and until dcmvault is started anew."),
            )
        return found

    def of(self, *pages: str) -> list[Work]:
        """List the work that some pages asked for, newest first."""
        with self._lock:
            return [one for one in reversed(self._works.values()) if one.page in pages]

    def cancel(self, work: Work) -> None:
        """Have a piece of work end soon, or never begin."""
        work.stop.set()
        with self._lock:
            if work.state is WorkState.WAITING:
                work.state = WorkState.STOPPED
                self._queue = deque(one for one in self._queue if one[0] is not work)

    def forget(self, work: Work) -> None:
        """Drop what ended, and what it kept."""
        with self._lock:
            if not work.has_ended or self._works.pop(work.work_id, None) is None:
                return
        work.keeps.close()

    def close(self, grace_s: float) -> bool:
        """Stop everything; say whether it ended within `grace_s` seconds."""
        with self._lock:
            self._is_closed = True
            self._queue.clear()
            works, thread = list(self._works.values()), self._thread
        for work in works:
            work.stop.set()
        if thread is not None:
            thread.join(grace_s)
            if thread.is_alive():
                return False
        for work in works:
            work.keeps.close()
        return True

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._thread = None
                    return
                work, do = self._queue.popleft()
                work.state = WorkState.GOING_ON
            with speaking(work.language), _ended(work):
                work.result = do(work)


@contextmanager
def _ended(work: Work) -> Iterator[None]:
    """Say how a piece of work ended, whatever comes of it."""
    try:
        yield
        work.state = WorkState.DONE
    except RunInterruptedError:
        work.state = WorkState.STOPPED
    except DcmvaultError as error:
        work.message, work.hint = error.message, error.hint
        work.state = WorkState.FAILED
    except Exception:  # noqa: BLE001 - the outermost frame of the thread; the log has the rest
        _log.exception("work in the background ended by a defect")
        work.message = _("Something unexpected happened; this is a defect of dcmvault.")
        work.hint = _("Backups go on. The log of the daemon has the details.")
        work.state = WorkState.FAILED
