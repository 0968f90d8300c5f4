"""Ctrl-C and SIGTERM: the first asks the work to stop, the second does not wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end a command as Ctrl-C does (main thread only)."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """Within, the first SIGINT or SIGTERM sets the event; the next raises KeyboardInterrupt.

    Main thread only. The handlers from before are back afterwards.
    """
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            signal.default_int_handler(number, frame)
        stop.set()

    before = {number: signal.signal(number, ask) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Hangups:
    """What SIGHUP asks for; nothing until `action` is set."""

    def __init__(self) -> None:
        self.action: Callable[[], None] | None = None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Handle the signal."""
        if self.action is not None:
            self.action()


@contextmanager
def hangups() -> Iterator[Hangups]:
    """Within, SIGHUP ends nothing: it asks for the action. Main thread only."""
    asked = Hangups()
    before = signal.signal(signal.SIGHUP, asked)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGHUP, before)
