"""`dcmvault serve` without a vault, as its users meet it."""

from __future__ import annotations

import json
import signal
import ssl
import stat
import subprocess
import threading
import time
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from scripts.peer_launch import free_port
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.daemon_world import GENEROUS_S, DaemonProcess, configure
from tests.integration.story import instances, summary_of
from tests.integration.tls_world import HOST, Authority

from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peers import SimulatedPacs

SECRET = "Secret^Name"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    for number in range(3):
        make_study(
            tmp_path / "studies" / str(number),
            key=f"served-{number}",
            patient_name=SECRET,
            patient_id="SECRET-7",
        )
    return tmp_path / "studies"


def test_a_plan_is_started_followed_and_told(
    start_dcmvault: StartDcmvault, home: Path, tmp_path: Path, studies: Path
) -> None:
    configure(home, destination=str(tmp_path / "copies"), plans={"all": (studies, "high")})
    daemon = DaemonProcess(start_dcmvault)
    (plan,) = daemon.get("/api/plans")["plans"]
    assert (plan["name"], plan["destinations"], plan["priority"]) == ("all", ["there"], "high")
    events = daemon.listen()
    (started,) = daemon.post("/api/plans/all/runs")["runs"]
    assert not started["continued"]
    ended = events.wait_for("run", lambda data: data["finished_at"])
    assert (ended["run"], ended["state"]) == (started["run"], "finished")
    assert (ended["progress"]["sent"], ended["progress"]["failed"]) == (9, 0)
    run = daemon.get(f"/api/runs/{started['run']}")
    assert run["summary"]["instances"]["stored"] == 9
    assert run["run"] == daemon.get("/api/runs")["runs"][0]
    status = daemon.wait_for("/api/status", lambda answer: _levels(answer) == {"proven": 9})
    assert status["daemon"]["working"]
    told = json.dumps([status, run, ended, daemon.get("/api/queue")])
    assert "SECRET" not in told.upper()
    paths = daemon.get("/api/openapi.json")["paths"]
    assert {"/healthz", "/metrics", "/api/status", "/api/events"} <= set(paths)
    daemon.stop()
    assert "SECRET" not in "".join(p.read_text().upper() for p in (home / "logs").iterdir())


def _levels(status: Any) -> Any:
    """Return how many instances the one source has at each level; nothing before it is counted."""
    sources = status["sources"]
    return sources[0]["destinations"][0]["by_level"] if sources else None


def test_what_is_asked_wrongly_is_told_in_sentences(
    start_dcmvault: StartDcmvault, home: Path
) -> None:
    daemon = DaemonProcess(start_dcmvault)
    for path, body, status in (
        ("/api/plans/none/runs", {}, 404),
        ("/api/runs/none", None, 404),
        ("/api/queue/pause", {"destination": "none"}, 409),
        ("/api/queue/cancel", {"run_or_job": "none"}, 409),
        ("/api/queue/prioritise", {"job": "none", "priority": "soon"}, 422),
        ("/api/queue/pause", {"other": 1}, 422),
        ("/api/events?topics=weather", None, 422),
        ("/api/nothing", None, 404),
    ):
        answered, answer = daemon.ask(path, body)
        assert (answered, bool(answer["error"]["message"])) == (status, True), (path, answer)
    daemon.stop()


def test_the_token_is_shown_once_and_kept_as_a_digest(
    start_dcmvault: StartDcmvault, home: Path
) -> None:
    first = DaemonProcess(start_dcmvault)
    kept = home / "api-token.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert first.ask("/api/runs", token="")[0] == 401
    assert first.ask("/api/runs", token=first.token[:-1])[0] == 401
    assert first.ask("/healthz", token="") == (200, {"status": "ok"})
    first.stop()
    second = DaemonProcess(start_dcmvault, token=first.token)
    assert second.told["token"] is None
    assert second.get("/api/runs") == {"runs": []}
    second.stop()
    for path in home.rglob("*"):
        assert not path.is_file() or first.token.encode() not in path.read_bytes()


def test_a_second_daemon_is_refused(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, home: Path
) -> None:
    daemon = DaemonProcess(start_dcmvault)
    ran = run_dcmvault("serve", "--web-port", "0")
    assert ran.returncode == 1
    assert f"process {daemon.process.pid}" in ran.stderr
    error = json.loads(run_dcmvault("serve", "--web-port", "0", "--json").stdout)["error"]
    assert error["code"] == "daemon_running"
    assert daemon.get("/healthz") == {"status": "ok"}
    daemon.stop()
    DaemonProcess(start_dcmvault, token=daemon.token).stop()


def test_a_port_that_is_taken_costs_no_token(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, home: Path
) -> None:
    with SimulatedPacs() as pacs:
        ran = run_dcmvault("serve", "--web-port", str(pacs.port))
        assert ran.returncode == 1
        assert "--web-port" in ran.stderr
    daemon = DaemonProcess(start_dcmvault)
    assert daemon.told["token"]
    daemon.stop()


def test_a_command_gives_its_work_to_the_daemon_and_follows(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, tmp_path: Path, studies: Path
) -> None:
    daemon = DaemonProcess(start_dcmvault)
    command = ("backup", studies, "--to", tmp_path / "copies", "--json", "--progress", "json")
    done = run_dcmvault(*command)
    assert instances(summary_of(done)) == {"selected": 9, "stored": 9}
    assert '"working": true' not in done.stderr
    daemon.stop()
    # And without the daemon the command does it itself.
    assert '"working": true' in run_dcmvault(*command).stderr


def test_the_daemon_takes_over_from_a_command(
    start_dcmvault: StartDcmvault, home: Path, tmp_path: Path
) -> None:
    for number in range(3):
        make_study(tmp_path / "studies" / str(number), key=f"over-{number}", instances=100)
    with SimulatedPacs() as pacs:
        to = f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"
        command = start_dcmvault("backup", tmp_path / "studies", "--to", to)
        while not pacs.received:
            assert command.poll() is None, command.communicate()
        daemon = DaemonProcess(start_dcmvault)
        command.kill()
        daemon.wait_for("/api/runs/latest", lambda answer: answer["run"]["finished_at"])
        assert len(pacs.held()) == 300
        assert len(pacs.received) - 300 <= pacs.most_associations
        daemon.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_closes_streams_and_keeps_work(
    start_dcmvault: StartDcmvault, home: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """With streams open, one of them unread, and a run at work."""
    for study in range(3):
        make_study(tmp_path / "studies" / str(study), key=f"stop-{study}", instances=150)
    with SimulatedPacs() as pacs:
        to = f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"
        configure(home, destination=to, plans={"all": (tmp_path / "studies", "normal")})
        daemon = DaemonProcess(start_dcmvault)
        unread, read = daemon.listen(), daemon.listen()
        reader = threading.Thread(target=list, args=[read])
        reader.start()
        daemon.post("/api/plans/all/runs")
        while len(pacs.received) < 50:
            pass
        daemon.process.send_signal(number)
        reader.join(60)
        assert not reader.is_alive()
        unread.close()
        read.close()
        out, errors = daemon.process.communicate(timeout=60)
        assert (daemon.process.returncode, errors) == (0, "")
        assert json.loads(out.splitlines()[-1]) == {"event": "stopped"}
        assert len(pacs.received) < 450
        daemon = DaemonProcess(start_dcmvault, token=daemon.token)
        daemon.wait_for("/api/runs/latest", lambda answer: answer["run"]["finished_at"])
        assert (len(pacs.received), len(pacs.held())) == (450, 450)
        daemon.stop()


def test_a_changed_configuration_is_read_anew(
    start_dcmvault: StartDcmvault, home: Path, tmp_path: Path, studies: Path
) -> None:
    config = home / "config.toml"
    daemon = DaemonProcess(start_dcmvault)
    configure(home, destination=str(tmp_path / "copies"), plans={"all": (studies, "normal")})
    config.write_text(config.read_text() + "[web]\nport = 9999\n")
    told = _last_change(daemon)
    assert told["after_restart"] == ["retry.wait_s", "web.port"]
    assert told["in_force"] == ["destinations.there", "plans.all"]
    (started,) = daemon.post("/api/plans/all/runs")["runs"]
    daemon.wait_for(f"/api/runs/{started['run']}", lambda answer: answer["run"]["finished_at"])

    config.write_text(config.read_text().replace("port = 9999", "prt = 1"))
    refusal = _last_change(daemon, lambda told: told["refusal"])["refusal"]
    assert "web.prt" in refusal["message"] + refusal["hint"]
    assert daemon.get("/api/plans")["plans"]

    config.write_text("")
    daemon.process.send_signal(signal.SIGHUP)
    told = _last_change(daemon, lambda told: not told["refusal"])
    assert told["after_restart"] == []
    assert daemon.get("/api/plans") == {"plans": []}
    events = [one["event"] for one in daemon.stop()]
    assert events == ["configuration"] * 3 + ["stopped"]


def _last_change(daemon: DaemonProcess, is_so: Any = lambda told: told["after_restart"]) -> Any:
    answer = daemon.wait_for("/api/status", lambda answer: is_so(answer["daemon"]["configuration"]))
    return answer["daemon"]["configuration"]


@pytest.mark.peers
def test_what_is_pushed_is_backed_up_by_the_plan_that_takes_it(
    start_dcmvault: StartDcmvault, home: Path, tmp_path: Path
) -> None:
    made = make_study(tmp_path / "pushed", key="pushed", instances=3, patient_name=SECRET)
    configure(home, destination=str(tmp_path / "copies"), plans={})
    port = free_port()
    with (home / "config.toml").open("a") as config:
        config.write(
            f"[listener]\nport = {port}\nsettle_s = 0.2\nkeep_days = 0\nreserve_mb = 10\n"
            '[plans.pushed]\nsources = ["listener:"]\ndestinations = ["there"]\n'
        )
    daemon = DaemonProcess(start_dcmvault)
    assert daemon.told["listener_port"] == port
    files = [str(one.path) for one in made]
    storescu = ["storescu", "-aec", "DCMVAULT", "127.0.0.1", str(port), *files]
    subprocess.run(storescu, check=True, timeout=60)
    run = daemon.wait_for(
        "/api/runs", lambda answer: answer["runs"] and answer["runs"][0]["finished_at"]
    )
    assert run["runs"][0]["source"] == "listener:"
    spool = home / "spool"
    daemon.wait_for("/api/status", lambda answer: _levels(answer) == {"proven": 3})
    deadline = time.monotonic() + GENEROUS_S
    while list(spool.rglob("*.dcm")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    daemon.stop()
    assert "SECRET" not in "".join(p.read_text().upper() for p in (home / "logs").iterdir())


def test_two_plans_for_what_is_pushed_are_refused(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    configure(home, destination=str(tmp_path / "copies"), plans={})
    with (home / "config.toml").open("a") as config:
        for name in ("one", "two"):
            plan = 'sources = ["listener:"]\ndestinations = ["there"]\n'
            config.write(f"[plans.{name}]\n{plan}")
    ran = run_dcmvault("serve", "--web-port", "0")
    assert ran.returncode == 4
    assert "one, two" in ran.stderr


def test_other_machines_need_tls(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = home / "config.toml"
    config.write_text('[web]\nhost = "0.0.0.0"\n')
    ran = run_dcmvault("serve", "--web-port", "0")
    assert ran.returncode == 4
    assert "tls_certificate_file" in ran.stderr
    authority = Authority(tmp_path)
    identity = authority.issue("daemon", passphrase="open")
    config.write_text(
        f'[web]\ntls_certificate_file = "{identity.certificate}"\n'
        f'tls_key_file = "{identity.key}"\ntls_key_passphrase = "env:WEB_KEY"\n'
    )
    refused = run_dcmvault("serve", "--web-port", "0", env={"WEB_KEY": "wrong"})
    assert (refused.returncode, "tls_key_passphrase" in refused.stderr) == (4, True)
    monkeypatch.setenv("WEB_KEY", "open")
    daemon = DaemonProcess(start_dcmvault)
    place = urlsplit(daemon.address)
    assert place.scheme == "https"
    trusting = ssl.create_default_context(cafile=str(authority.ca_file))
    headers = {"Authorization": f"Bearer {daemon.token}"}
    connection = HTTPSConnection(HOST, place.port, context=trusting, timeout=GENEROUS_S)
    with closing(connection):
        connection.request("GET", "/api/runs", headers=headers)
        assert json.load(connection.getresponse()) == {"runs": []}
    daemon.stop()
