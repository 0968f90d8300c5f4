"""What goes on is seen by others meanwhile; what is wrong is raised once and cleared once."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.story import summary_of

from dcmvault.app.at_destinations import Probed
from dcmvault.app.looking_after import LookingAfter
from dcmvault.app.monitoring import Monitoring, WorkProbes
from dcmvault.app.names import Names
from dcmvault.app.wiring.workplace import open_workplace
from dcmvault.catalogue import open_catalogue
from dcmvault.config.load import load_settings
from dcmvault.model.alert import (
    AlertChange,
    AlertCode,
    AlertSeverity,
    Subject,
    SubjectKind,
)
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.job import JobState
from dcmvault.model.report import RunState
from dcmvault.model.sample import Figure
from dcmvault.pipeline.retry import Answering
from dcmvault.ports.samples import RunFigures
from dcmvault.telemetry.live_file import read_live
from dcmvault.telemetry.machine import DiskSpace
from dcmvault.telemetry.meter import ByteMeter
from dcmvault.telemetry.prometheus import METRICS
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peer_faults import Action, Arrival
from dcmvault.testing.peers import SimulatedPacs

NAME = "Monitored^Patient"
_LINE = re.compile(r'(dcmvault_\w+)(?:\{((?:\w+="[^"]*",?)*)\})? (\S+)\Z')


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    make_study(
        tmp_path / NAME, key="watched", series=2, instances=12, patient_name=NAME, patient_id="ID-4"
    )
    return tmp_path / NAME


def metrics_of(text: str) -> dict[str, dict[str, float]]:
    """Read Prometheus' text format: values by their labels, by the names of their metrics."""
    found: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert line.split()[1] in {"HELP", "TYPE"}
            continue
        match = _LINE.match(line)
        assert match is not None, line
        found.setdefault(match[1], {})[match[2] or ""] = float(match[3])
    return found


def until(condition: Callable[[], Any]) -> Any:
    """Return what a condition gives as soon as it gives something."""
    for _try in range(600):
        if (found := condition()) is not None:
            return found
        time.sleep(0.05)
    raise AssertionError("it never came")


def test_a_backup_is_watched_from_another_process(
    run_dcmvault: RunDcmvault,
    start_dcmvault: StartDcmvault,
    home: Path,
    studies: Path,
    tmp_path: Path,
) -> None:
    """Its figures are everybody's: top, metrics and CSV; and none of them names a patient."""
    go_on = threading.Event()

    def waits(arrival: Arrival) -> Action:
        if arrival.number > 4:
            go_on.wait(60)
        return Action()

    with SimulatedPacs(waits) as pacs:
        address = f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"
        (home / "config.toml").write_text(f'[destinations.pacs]\naddress = "{address}"\n')
        backup = start_dcmvault("backup", studies, "--to", "pacs", "--progress", "none")

        def at_work() -> Mapping[str, Any] | None:
            try:
                live = json.loads((home / "live.json").read_text("utf-8"))
            except FileNotFoundError:
                return None
            named = {(one["kind"], one["subject"]) for one in live["samples"]}
            return live if ("destination", "pacs") in named else None

        live = until(at_work)
        assert live["process"] == backup.pid
        assert stat.S_IMODE((home / "live.json").stat().st_mode) == 0o600
        top = summary_of(run_dcmvault("top", "--json"))
        metrics = run_dcmvault("metrics").stdout
        go_on.set()
        backup.communicate(timeout=120)
    assert backup.returncode == 0
    assert top["working"]
    kinds = Counter(one["kind"] for one in top["samples"])
    assert set(kinds) == {"machine", "disk", "destination", "run"}
    (pacs_now,) = (one for one in top["samples"] if one["kind"] == "destination")
    assert pacs_now["subject"] == "pacs"
    assert pacs_now["associations"] >= 1
    values = metrics_of(metrics)
    assert set(values) <= set(METRICS)
    assert values["dcmvault_working"] == {"": 1}
    assert values["dcmvault_moved_bytes_total"]['destination="pacs"'] > 0
    assert values["dcmvault_jobs"]['destination="pacs",state="in_progress"'] >= 1
    # Afterwards nobody works, and what was measured is there.
    assert not (home / "live.json").exists()
    assert not summary_of(run_dcmvault("top", "--json"))["working"]
    exported = run_dcmvault("metrics", "--csv", "--span", "second").stdout
    rows = list(csv.DictReader(io.StringIO(exported)))
    moved = [float(row["bytes_per_s"]) for row in rows if row["subject"] == "pacs"]
    assert sum(moved) > 0
    textfile = tmp_path / "dcmvault.prom"
    assert run_dcmvault("metrics", "--textfile", textfile).returncode == 0
    after = metrics_of(textfile.read_text("utf-8"))
    assert after["dcmvault_protected_studies"] == {'source="#1",destination="pacs"': 1}
    assert after["dcmvault_last_success_timestamp_seconds"].keys() == {'source="#1"'}
    told = json.dumps(live) + metrics + exported + textfile.read_text("utf-8") + json.dumps(top)
    for word in (NAME, "Patient", "ID-4", str(tmp_path)):
        assert word not in told


def test_a_destination_that_is_down_is_an_alert_until_it_is_back(
    run_dcmvault: RunDcmvault, home: Path, studies: Path
) -> None:
    with SimulatedPacs() as pacs:
        port = pacs.port
        address = f"dicom://{pacs.ae_title}@127.0.0.1:{port}"
        (home / "config.toml").write_text(
            f'[retry]\nwait_s = 0\n[destinations.pacs]\naddress = "{address}"\n'
        )
    assert run_dcmvault("backup", studies, "--to", "pacs").returncode == 5
    (alert,) = summary_of(run_dcmvault("status", "--json"))["alerts"]
    assert (alert["code"], alert["kind"], alert["subject"]) == (
        "destination_down",
        "destination",
        "pacs",
    )
    assert alert["severity"] == "critical"
    labels = 'code="destination_down",severity="critical",kind="destination",subject="pacs"'
    assert metrics_of(run_dcmvault("metrics").stdout)["dcmvault_alert"] == {labels: 1}
    with SimulatedPacs(port=port):
        assert run_dcmvault("backup", studies, "--to", "pacs").returncode == 0
    assert summary_of(run_dcmvault("status", "--json"))["alerts"] == []


def test_two_runs_that_stall_are_one_series(run_dcmvault: RunDcmvault, home: Path) -> None:
    """A series that came twice would make a monitoring system refuse all of them."""
    assert run_dcmvault("status").returncode == 0
    catalogue = open_catalogue(str(home / "catalogue.sqlite3"))
    now = datetime.now(UTC)
    for run in ("run-1", "run-2"):
        subject = Subject(SubjectKind.RUN, run)
        catalogue.alerts.raise_alert(AlertCode.STALLED, subject, AlertSeverity.WARNING, now, {})
    catalogue.close()
    lines = run_dcmvault("metrics").stdout.splitlines()
    labels = 'code="stalled",severity="warning",kind="run",subject=""'
    assert [one for one in lines if one.startswith("dcmvault_alert{")] == [
        f"dcmvault_alert{{{labels}}} 1"
    ]


def test_top_shows_lines_until_it_is_stopped(start_dcmvault: StartDcmvault, home: Path) -> None:
    top = start_dcmvault("top")
    assert top.stdout is not None
    assert "nobody works here now" in top.stdout.readline()
    top.send_signal(signal.SIGTERM)
    top.communicate(timeout=30)
    assert top.returncode == 0


@pytest.mark.parametrize(
    "arguments", [("metrics", "--csv", "--textfile", "x"), ("metrics", "--since", "1d")]
)
def test_what_does_not_go_together_is_said(
    run_dcmvault: RunDcmvault, arguments: tuple[str, ...]
) -> None:
    assert run_dcmvault(*arguments).returncode == 2


# -- with a clock of our own


PACS = DestinationId(1)


@dataclass(slots=True)
class Surroundings:
    """What probes would find; tests turn its knobs. Also what the steps at work know."""

    free: int = 10**12
    cpu: float = 0.2
    moved_bytes: int = 0
    is_running: bool = False
    answer: Answering = field(default_factory=lambda: Answering(True))

    def machine(self) -> Mapping[Figure, float]:
        return {Figure.CPU_SHARE: self.cpu}

    def disks(self) -> Mapping[str, DiskSpace]:
        return {"state": DiskSpace(self.free, 2 * 10**12)}

    def moved(self) -> Mapping[str, int]:
        return {"pacs": self.moved_bytes}

    def associations(self) -> Mapping[str, int]:
        return {"pacs": 1}

    def runs(self) -> Sequence[RunFigures]:
        run = RunFigures(RunId("run-1"), PACS, RunState.RUNNING, 0, 100, 10, 0, 1000, 100)
        return [run] if self.is_running else []

    def jobs(self) -> Mapping[DestinationId, Mapping[JobState, int]]:
        return {PACS: {JobState.IN_PROGRESS: 1}} if self.is_running else {}

    def name_of(self, destination_id: DestinationId) -> str:
        return "pacs"

    def busy_lanes(self) -> Mapping[DestinationId, int]:
        return {PACS: 1}

    def answering(self) -> Mapping[DestinationId, Answering]:
        return {PACS: self.answer}


class Watched:
    """A state folder that is monitored by a clock of our own; it may be restarted at any time."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.around = Surroundings()
        self.folder = folder
        self.catalogue = open_catalogue(str(folder / "catalogue.sqlite3"))
        self.probed = Probed()
        #: What is configured, as TOML.
        self.configuration = '[destinations.pacs]\naddress = "dicom://PACS@127.0.0.1:104"\n'
        self.restart()

    def restart(self) -> None:
        """Forget everything that is not written down, as after kill -9."""
        (self.folder / "config.toml").write_text(self.configuration)
        settings = load_settings(self.folder / "config.toml")
        names = Names(settings, self.catalogue.status.destinations)
        self.monitoring = Monitoring(
            self.folder,
            settings,
            self.catalogue,
            names,
            self.around,
            self.around,
            self.probed,
            self.clock.now(),
        )

    def go_on(self, seconds: float, each: float = 1.0, **knobs: float) -> None:
        """Look again and again; `knobs` change by so much with every look."""
        for _look in range(round(seconds / each)):
            for name, change in knobs.items():
                setattr(self.around, name, getattr(self.around, name) + change)
            self.clock.advance(each)
            self.monitoring.look(self.clock.now())

    def events(self) -> list[tuple[AlertCode, AlertChange]]:
        return [(one.alert.code, one.change) for one in self.catalogue.alerts.alert_events(0)]


RAISED, CLEARED = AlertChange.RAISED, AlertChange.CLEARED


def test_a_vault_that_cannot_be_opened_anew_is_one_alert_however_many_runs_succeed(
    tmp_path: Path,
) -> None:
    """What a probe finds and what deliveries find may differ; then the alert stays as it is."""
    watched = Watched(tmp_path)
    watched.around.answer = Answering(None)
    for _probe in range(2):
        watched.probed.note(PACS, "key")
    watched.go_on(60, 30)
    down = AlertCode.DESTINATION_DOWN
    assert watched.events() == [(down, RAISED)]
    for _run in range(3):
        watched.around.answer = Answering(True)
        watched.go_on(60, 30)
        watched.around.answer = Answering(None)
        watched.go_on(60, 30)
    assert watched.events() == [(down, RAISED)]
    watched.probed.note(PACS, "")
    watched.go_on(60, 30)
    assert watched.events() == [(down, RAISED), (down, CLEARED)]
    watched.catalogue.close()


def test_what_nobody_probes_any_more_says_nothing(tmp_path: Path) -> None:
    """A last failure does not outlive the probing: deliveries say how it is."""
    watched = Watched(tmp_path)
    for _probe in range(2):
        watched.probed.note(PACS, "key")
    watched.around.answer = Answering(None)
    watched.go_on(60, 30)
    watched.probed.forget()
    watched.go_on(60, 30)
    assert len(watched.events()) == 1
    watched.around.answer = Answering(True)
    watched.go_on(60, 30)
    assert watched.events()[1:] == [(AlertCode.DESTINATION_DOWN, CLEARED)]
    watched.catalogue.close()


def test_an_alert_ends_with_what_is_not_configured_any_more_and_says_so(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.around.answer = Answering(False, "unreachable")
    watched.go_on(5)
    watched.around.answer = Answering(None)
    # A probe found it down, too, and is not asked again.
    watched.probed.note(PACS, "unreachable")
    watched.probed.note(PACS, "unreachable")
    watched.restart()
    watched.go_on(5)
    assert watched.events() == [(AlertCode.DESTINATION_DOWN, RAISED)]
    watched.configuration = ""
    watched.restart()
    watched.go_on(5)
    assert watched.events()[1:] == [(AlertCode.DESTINATION_DOWN, CLEARED)]
    end = watched.catalogue.alerts.alert_events(1)[0]
    assert end.figures == {"reason": "not_configured"}
    watched.catalogue.close()


def test_an_alert_of_a_destination_without_a_name_lasts_as_long_as_it_has_work(
    tmp_path: Path,
) -> None:
    watched = Watched(tmp_path)
    watched.configuration = ""
    watched.around.is_running = True
    watched.around.answer = Answering(False, "unreachable")
    watched.restart()
    watched.go_on(5)
    watched.around.answer = Answering(None)
    watched.go_on(60, moved_bytes=1)
    assert watched.events() == [(AlertCode.DESTINATION_DOWN, RAISED)]
    watched.around.is_running = False
    watched.go_on(5)
    assert watched.events()[1:] == [(AlertCode.DESTINATION_DOWN, CLEARED)]
    watched.catalogue.close()


def test_a_held_source_that_is_not_configured_any_more_is_no_alert_for_ever(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.configuration = f'[sources.library]\naddress = "{tmp_path}"\n'
    watched.restart()
    source = watched.catalogue.sources.source(str(tmp_path))
    watched.catalogue.signs.hold(source, watched.clock.now())
    watched.go_on(2 * 86_400, 3600)
    assert watched.events() == [(AlertCode.SOURCE_HELD, RAISED)]
    watched.configuration = ""
    watched.restart()
    watched.go_on(5)
    assert watched.events()[1:] == [(AlertCode.SOURCE_HELD, CLEARED)]
    assert watched.catalogue.alerts.alert_events(1)[0].figures == {"reason": "not_configured"}
    # Its backups are held as before, and a new one of it on a command line is told for a while.
    assert [held.source_id for held in watched.catalogue.signs.held()] == [source]
    watched.catalogue.signs.accept(source)
    watched.catalogue.signs.hold(source, watched.clock.now())
    watched.go_on(29 * 86_400, 6 * 3600)
    assert watched.events()[2:] == [(AlertCode.SOURCE_HELD, RAISED)]
    watched.go_on(2 * 86_400, 6 * 3600)
    assert watched.events()[3:] == [(AlertCode.SOURCE_HELD, CLEARED)]
    watched.catalogue.close()


def test_a_disk_that_appears_later_is_watched_from_then_on(tmp_path: Path) -> None:
    """A link that comes to lead to another file system stands for a disk that is mounted."""
    here = tmp_path.stat().st_dev
    other = next(one for one in map(Path, ("/dev/shm", "/dev")) if one.stat().st_dev != here)
    mounted = tmp_path / "mounted"
    (tmp_path / "config.toml").write_text(
        f'[destinations.stick]\naddress = "{mounted / "copies"}"\n'
    )
    settings = load_settings(tmp_path / "config.toml")
    catalogue = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    names = Names(settings, catalogue.status.destinations)
    probes = WorkProbes(
        tmp_path, settings, catalogue.work, names, ByteMeter(), Surroundings(), FakeClock()
    )
    assert set(probes.disks()) == {"state"}
    mounted.symlink_to(other)
    assert set(probes.disks()) == {"state", "stick"}
    mounted.unlink()
    assert set(probes.disks()) == {"state"}
    catalogue.close()


def test_days_of_trouble_raise_each_alert_once_and_clear_it_once(tmp_path: Path) -> None:
    """A disk fills and is cleared out, a PACS is down for two days, work stalls, and we restart."""
    watched = Watched(tmp_path)
    around = watched.around
    watched.go_on(120)
    assert watched.events() == []
    # Six hours at a pace that fills the disk in more than a day.
    watched.go_on(6 * 3600, 300, free=-2.5e9)
    assert watched.events() == []
    around.free = 10**11
    watched.go_on(4 * 3600, 300, free=-2e9)
    assert watched.events() == [(AlertCode.DISK_FULL_FORECAST, RAISED)]
    around.free = 10**9
    watched.restart()
    watched.go_on(600, 300)
    assert watched.events()[1:] == [(AlertCode.DISK_LOW, RAISED)]
    around.free = 10**12
    watched.go_on(8 * 3600, 300)
    assert sorted(watched.events()[2:]) == sorted(
        [(AlertCode.DISK_LOW, CLEARED), (AlertCode.DISK_FULL_FORECAST, CLEARED)]
    )
    seen = len(watched.events())
    around.answer = Answering(False, "unreachable")
    watched.go_on(2 * 86_400, 3600)
    watched.restart()
    around.answer = Answering(None)
    watched.go_on(3600, 600)
    around.answer = Answering(True)
    watched.go_on(3600, 600)
    assert watched.events()[seen:] == [
        (AlertCode.DESTINATION_DOWN, RAISED),
        (AlertCode.DESTINATION_DOWN, CLEARED),
    ]
    seen = len(watched.events())
    around.is_running, around.cpu = True, 0.95
    watched.go_on(310, moved_bytes=1)
    assert watched.events()[seen:] == [(AlertCode.CPU_HIGH, RAISED)]
    around.cpu = 0.3
    watched.go_on(320)
    around.is_running = False
    watched.go_on(5)
    assert watched.events()[seen + 1 :] == [
        (AlertCode.CPU_HIGH, CLEARED),
        (AlertCode.STALLED, RAISED),
        (AlertCode.STALLED, CLEARED),
    ]
    around.cpu, around.free = 0.95, 5
    watched.go_on(310)
    full = {AlertCode.DISK_LOW, AlertCode.DISK_FULL_FORECAST}
    raised = {one.code for one in watched.catalogue.alerts.open_alerts()}
    assert raised == full | {AlertCode.CPU_HIGH}
    watched.monitoring.end(watched.clock.now())
    # Nobody looks any more: a full disk stays one, busy processors were of a moment.
    assert {one.code for one in watched.catalogue.alerts.open_alerts()} == full
    now = watched.clock.now()
    kept = watched.catalogue.samples.samples(1, now - timedelta(days=30), now)
    assert min(one.at for one in kept) >= now - timedelta(hours=1)
    watched.catalogue.close()


def test_a_catalogue_that_cannot_be_written_loses_no_alert(tmp_path: Path) -> None:
    """A full disk is what it is about; it is written down as soon as that is possible."""
    watched = Watched(tmp_path)
    working = watched.catalogue
    alerts = _Failing(working.alerts)
    watched.catalogue = replace(
        working, alerts=cast(Any, alerts), samples=cast(Any, _Failing(working.samples))
    )
    watched.restart()
    watched.around.free = 5
    watched.go_on(3)
    assert working.alerts.open_alerts() == []
    # Others see the figures of now all the same.
    live = read_live(tmp_path)
    assert live is not None
    assert live.at == watched.clock.now()
    alerts.fails = False
    watched.go_on(1)
    assert [one.code for one in working.alerts.open_alerts()] == [AlertCode.DISK_LOW]
    working.close()


class _Failing:
    """A port whose writes fail, as on a full disk."""

    def __init__(self, port: Any) -> None:
        self.port = port
        self.fails = True

    def __getattr__(self, name: str) -> Any:
        from dcmvault.errors import StateError

        def fail(*_arguments: object) -> None:
            raise StateError("the catalogue cannot be used: disk full")

        writes = name in {"raise_alert", "clear_alert", "keep_samples", "thin_samples"}
        return fail if self.fails and writes else getattr(self.port, name)


def _certificate(path: Path, ends_at: datetime) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dcmvault")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ends_at - timedelta(days=365))
        .not_valid_after(ends_at)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def test_certificates_plans_and_evidence_are_looked_after(
    run_dcmvault: RunDcmvault, home: Path, studies: Path, tmp_path: Path
) -> None:
    """By the clock alone: a month later all three are alerts, and mended they are none."""
    certificate = tmp_path / "ours.pem"
    began = datetime.now(UTC)
    _certificate(certificate, began + timedelta(days=40))
    config = home / "config.toml"
    config.write_text(
        f'[listener]\ntls = true\ntls_certificate_file = "{certificate}"\n'
        f'[destinations.disk]\naddress = "{tmp_path / "copies"}"\nreverify_after = "7d"\n'
        f'[plans.nightly]\nsources = ["{studies}"]\ndestinations = ["disk"]\n'
        'expected_every = "2d"\n'
    )
    assert run_dcmvault("run", "nightly").returncode == 0
    with open_workplace(home, load_settings(config)) as workplace:
        clock = FakeClock(began)
        workplace.clock = clock
        alerts = workplace.catalogue.alerts
        looking = LookingAfter(workplace)

        def look_after(days: float) -> list[tuple[str, str]]:
            clock.advance(86_400 * days)
            assert looking(clock.now()) > clock.now()
            return sorted((one.code.value, one.subject.name) for one in alerts.open_alerts())

        assert look_after(1) == []
        assert look_after(1.5) == [("run_overdue", "nightly")]
        late = [("run_overdue", "nightly"), ("verification_debt", "disk")]
        assert look_after(5.4) == late
        looking = LookingAfter(workplace)  # a restart
        assert look_after(3) == [("certificate_expiring", "listener"), *late]
        _certificate(certificate, clock.now() + timedelta(days=400))
        assert look_after(0.01) == late
    counted = Counter((one.alert.code, one.change) for one in open_catalogue_events(home))
    assert set(counted.values()) == {1}


def open_catalogue_events(home: Path) -> list[Any]:
    catalogue = open_catalogue(str(home / "catalogue.sqlite3"))
    try:
        return catalogue.alerts.alert_events(0)
    finally:
        catalogue.close()
