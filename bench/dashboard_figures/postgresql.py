"""A PostgreSQL that can be made to forget what it and the system keep in memory."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from bench.dashboard_figures.held import forget_files
from scripts.peer_launch import unprivileged_user
from scripts.peer_processes import PostgreSQL, postgresql


@dataclass(slots=True)
class Server:
    """A server with an empty database."""

    peer: PostgreSQL
    url: str
    _process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._process = self.peer.process

    def forget(self) -> None:
        """Restart it, with nothing of its files in memory."""
        self.stop()
        forget_files(self.peer.folder / "storage")
        with (self.peer.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.peer.process.args,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.peer.folder,
                user=unprivileged_user() if os.geteuid() == 0 else None,
                start_new_session=True,
            )
        while not self._answers():
            assert self._process.poll() is None, self.peer.log[-2000:]

    def stop(self) -> None:
        """Stop it, without waiting for who is connected."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def server() -> Iterator[Server]:
    """Run a server with an empty database."""
    with postgresql() as peer:
        with psycopg.connect(peer.url().replace("+psycopg", ""), autocommit=True) as administrator:
            administrator.execute("CREATE DATABASE bench")
        running = Server(peer, peer.url("bench").replace("+psycopg", ""))
        try:
            yield running
        finally:
            running.stop()
