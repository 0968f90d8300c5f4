"""`dcmvault serve` as a user runs it: it answers, notes who asked, and ends in order."""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.serving_world import findscu, getscu

from dcmvault.testing.dicom_files import make_study

pytestmark = pytest.mark.peers


@pytest.fixture
def vault(tmp_path: Path, run_dcmvault: RunDcmvault) -> str:
    """The address of a vault with one study."""
    make_study(tmp_path / "study", instances=2, patient_name="Secret^Name", patient_id="SECRET")
    address = f"vault:{tmp_path / 'vault'}"
    assert run_dcmvault("vault", "init", address, "--no-encryption").returncode == 0
    assert run_dcmvault("backup", tmp_path / "study", "--to", address).returncode == 0
    return address


def accesses(home: Path) -> list[dict[str, Any]]:
    """Return what the audit journal has of accesses by peers."""
    (path,) = (home / "audit").glob("audit-*.jsonl")
    told = map(json.loads, path.read_text().splitlines())
    return [one for one in told if one["event"] == "access"]


def test_a_vault_is_served(
    tmp_path: Path, home: Path, vault: str, start_dcmvault: StartDcmvault
) -> None:
    serve = start_dcmvault("serve", vault, "--dicom-port", "0", "--json")
    assert serve.stdout is not None
    told = json.loads(serve.stdout.readline())
    assert (told["event"], told["studies"], told["ae_title"]) == ("serving", 1, "DCMVAULT")
    port = told["dicom_port"]
    keys = ("PatientName=secret*", "StudyInstanceUID")
    (answer,) = findscu(port, tmp_path / "found", "STUDY", keys, "-S", "-aet", "READER")
    named = [f"StudyInstanceUID={answer.StudyInstanceUID}", "QueryRetrieveLevel=STUDY"]
    assert getscu(port, tmp_path / "got", named, "-S").returncode == 0
    assert len(list((tmp_path / "got").iterdir())) == 2
    serve.send_signal(signal.SIGTERM)
    rest, errors = serve.communicate(timeout=30)
    assert (serve.returncode, errors) == (0, "")
    assert json.loads(rest) == {"event": "stopped"}
    found, got = accesses(home)
    assert (found["details"]["service"], found["details"]["answers"]) == ("C-FIND", 1)
    assert (found["actor"]["kind"], found["actor"]["name"]) == ("peer", "READER")
    assert (got["details"]["service"], got["details"]["sent"]) == ("C-GET", 2)
    assert got["study_instance_uids"] == [answer.StudyInstanceUID]
    for path in home.rglob("*.jsonl"):
        assert "SECRET" not in path.read_text().upper()


def test_a_vault_is_served_over_http(home: Path, vault: str, start_dcmvault: StartDcmvault) -> None:
    serve = start_dcmvault("serve", vault, "--dicom-port", "0", "--web-port", "0", "--json")
    assert serve.stdout is not None
    root = json.loads(serve.stdout.readline())["web_address"]
    with urllib.request.urlopen(f"{root}/studies?PatientName=secret*", timeout=30) as answer:
        (study,) = json.load(answer)
    assert study["00100020"]["Value"] == ["SECRET"]
    serve.send_signal(signal.SIGTERM)
    _rest, errors = serve.communicate(timeout=30)
    assert (serve.returncode, errors) == (0, "")
    (found,) = (one["details"] for one in accesses(home))
    assert (found["service"], found["outcome"], found["answers"]) == ("QIDO-RS", "200", 1)
    for path in home.rglob("*.jsonl"):
        assert "SECRET" not in path.read_text().upper()


def test_nobody_is_served_over_http_from_everywhere(
    home: Path, vault: str, run_dcmvault: RunDcmvault
) -> None:
    (home / "config.toml").write_text(
        "[serve]\nhost = '0.0.0.0'\npeers = [{network = '0.0.0.0/0'}]\n"
    )
    ran = run_dcmvault("serve", vault, "--dicom-port", "0", "--web-port", "0")
    assert (ran.returncode, ran.stdout) == (4, "")
    assert "web_tokens" in ran.stderr


def test_what_cannot_be_served_is_said(vault: str, run_dcmvault: RunDcmvault) -> None:
    for arguments, says in (
        (("--snapshot", "deadbeef"), "has no snapshot"),
        (("--snapshot", "latest", "--as-of", "2026-01-31"), "a snapshot or a time"),
        (("--as-of", "1999-01-01"), "no snapshot from"),
    ):
        ran = run_dcmvault("serve", vault, *arguments)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert says in ran.stderr
