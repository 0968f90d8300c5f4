"""Several hosts on one machine: workers with folders of their own, one PostgreSQL, their peers."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from scripts.peer_launch import run_again, unprivileged_user
from scripts.peer_processes import PostgreSQL

from dcmvault.app.backup import requests_of_plan, start
from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.config.load import load_settings
from dcmvault.model.identifiers import RunId
from dcmvault.model.report import RunReport, RunState

#: Seconds that nothing here takes, however busy the machine is.
GENEROUS_S = 120.0
#: The environment's variable that says where the database is.
DATABASE = "THE_DATABASE"
ENDED = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CANCELLED})


def eventually(condition: Callable[[], object], generous_s: float = GENEROUS_S) -> None:
    """Wait for a condition; a test that waits too long fails."""
    deadline = time.monotonic() + generous_s
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come"
        time.sleep(0.05)


class Relay:
    """Passes bytes on to a port of this machine, and counts connections at once."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.most = 0
        self._clients: list[socket.socket] = []
        #: Bytes that went to the peer.
        self.sent = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: set[socket.socket] = set()
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._pass, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pass(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as peer:
            with self._lock:
                self._clients.append(client)
                self.most = max(self.most, self._standing())
                self._open |= {client, peer}
            try:
                self._pump(client, peer)
            finally:
                with self._lock:
                    self._clients.remove(client)
                    self._open -= {client, peer}

    def _standing(self) -> int:
        """Count what no client has closed yet, though its thread may not have seen that."""
        ended = select.poll()
        for client in self._clients:
            ended.register(client, select.POLLRDHUP)
        return len(self._clients) - len(ended.poll(0))

    def _pump(self, client: socket.socket, peer: socket.socket) -> None:
        """Pass bytes both ways until either side ends."""
        while True:
            readable, _writable, _broken = select.select([client, peer], [], [])
            for one in readable:
                try:
                    data = one.recv(1 << 16)
                    if not data:
                        return
                    (peer if one is client else client).sendall(data)
                except OSError:
                    return
                if one is client:
                    with self._lock:
                        self.sent += len(data)

    def close(self) -> None:
        """End all."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            left = list(self._open)
        for one in left:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(GENEROUS_S)


class Host:
    """A host of the installation: a state folder with its configuration, and its worker."""

    def __init__(self, home: Path, name: str, configuration: str, database: str) -> None:
        self.home = home
        self.name = name
        self._database = database
        home.mkdir(parents=True)
        (home / "config.toml").write_text(
            f'database = "env:{DATABASE}"\nhost = "{name}"\n{configuration}'
        )
        self.process: subprocess.Popen[str] | None = None
        self._said: dict[str, Any] | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """What its processes are started with."""
        return {**os.environ, "DCMVAULT_HOME": str(self.home), DATABASE: self._database}

    def begin(self, *command: str) -> None:
        """Start its worker (or another command that says when it works)."""
        self._said = None
        with (self.home / "stderr").open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dcmvault", *(command or ("worker",)), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                env=self.environment,
            )

    def await_work(self) -> dict[str, Any]:
        """Wait until its worker says that it works; return what it said."""
        if self._said is None:
            assert self.process is not None
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            assert line.endswith("}\n"), line + self.process.stdout.read()
            self._said = json.loads(line)
            assert self._said is not None
        return self._said

    def kill(self) -> None:
        """End it as a power cut does."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it in order; return the exit status."""
        return self._end(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Send its worker a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        with process:
            return process.wait(GENEROUS_S)

    def ask(self, *arguments: str) -> Any:
        """Run a command there, and return what it prints as JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "dcmvault", *arguments, "--json"],
            check=False,
            capture_output=True,
            encoding="utf-8",
            env=self.environment,
            timeout=GENEROUS_S,
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)


class RestartedPostgreSQL:
    """A PostgreSQL that can be crashed and started again."""

    def __init__(self, peer: PostgreSQL, stack: ExitStack) -> None:
        self._peer = peer
        self._process = peer.process
        self._stack = stack

    def crash(self) -> None:
        """End it at once, without a checkpoint: it recovers from its log at the next start."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(GENEROUS_S)

    def start(self) -> None:
        """Start it again, and wait until it has recovered."""
        again = self._stack.enter_context(run_again(self._peer, unprivileged_user()))
        self._process = again.process
        eventually(self._answers)

    def _answers(self) -> bool:
        engine = sa.create_engine(self._peer.url())
        try:
            with engine.connect():
                return True
        except sa.exc.OperationalError:
            return False
        finally:
            engine.dispose()


@contextmanager
def asking(host: Host) -> Iterator[Workplace]:
    """Open what only asks for work, and looks."""
    os.environ[DATABASE] = host.environment[DATABASE]
    settings = load_settings(host.home / "config.toml")
    try:
        with open_workplace(host.home.with_name(f"{host.home.name}-asking"), settings) as workplace:
            yield workplace
    finally:
        del os.environ[DATABASE]


def ask_for(workplace: Workplace, plan: str) -> list[RunId]:
    """Ask for the runs of a plan."""
    requests = requests_of_plan(workplace.settings, plan)
    return [start(workplace, request).run_id for request in requests]


def await_end(workplace: Workplace, run_id: RunId, generous_s: float = GENEROUS_S) -> RunReport:
    """Wait for the end of a run; return its report."""
    runs = workplace.catalogue.runs
    eventually(lambda: runs.run(run_id).state in ENDED, generous_s)
    return runs.report(run_id)
