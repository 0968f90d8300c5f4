"""A way to a peer that writes down what went to it, and when."""

from __future__ import annotations

import bisect
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from types import TracebackType
from typing import Self

_RECEIVED_AT_ONCE = 64 << 10


@dataclass(frozen=True, slots=True)
class Arrival:
    """Bytes that came for the peer at a moment (seconds)."""

    at_s: float
    size: int


class RecordingProxy:
    """A port of the loopback that hands everything on to a peer and back; no connection limits.

    `now` is looked at when bytes come. Used as a context; leaving it ends all connections.
    """

    def __init__(self, port: int, now: Callable[[], float] = time.monotonic) -> None:
        self._peer = ("127.0.0.1", port)
        self._now = now
        self._lock = threading.Lock()
        self._arrivals: list[Arrival] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._door = socket.create_server(("127.0.0.1", 0))

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._door.getsockname()[1]
        return port

    def arrivals(self) -> list[Arrival]:
        """Return what came for the peer so far, over all connections, by time."""
        with self._lock:
            return sorted(self._arrivals, key=lambda arrival: arrival.at_s)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            sockets = [self._door, *self._sockets]
        for connection in sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for connection in [self._door, *self._sockets]:
            connection.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # the door was closed
            while True:
                near, _address = self._door.accept()
                far = socket.create_connection(self._peer)
                for connection in (near, far):
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._sockets += [near, far]
                self._start(self._hand_on, near, far, self._record)
                self._start(self._hand_on, far, near, lambda _size: None)

    def _hand_on(
        self, source: socket.socket, sink: socket.socket, seen: Callable[[int], None]
    ) -> None:
        with suppress(OSError):  # one of the two is gone
            while data := source.recv(_RECEIVED_AT_ONCE):
                seen(len(data))
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _record(self, size: int) -> None:
        with self._lock:
            self._arrivals.append(Arrival(self._now(), size))


def worst_error(arrivals: Sequence[Arrival], rate: float, window_s: float) -> float:
    """Return how far any window is from `rate` (bytes per second), as a share of it.

    Windows begin with each arrival, and all lie between the first arrival and the last.
    ValueError when none fits.
    """
    moments = [arrival.at_s for arrival in arrivals]
    passed = [0, *accumulate(arrival.size for arrival in arrivals)]
    if not moments or moments[-1] - moments[0] < window_s:
        message = "what was recorded is shorter than the window"
        raise ValueError(message)
    worst = 0.0
    for first, begin_s in enumerate(moments):
        if begin_s + window_s > moments[-1]:
            break
        behind = bisect.bisect_left(moments, begin_s + window_s)
        within = passed[behind] - passed[first]
        worst = max(worst, abs(within / (rate * window_s) - 1))
    return worst
