"""Idle HTTP connections: when they are closed, nobody looks after them any more."""

from __future__ import annotations

import socket
import threading

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.dicom.http_connection import HttpConnection, HttpPeer
from dcmvault.dicom.idle_connections import IdleConnections


def test_closing_ends_the_thread_that_looks_after_them() -> None:
    """It would wait for seconds, and one more with each pool."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = HttpConnection(HttpPeer("127.0.0.1", server.getsockname()[1]))
        connection.open()
        pool = IdleConnections(SystemClock())
        pool.keep(connection)
        (reaper,) = (
            one
            for one in threading.enumerate()
            if isinstance(one, threading.Timer) and getattr(one.function, "__self__", None) is pool
        )
        pool.close()
        reaper.join(3)
        assert not reaper.is_alive()
        assert not connection.stands
