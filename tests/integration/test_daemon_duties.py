"""What a daemon does and tells beside the work: schedules, alerts, metrics and messages."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from scripts.peer_syslog import rsyslog
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.daemon_world import GENEROUS_S, DaemonProcess, configure
from tests.integration.notify_world import web_service

from dcmvault.catalogue.opening import open_catalogue
from dcmvault.model.alert import AlertCode, AlertSeverity, Subject, SubjectKind
from dcmvault.testing.dicom_files import make_study

SECRET = "Secret^Name"


@pytest.fixture
def configured(home: Path, tmp_path: Path) -> Path:
    """One plan of one study with a schedule that is due once a year."""
    make_study(tmp_path / "studies", key="duties", patient_name=SECRET, patient_id="SECRET-7")
    plans = {"all": (tmp_path / "studies", "normal")}
    configure(home, destination=str(tmp_path / "copies"), plans=plans)
    with (home / "config.toml").open("a") as config:
        config.write('[schedules.yearly]\nplan = "all"\ncron = "@yearly"\n')
    return home


def _change_alert(home: Path, *, is_raised: bool, gone: int = 7) -> None:
    """Raise or clear an alert as another process of the same state folder does."""
    subject = Subject(SubjectKind.SOURCE, "#1")
    with closing(open_catalogue(str(home / "catalogue.sqlite3"))) as catalogue:
        now = datetime.now(UTC)
        if is_raised:
            figures = {"gone": gone}
            severity = AlertSeverity.CRITICAL
            catalogue.alerts.raise_alert(AlertCode.SOURCE_HELD, subject, severity, now, figures)
        else:
            catalogue.alerts.clear_alert(AlertCode.SOURCE_HELD, subject, now, {"gone": 0})


def test_schedules_are_listed_and_set(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, configured: Path
) -> None:
    daemon = DaemonProcess(start_dcmvault)
    listed = daemon.wait_for("/api/schedules", lambda answer: answer["schedules"][0]["next_at"])
    (yearly,) = listed["schedules"]
    assert (yearly["name"], yearly["plan"], yearly["cron"]) == ("yearly", "all", "@yearly")
    assert (yearly["enabled"], yearly["last_runs"]) == (True, [])
    assert daemon.post("/api/schedules/yearly/disable") == {**yearly, "enabled": False}
    (shown,) = json.loads(run_dcmvault("schedule", "list", "--json").stdout)["schedules"]
    assert shown == {**yearly, "enabled": False}
    assert daemon.post("/api/schedules/yearly/enable") == yearly
    status, answer = daemon.ask("/api/schedules/weekly/enable", {})
    assert (status, "weekly" in answer["error"]["message"]) == (409, True)
    assert daemon.ask("/api/schedules/yearly/disable", {}, token="")[0] == 401
    daemon.stop()


def test_alerts_are_listed_and_announced_once(
    start_dcmvault: StartDcmvault, configured: Path
) -> None:
    """Also to those who come back; what was over before the daemon began is no news."""
    for is_raised in (True, False):
        _change_alert(configured, is_raised=is_raised, gone=1)
    daemon = DaemonProcess(start_dcmvault)
    # Whoever comes back from an earlier daemon is told all that this one announced.
    events = daemon.listen("alert", last_id="earlier-0")
    _change_alert(configured, is_raised=True)
    raised = events.wait_for("alert", lambda data: data["code"] == "source_held")
    assert (raised["change"], raised["figures"]) == ("raised", {"gone": 7})
    (alert,) = [one for one in daemon.get("/api/alerts")["alerts"] if one["code"] == "source_held"]
    assert {"change": "raised", "at": raised["at"], **alert} == raised
    assert (alert["kind"], alert["subject"], alert["severity"]) == ("source", "#1", "critical")
    _change_alert(configured, is_raised=False)
    back = daemon.listen("alert", last_id=events.last_id)
    cleared = back.wait_for("alert", lambda data: data["code"] == "source_held")
    assert (cleared["change"], cleared["figures"]) == ("cleared", {"gone": 0})
    assert "source_held" not in {one["code"] for one in daemon.get("/api/alerts")["alerts"]}
    daemon.stop()


def test_a_run_of_the_daemon_is_told_and_counted(
    start_dcmvault: StartDcmvault, configured: Path
) -> None:
    """Webhook and metrics, by a configuration that came while it ran; neither names a patient."""
    with web_service() as hook:
        daemon = DaemonProcess(start_dcmvault)
        with (configured / "config.toml").open("a") as config:
            config.write(f'[notifications.hook]\nchannel = "webhook"\nurl = "{hook.url}"\n')
        daemon.wait_for(
            "/api/status",
            lambda answer: "notifications" in str(answer["daemon"]["configuration"]["in_force"]),
        )
        daemon.post("/api/plans/all/runs")
        daemon.wait_for("/api/runs/latest", lambda answer: answer["run"]["finished_at"])
        deadline = time.monotonic() + GENEROUS_S
        while len(hook.taken) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        headers = {"Authorization": f"Bearer {daemon.token}"}
        with urlopen(Request(daemon.address + "/metrics", headers=headers)) as answer:
            metrics = answer.read().decode()
        daemon.stop()
    told = [json.loads(one.body)["event"] for one in hook.taken]
    assert told == ["run_started", "run_ok"]
    assert "dcmvault_" in metrics
    assert "SECRET" not in (metrics + str(hook.taken)).upper()


def test_who_steers_over_the_api_is_in_the_audit_journal(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, configured: Path
) -> None:
    """What was refused, too."""
    daemon = DaemonProcess(start_dcmvault)
    daemon.post("/api/schedules/yearly/disable")
    daemon.ask("/api/queue/cancel", {"run_or_job": "none\nforged line"})
    daemon.post("/api/plans/all/runs")
    daemon.stop()
    found = json.loads(run_dcmvault("audit", "search", "--json").stdout)["events"]
    web = [one for one in found if one["actor"]["kind"] == "web"]
    assert {one["actor"]["address"] for one in web} == {"127.0.0.1"}
    told = sorted((one["details"]["command"], one["outcome"]) for one in web)
    assert told == [
        ("queue cancel", "minor-failure"),
        ("run", "success"),
        ("schedule disable", "success"),
    ]
    assert run_dcmvault("audit", "verify").returncode == 0


@pytest.mark.peers
def test_who_steers_over_the_api_is_told_to_the_collector_while_the_daemon_runs(
    start_dcmvault: StartDcmvault, configured: Path
) -> None:
    """A collector that a changed configuration names, too; nobody waits for a stop or a command."""
    daemon = DaemonProcess(start_dcmvault)
    with rsyslog() as collector:
        with (configured / "config.toml").open("a") as config:
            config.write(
                f'[audit]\ncollector = "tls://{collector.host}:{collector.port}"\n'
                f'tls_ca_file = "{collector.certificate}"\n'
            )
        daemon.post("/api/schedules/yearly/disable")
        told = b64encode(b"schedule disable").decode()
        deadline = time.monotonic() + GENEROUS_S
        while not any(told in one for one in collector.messages()):
            assert time.monotonic() < deadline, collector.messages()
            time.sleep(0.05)
        daemon.stop()
