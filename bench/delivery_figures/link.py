"""A link: a proxy that delays and limits, `python -m bench.delivery_figures.link PORT`.

Each way has a propagation delay and one line for all connections. It writes its port to stdout
and serves until its standard input ends. What is on the way is bounded by what the line carries
in one round trip, as in a network with shallow buffers.
"""

from __future__ import annotations

import argparse
import queue
import socket
import sys
import threading
import time

_PIECE = 16 << 10


class Line:
    """One direction: bytes of all its connections follow each other at `rate` bytes a second."""

    def __init__(self, rate: float, delay_s: float) -> None:
        self._rate = rate
        self._delay_s = delay_s
        self._free_at = 0.0
        self._lock = threading.Lock()

    def arrival(self, size: int) -> float:
        """Return when so many bytes, given now, arrive (monotonic)."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self._rate
            return self._free_at + self._delay_s

    @property
    def pieces(self) -> int:
        """How many pieces are on the way at most, of one connection."""
        return max(int(2 * self._delay_s * self._rate / _PIECE), 4)


def _carry(source: socket.socket, target: socket.socket, line: Line) -> None:
    way: queue.Queue[tuple[float, bytes]] = queue.Queue(line.pieces)

    def take() -> None:
        while True:
            try:
                piece = source.recv(_PIECE)
            except OSError:
                piece = b""
            way.put((line.arrival(len(piece)), piece))
            if not piece:
                return

    threading.Thread(target=take, daemon=True).start()
    while True:
        due, piece = way.get()
        time.sleep(max(due - time.monotonic(), 0))
        try:
            if not piece:
                target.shutdown(socket.SHUT_WR)
                return
            target.sendall(piece)
        except OSError:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, help="where the peer listens")
    parser.add_argument("--rtt", type=float, default=0.05, help="seconds")
    parser.add_argument("--rate", type=float, default=100e6 / 8, help="bytes a second, each way")
    options = parser.parse_args()
    there, back = (Line(options.rate, options.rtt / 2) for _ in range(2))

    def accept() -> None:
        while True:
            near, _address = listener.accept()
            far = socket.create_connection(("127.0.0.1", options.port))
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, target, line in ((near, far, there), (far, near, back)):
                threading.Thread(target=_carry, args=(source, target, line), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        threading.Thread(target=accept, daemon=True).start()
        print(listener.getsockname()[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
