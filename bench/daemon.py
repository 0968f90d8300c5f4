"""The daemon with 100,000 queued jobs: `python -m bench.daemon [JOBS]`.

A folder of tiny CT files, each a series of its own, is planned for a paused destination: as many
jobs wait. The durable engine holds small ones as bundles, so as many workflows of its own are
enqueued beside them, as jobs too large to travel together would be. Then status and queue are asked
for while a client follows the events, and what the process takes of memory is read from /proc.
Last, SIGTERM with open streams of events, and a kill -9 with the time until work goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import dbos
import sqlalchemy as sa
from bench.vault_figures.table import Row, print_table

from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.testing.peers import SimulatedPacs

_JOBS = 100_000
_ASKS = 200
_STREAMS = 8
#: Of the simulated PACS: its address is in the state folder.
_PORT = 11_877
_STATUS_S, _RSS_MB, _STOP_S, _RESUME_S = 0.2, 400, 5, 10


class _Daemon:
    """A daemon on a state folder of its own."""

    def __init__(self, home: Path, token: str = "") -> None:
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dcmvault", "serve", "--web-port", "0", "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "DCMVAULT_HOME": str(home), "DCMVAULT_LANG": "en"},
        )
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self.ready_s = time.perf_counter() - self.began
        self.token = token or told["token"]
        self._address = told["address"]

    def ask(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._address + path, data, headers)
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def asks(self, path: str) -> list[float]:
        """Return the seconds that each of many answers took."""
        taken = []
        for _number in range(_ASKS):
            began = time.perf_counter()
            self.ask(path)
            taken.append(time.perf_counter() - began)
        return taken

    def stream(self) -> HTTPConnection:
        place = urlsplit(self._address)
        connection = HTTPConnection(str(place.hostname), place.port, timeout=600)
        connection.request("GET", "/api/events", headers={"Authorization": f"Bearer {self.token}"})
        return connection

    def memory(self) -> tuple[float, float]:
        """Return the resident set now and at its highest, in MB."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        now, peak = (
            int(re.findall(rf"{name}:\s+(\d+) kB", text)[0]) / 1000 for name in ("VmRSS", "VmHWM")
        )
        return now, peak

    def end(self, number: signal.Signals) -> float:
        """Send a signal; return the seconds until the process is gone."""
        began = time.perf_counter()
        self._process.send_signal(number)
        self._process.communicate()
        return time.perf_counter() - began


def _make_folder(folder: Path, jobs: int) -> None:
    made = make_instance(folder / "t", make_uid("a"), make_uid("b"), make_uid("c"))
    template = made.path.read_bytes()
    made.path.unlink()
    old = [made.study_instance_uid, made.series_instance_uid, made.sop_instance_uid]
    for number in range(jobs):
        content = template
        for level, uid in enumerate(old, 1):
            key = number // 10 if level == 1 else number
            new = f"2.25.{level}{key:09}".ljust(len(uid), "7")
            content = content.replace(uid.encode(), new.encode())
        place = folder / f"{number // 1000:04}"
        place.mkdir(exist_ok=True)
        (place / f"{number:07}.dcm").write_bytes(content)


def _configure(home: Path, pacs: SimulatedPacs, folders: dict[str, Path]) -> None:
    address = f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"
    lines = ["[destinations.there]", f'address = "{address}"']
    for name, folder in folders.items():
        lines += [f"[plans.{name}]", f'sources = ["{folder}"]', 'destinations = ["there"]']
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text("\n".join(lines) + "\n")


def _enqueue_beside(home: Path, workflows: int) -> None:
    """Put workflows on the paused queue as the engine would hold jobs that travel alone."""
    engine = sa.create_engine(f"sqlite:///{home / 'engine.sqlite3'}")
    sa.event.listen(engine, "connect", lambda one, _: one.execute("PRAGMA synchronous=OFF"))
    client = dbos.DBOSClient(system_database_engine=engine)
    with engine.connect() as connection:
        (queue,) = connection.execute(
            sa.text("SELECT DISTINCT queue_name FROM workflow_status WHERE status = 'ENQUEUED'")
        ).scalars()
        (name,) = connection.execute(
            sa.text("SELECT DISTINCT name FROM workflow_status WHERE queue_name = :queue"),
            {"queue": queue},
        ).scalars()
    for number in range(workflows):
        client.enqueue(
            {
                "workflow_name": name,
                "queue_name": queue,
                "workflow_id": f"beside-{number}/1.1",
                # Behind all that is real: there is nothing in them.
                "priority": 9,
            },
            f"beside-{number}",
            queue,
            1,
            1,
        )
    engine.dispose()


def _queued(daemon: _Daemon) -> int:
    return sum(one["waiting"] for one in daemon.ask("/api/queue?limit=0")["queues"])


@contextmanager
def _followed(daemon: _Daemon) -> Iterator[None]:
    """Have a client read the stream of events."""
    connection = daemon.stream()
    answer = connection.getresponse()

    def read() -> None:
        with suppress(OSError, ValueError, AttributeError):
            while answer.readline():
                pass

    threading.Thread(target=read, daemon=True).start()
    yield
    connection.close()


def _p95(taken: Sequence[float]) -> float:
    return statistics.quantiles(taken, n=20)[-1]


def _prepare(work: Path, jobs: int) -> None:
    """Make a state folder with so many jobs for a destination that is paused."""
    home, many, one = work / "home", work / "many", work / "one"
    one.mkdir(parents=True)
    make_instance(one / "1.dcm", make_uid("x"), make_uid("y"), make_uid("z"))
    many.mkdir()
    _make_folder(many, jobs)
    with SimulatedPacs(port=_PORT) as pacs:
        _configure(home, pacs, {"one": one, "many": many})
        daemon = _Daemon(home)
        daemon.ask("/api/plans/one/runs", {})
        while not daemon.ask("/api/runs/latest")["run"]["finished_at"]:
            time.sleep(0.1)
        daemon.ask("/api/queue/pause", {"destination": "there"})
        began = time.perf_counter()
        daemon.ask("/api/plans/many/runs", {})
        while not (bundles := _queued(daemon)):
            time.sleep(0.5)
        while bundles != (bundles := _queued(daemon)):
            time.sleep(2)
        print(f"{jobs:,} jobs planned in {time.perf_counter() - began:.0f} s, {bundles} bundles")
        now, peak = daemon.memory()
        print(f"memory after planning: {now:.0f} MB, at most {peak:.0f} MB")
        _enqueue_beside(home, jobs)
        print(f"{_queued(daemon):,} workflows wait in the durable engine")
        daemon.end(signal.SIGTERM)
    (work / "token").write_text(daemon.token)


def _measure(work: Path) -> list[Row]:
    home = work / "measured"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(work / "home", home)
    token = (work / "token").read_text()
    with SimulatedPacs(port=_PORT) as pacs:
        daemon = _Daemon(home, token)
        with _followed(daemon):
            time.sleep(3)
            status, queue = daemon.asks("/api/status"), daemon.asks("/api/queue")
        now, peak = daemon.memory()
        streams = [daemon.stream().getresponse() for _number in range(_STREAMS)]
        stop_s = daemon.end(signal.SIGTERM)
        del streams
        daemon = _Daemon(home, token)
        ready_s = daemon.ready_s
        resume_s = _killed(home, daemon, pacs)
    return [
        _row("/api/status, p95 of 200", _p95(status), _STATUS_S, " s", statistics.median(status)),
        _row("/api/queue, p95 of 200", _p95(queue), _STATUS_S, " s", statistics.median(queue)),
        _row("memory (RSS)", now, _RSS_MB, " MB", peak),
        _row(f"SIGTERM with {_STREAMS} streams, to the end", stop_s, _STOP_S, " s", stop_s),
        _row("start, until it answers", ready_s, _RESUME_S, " s", ready_s),
        _row("kill -9, start, until work goes on", resume_s, _RESUME_S, " s", resume_s),
    ]


def _killed(home: Path, daemon: _Daemon, pacs: SimulatedPacs) -> float:
    """Kill it at work; return the seconds from the new start to the next instance."""
    before = len(pacs.received)
    daemon.ask("/api/queue/resume", {"destination": "there"})
    while len(pacs.received) < before + 100:
        time.sleep(0.01)
    daemon.end(signal.SIGKILL)
    before = len(pacs.received)
    again = _Daemon(home, daemon.token)
    while len(pacs.received) == before:
        time.sleep(0.01)
    resumed = time.perf_counter() - again.began
    again.end(signal.SIGKILL)
    return resumed


def _row(what: str, value: float, asked: float, unit: str, other: float) -> Row:
    shown = f"{value:.3g}{unit} ({other:.3g})"
    return Row(what, shown, "", value, asked, unit)


def main() -> NoReturn:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", type=int, nargs="?", default=_JOBS)
    parser.add_argument("--keep", type=Path, help="prepare in this folder; measure only, later")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        work = arguments.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="dcmvault-bench-"))
        )
        if not (work / "token").exists():
            _prepare(work, arguments.jobs)
        rows = _measure(work)
    print("in brackets: the median of times, the peak of memory")
    print_table(rows)
    raise SystemExit(0)


if __name__ == "__main__":
    main()
