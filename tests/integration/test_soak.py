"""A day of a daemon in twenty minutes: it takes no more at the end than when it had settled.

Schedules, arrivals, pushes, a destination that comes and goes, alerts, messages, the API and its
events: all that a practice has in a day, closer together. `SOAK_MINUTES=5` makes it shorter.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPException
from pathlib import Path

import pytest
from scripts.peer_launch import free_port
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.daemon_world import DaemonProcess
from tests.integration.notify_world import WebService, web_service
from tests.integration.soak_world import growths, plant_leak, table, taken_by

from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peers import SimulatedPacs

pytestmark = [pytest.mark.nightly, pytest.mark.peers, pytest.mark.timeout(7200)]

MINUTES = float(os.environ.get("SOAK_MINUTES", "20"))
#: Minutes in which a planted leak is found.
SHORT = 4.0
#: What is flat: less growth than this share.
FLAT = 0.05
#: Megabytes that no disk has.
TOO_MUCH = 1 << 40

_CONFIGURATION = """
[retry]
attempts = 2
wait_s = 0
[monitoring]
disk_low_mb = {disk_low_mb}
probe_every_s = 5
[listener]
port = {listener_port}
settle_s = 1
keep_days = 0
reserve_mb = 10
[destinations.orthanc]
address = "dicom://ORTHANC@127.0.0.1:{orthanc_port}"
[destinations.vault]
address = "vault:{folder}/vault"
[destinations.moody]
address = "dicom://SIMULATED@127.0.0.1:{moody_port}"
[plans.arrivals]
sources = ["{folder}/arrivals"]
destinations = ["orthanc", "vault"]
[plans.pushed]
sources = ["listener:"]
destinations = ["orthanc", "vault"]
[plans.moody]
sources = ["{folder}/arrivals"]
destinations = ["moody"]
[schedules.arrivals]
plan = "arrivals"
every = "1min"
[schedules.moody]
plan = "moody"
every = "1min"
[notifications.hook]
channel = "webhook"
url = "{hook}"
events = ["run_ok", "run_incomplete", "run_failed", "alert"]
[hooks.post_run]
command = ["/bin/true"]
"""


class _Day:
    """What goes on around a daemon: each kind of thing again and again, in its rhythm."""

    def __init__(
        self,
        folder: Path,
        home: Path,
        orthanc: Orthanc,
        hook: WebService,
        dcmvault: RunDcmvault,
    ) -> None:
        self._folder, self._home, self._run = folder, home, dcmvault
        self._hook = hook
        self._orthanc = orthanc
        self._listener_port = free_port()
        self.moody = SimulatedPacs()
        self.moody.start()
        self.moody_port = self.moody.port
        self._is_up = True
        self._is_low = False
        self.arrived = 0
        self.reports = 0
        self.configure()

    def configure(self) -> None:
        """Write the configuration: with or without a disk that has too little room."""
        text = _CONFIGURATION.format(
            folder=self._folder,
            hook=self._hook.url,
            orthanc_port=self._orthanc.port,
            moody_port=self.moody_port,
            listener_port=self._listener_port,
            disk_low_mb=TOO_MUCH if self._is_low else 0,
        )
        fresh = self._home / "config.toml.new"
        fresh.write_text(text)
        fresh.replace(self._home / "config.toml")

    def arrive(self) -> None:
        """Have a study arrive in the folder."""
        self.arrived += 1
        place = self._folder / "arrivals" / f"{self.arrived:05}"
        make_study(place, key=f"arrived-{self.arrived}", instances=4, rows=64, columns=64)

    def push(self) -> None:
        """Have a study pushed to us."""
        self.arrived += 1
        place = self._folder / "pushed" / f"{self.arrived:05}"
        made = make_study(place, key=f"pushed-{self.arrived}", instances=3, rows=64, columns=64)
        files = [str(one.path) for one in made]
        peer = ["-aec", "DCMVAULT", "127.0.0.1", str(self._listener_port)]
        subprocess.run(["storescu", *peer, *files], check=True, timeout=300)

    def come_and_go(self) -> None:
        """Have the moody destination go away or come back."""
        if self._is_up:
            self.moody.stop()
        else:
            self.moody = SimulatedPacs(port=self.moody_port)
            self.moody.start()
        self._is_up = not self._is_up

    def alarm(self) -> None:
        """Have the alert of a disk raised, or cleared."""
        self._is_low = not self._is_low
        self.configure()

    def report(self) -> None:
        """Have somebody else look at what this daemon did."""
        self.reports += 1
        page = self._folder / "report.html"
        done = self._run("report", "latest", "--format", "html", "--output", page)
        assert done.returncode in (0, 3), done.stderr

    def end(self) -> None:
        """Leave nothing running."""
        self.moody.stop()


class _Follower(threading.Thread):
    """Follows the events; it goes now and then, and comes back for what it missed."""

    def __init__(self, daemon: DaemonProcess, ending: threading.Event) -> None:
        super().__init__(name="follower")
        self._daemon, self._ending = daemon, ending
        self.heard = 0
        self.alerts: set[tuple[str, str]] = set()
        self.began = 0

    def run(self) -> None:
        """Follow until the end; a status, if nothing else, is never far away."""
        last_id = ""
        while not self._ending.is_set():
            events = self._daemon.listen(last_id=last_id)
            self.began += 1
            until = time.monotonic() + 7
            with suppress(OSError, HTTPException):
                for topic, data in events:
                    self.heard += 1
                    if topic == "alert":
                        self.alerts.add((data["code"], data["change"]))
                    if self._ending.is_set() or time.monotonic() > until:
                        break
            last_id = events.last_id
            events.close()


def _polled(daemon: DaemonProcess) -> None:
    for path in ("/api/status", "/api/queue", "/api/runs?limit=50", "/api/alerts"):
        daemon.get(path)
    for path in ("/api/schedules", "/api/plans", "/api/runs/latest"):
        daemon.ask(path)


def _steered(daemon: DaemonProcess) -> None:
    for what in ("pause", "resume"):
        daemon.ask(f"/api/queue/{what}", {"destination": "vault"})
    daemon.ask("/api/plans/arrivals/runs", {})


def _lived(daemon: DaemonProcess, day: _Day, minutes: float) -> dict[str, float]:
    """Have a day go by; return by how much each figure grew."""
    ending = threading.Event()
    follower = _Follower(daemon, ending)
    follower.start()
    rhythms: list[tuple[float, Callable[[], object]]] = [
        (2.0, lambda: _polled(daemon)),
        (5.0, day.arrive),
        (10.0, lambda: _steered(daemon)),
        (13.0, day.push),
        (19.0, day.come_and_go),
        (23.0, day.alarm),
        (60.0, day.report),
    ]
    due = [every for every, _what in rhythms]
    series = []
    began = time.monotonic()
    try:
        while (at_s := time.monotonic() - began) < minutes * 60:
            series.append(taken_by(daemon.process.pid, at_s))
            for number, (every, what) in enumerate(rhythms):
                if due[number] <= at_s:
                    what()
                    # What took long is not made up for.
                    due[number] = max(due[number], at_s) + every
            time.sleep(0.5)
    finally:
        ending.set()
        daemon.process.poll()
        follower.join(120)
    print(table(series))
    grown = growths(series)
    print("growth:", ", ".join(f"{name} {share:+.1%}" for name, share in grown.items()))
    runs = daemon.get("/api/runs?limit=500")["runs"]
    print(
        f"{day.arrived} studies arrived, {len(runs)} runs, {follower.heard} events in"
        f" {follower.began} streams, alerts {sorted(follower.alerts)}, {day.reports} reports"
    )
    assert {("disk_low", "raised"), ("disk_low", "cleared")} <= follower.alerts
    assert {("destination_down", "raised"), ("destination_down", "cleared")} <= follower.alerts
    return grown


@pytest.fixture
def day(
    home: Path,
    tmp_path: Path,
    orthanc: Orthanc,
    run_dcmvault: RunDcmvault,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[_Day]:
    """A practice with its places; the vault is made."""
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "correct horse battery staple")
    made = run_dcmvault("vault", "init", f"vault:{tmp_path}/vault")
    assert made.returncode == 0, made.stderr
    with ExitStack() as stack:
        hook = stack.enter_context(web_service())
        day = _Day(tmp_path, home, orthanc, hook, run_dcmvault)
        stack.callback(day.end)
        day.arrive()
        yield day


def test_a_day_takes_no_more_at_its_end(start_dcmvault: StartDcmvault, day: _Day) -> None:
    daemon = DaemonProcess(start_dcmvault)
    grown = _lived(daemon, day, MINUTES)
    daemon.wait_for(
        "/api/status", lambda answer: not any(one["waiting"] for one in answer["queues"])
    )
    daemon.stop()
    assert {name: share for name, share in grown.items() if share > FLAT} == {}


def test_a_planted_leak_is_found(
    start_dcmvault: StartDcmvault, day: _Day, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes, threads and files, each for itself."""
    plant_leak(tmp_path / "leak", period_s=5, amount=2_000_000)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "leak"))
    daemon = DaemonProcess(start_dcmvault)
    grown = _lived(daemon, day, SHORT)
    assert {name for name, share in grown.items() if share > FLAT} == {
        "rss_mb",
        "threads",
        "files",
    }
    daemon.kill()
