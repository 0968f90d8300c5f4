"""Who asks goes first: work in the background waits while questions are answered.

Both are Python, and so take turns at one core: a question would wait for its turn again and again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from typing import TypeVar

#: Seconds after an answer within which the next one, or the next question, is waited for.
_MOMENT_S = 0.05
#: Seconds that a step of the work waits at most: it gets on under a stream of questions, too.
_LONGEST_S = 1.0

_T = TypeVar("_T")


class GivingWay:
    """What is asked, and the work that waits for it. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._asking = 0
        self._asked_at = float("-inf")

    def going_first(self, answers: Iterator[_T]) -> Generator[_T, None, None]:
        """Yield answers; the work waits while one is looked for, not while it is taken away."""
        try:
            while True:
                with self._lock:
                    self._asking += 1
                try:
                    answer = next(answers)
                except StopIteration:
                    return
                finally:
                    with self._lock:
                        self._asking -= 1
                        self._asked_at = time.monotonic()
                yield answer
        finally:
            if isinstance(answers, Generator):
                answers.close()

    def step(self) -> None:
        """Come before each step of the work; InterruptedError when it is to stop."""
        until = time.monotonic() + _LONGEST_S
        while not self._stopping.is_set() and self._is_asked() and time.monotonic() < until:
            self._stopping.wait(_MOMENT_S / 5)
        if self._stopping.is_set():
            raise InterruptedError

    def rest(self, seconds: float) -> bool:
        """Wait between two pieces of work; True when it is to stop."""
        return self._stopping.wait(seconds)

    def stop(self) -> None:
        """Ask the work to stop."""
        self._stopping.set()

    def _is_asked(self) -> bool:
        with self._lock:
            return self._asking > 0 or time.monotonic() - self._asked_at < _MOMENT_S
