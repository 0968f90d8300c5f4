"""What looking costs while work runs: `python -m bench.live [TABS]`.

A daemon backs up to a simulated PACS that takes its time, while tabs (five without an argument)
have the overview and the live page open: each has one stream of events, and fetches its part of the
page when it is told something, as browsers do. Measured are the seconds until each tab shows what
it is told, and (for the record: it is looked once a second) from a pause on; and what the process
takes of a core (from /proc) beyond what the same work takes while nobody looks, before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.vault_figures.table import Row, print_table

from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peer_faults import Action, Arrival
from dcmvault.testing.peers import SimulatedPacs

_TABS, _SECONDS = 5, 30.0
_STUDIES, _PER_STUDY = 120, 12
_SHOWN_S, _CORE_SHARE = 1.0, 0.03
#: Seconds that the PACS takes for an instance.
_SLOW_S = 0.15
_PAGES = ("/overview/now", "/live/now")
#: As pages ask: they wait so long after what they are told, for more of it.
_DELAY_S = {"/overview/now": 0.1, "/live/now": 0.05}
_TOPICS = {"/overview/now": "run,queue,alert,status", "/live/now": "lane,alert"}
_TICKS = os.sysconf("SC_CLK_TCK")


class _Daemon:
    """A daemon on a state folder, and what is asked of it."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dcmvault", "serve", "--web-port", "0", "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "DCMVAULT_HOME": str(home), "DCMVAULT_LANG": "en"},
        )
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        self.headers = {"Authorization": f"Bearer {told['token']}"}
        self.address = str(told["address"])
        self.place = urlsplit(self.address)

    def connect(self) -> HTTPConnection:
        return HTTPConnection(str(self.place.hostname), self.place.port, timeout=60)

    def post(self, path: str, body: object) -> Any:
        headers = {**self.headers, "Content-Type": "application/json"}
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def share(self, seconds: float) -> float:
        """Return what the process takes of a core for so many seconds."""
        before, began = self._spent(), time.monotonic()
        time.sleep(seconds)
        return (self._spent() - before) / (time.monotonic() - began)

    def _spent(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


class _Tab(threading.Thread):
    """A browser's tab: one stream, and the part of its page fetched when it is told something."""

    def __init__(self, at: _Daemon, page: str) -> None:
        super().__init__(daemon=True)
        self._at, self._page = at, page
        self.stopping = threading.Event()
        self._told = threading.Event()
        #: When something was told that is not shown yet.
        self._told_at: float | None = None
        #: What the page showed, and when; and how long after it was told.
        self.shown: list[tuple[float, str]] = []
        self.delays: list[float] = []

    def run(self) -> None:
        """Show the page, and show it again whenever something was told."""
        threading.Thread(target=self._listen, daemon=True).start()
        while not self.stopping.is_set():
            self._told.clear()
            told_at, self._told_at = self._told_at, None
            request = urllib.request.Request(self._at.address + self._page, None, self._at.headers)
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read().decode()
            now = time.monotonic()
            self.shown.append((now, text))
            if told_at is not None:
                self.delays.append(now - told_at)
            self._told.wait(60)
            time.sleep(_DELAY_S[self._page])

    def stop(self) -> None:
        """Close the tab."""
        self.stopping.set()
        self._told.set()

    def _listen(self) -> None:
        connection = self._at.connect()
        topics = _TOPICS[self._page]
        connection.request("GET", f"/api/events?topics={topics}", headers=self._at.headers)
        answer = connection.getresponse()
        while not self.stopping.is_set() and (line := answer.readline()):
            if line.startswith(b"data: "):
                if self._told_at is None:
                    self._told_at = time.monotonic()
                self._told.set()


def _slowly(_arrival: Arrival) -> Action:
    time.sleep(_SLOW_S)
    return Action()


@contextmanager
def _at_work(folder: Path) -> Iterator[_Daemon]:
    """Run a daemon that delivers to a slow PACS."""
    for number in range(_STUDIES):
        make_study(folder / "studies" / f"{number}", key=f"live{number}", instances=_PER_STUDY)
    home = folder / "home"
    home.mkdir()
    with SimulatedPacs(_slowly) as pacs:
        (home / "config.toml").write_text(
            f'[destinations.pacs]\naddress = "dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"\n'
            f'[sources.studies]\naddress = "{folder}/studies"\n'
            '[plans.all]\nsources = ["studies"]\ndestinations = ["pacs"]\n'
        )
        daemon = _Daemon(home)
        try:
            daemon.post("/api/plans/all/runs", {})
            time.sleep(5)
            yield daemon
        finally:
            daemon.process.terminate()
            daemon.process.wait(60)


def _delays(daemon: _Daemon, tabs: list[_Tab], times: int) -> list[float]:
    """Pause and resume, and return how long each tab took to show it."""
    delays = []
    for number in range(times):
        do, mark = (("pause", "paused by hand"), ("resume", ""))[number % 2]
        at = time.monotonic()
        daemon.post(f"/api/queue/{do}", {"destination": "pacs"})
        deadline = at + 20
        waiting = list(tabs)
        while waiting and time.monotonic() < deadline:
            for tab in list(waiting):
                seen = next(
                    (
                        moment
                        for moment, text in list(tab.shown)
                        if moment > at and (("paused by hand" in text) is bool(mark))
                    ),
                    None,
                )
                if seen is not None:
                    delays.append(seen - at)
                    waiting.remove(tab)
            time.sleep(0.02)
        delays += [20.0] * len(waiting)
        time.sleep(1.5)
    return delays


def _measure(folder: Path, count: int, seconds: float) -> list[Row]:
    with _at_work(folder) as daemon:
        alone = [daemon.share(seconds)]
        tabs = [_Tab(daemon, _PAGES[number % len(_PAGES)]) for number in range(count)]
        for tab in tabs:
            tab.start()
        time.sleep(3)
        begun = [len(tab.shown) for tab in tabs]
        watched = daemon.share(seconds)
        fetched = [len(tab.shown) - before for tab, before in zip(tabs, begun, strict=True)]
        changes = _delays(daemon, tabs, 6)
        told = [delay for tab in tabs for delay in tab.delays]
        for tab in tabs:
            tab.stop()
        for tab in tabs:
            tab.join(30)
        alone.append(daemon.share(seconds))
    print(f"   alone {alone[0]:.1%} and {alone[1]:.1%} of a core, watched {watched:.1%}")
    print(f"   parts of pages in {seconds:.0f} s, by tab: {fetched}")
    beside = f"{count} tabs"
    slowest, median = max(told), statistics.median(told)
    print(f"   from a pause to every tab: {statistics.median(changes):.2f} s, {max(changes):.2f} s")
    cost = watched - statistics.mean(alone)
    starved = sum(one < seconds / 4 for one in fetched)
    return [
        Row("what is told is shown, slowest", f"{slowest:.2f} s", beside, slowest, _SHOWN_S, " s"),
        Row("what is told is shown, median", f"{median:.2f} s", beside, median, _SHOWN_S, " s"),
        Row("processor for who looks", f"{cost:.1%}", "of a core", cost * 100, _CORE_SHARE * 100),
        Row("tabs that starve", str(starved), beside, starved, 0),
    ]


def main() -> int:
    """Measure, and say what was asked and reached; 1 where something was not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tabs", nargs="?", type=int, default=_TABS)
    parser.add_argument("--seconds", type=float, default=_SECONDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dcmvault-bench-") as folder:
        rows = _measure(Path(folder), options.tabs, options.seconds)
    print_table(rows)
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
