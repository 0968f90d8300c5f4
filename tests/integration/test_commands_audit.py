"""The audit journal as a user meets it: commands write it, and the commands of `audit` show it."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from scripts.peer_syslog import rsyslog
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.story import QUICK_RETRIES

from dcmvault.testing.dicom_files import make_study


@pytest.fixture
def studies(tmp_path: Path, home: Path) -> Path:
    (home / "config.toml").write_text(QUICK_RETRIES)
    where = tmp_path / "studies"
    make_study(where, key="a", instances=2, patient_name="Silva^Ana", patient_id="P7")
    return tmp_path / "studies"


def lines(home: Path) -> list[dict[str, Any]]:
    files = sorted((home / "audit").glob("audit-*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def test_who_did_what_is_written_down_without_patients(
    home: Path, studies: Path, tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    vault = f"vault:{tmp_path / 'vault'}"
    assert run_dcmvault("vault", "init", vault, "--no-encryption").returncode == 0
    assert run_dcmvault("backup", studies, "--to", vault, "--json").returncode == 0
    assert run_dcmvault("verify", studies, "--at", vault, "--json").returncode == 0
    assert run_dcmvault("restore", vault, tmp_path / "back", "--patient", "P7").returncode == 0
    assert run_dcmvault("safe-to-delete", studies, "--json").returncode in {0, 3}
    assert run_dcmvault("forget", vault, "nothing").returncode != 0
    told = lines(home)
    words = [(one["event"], one["outcome"]) for one in told]
    for event in ("run.started", "run.finished", "run.asked", "vault.made", "verify", "restore"):
        assert (event, "success") in words or (event, "begun") in words, event
    assert ("vault.forget", "begun") in words
    assert words[-1][0] == "vault.forget"
    assert words[-1][1] != "success"
    finished = next(one for one in told if one["event"] == "run.finished")
    assert finished["details"]["stored"] == 2
    assert len(finished["study_instance_uids"]) == 1
    assert [one["seq"] for one in told] == list(range(1, len(told) + 1))
    everything = "".join(path.read_text() for path in (home / "audit").glob("*.jsonl"))
    assert "Silva" not in everything
    assert "P7" not in everything
    for path in (home / "audit").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    found = json.loads(
        run_dcmvault("audit", "search", "--event", "vault.", "--last", "1d", "--json").stdout
    )
    assert {one["event"] for one in found["events"]} == {"vault.made", "vault.forget"}
    assert found["events"][0]["actor"]["kind"] == "cli"


def test_who_forgot_what_was_learned_is_written_down(home: Path, run_dcmvault: RunDcmvault) -> None:
    assert run_dcmvault("rules", "reset", "--yes", "--json").returncode == 0
    told = [one for one in lines(home) if one["details"].get("command") == "rules reset"]
    words = [(one["event"], one["outcome"]) for one in told]
    assert words == [("configuration.changed", "begun"), ("configuration.changed", "success")]


def test_a_changed_line_is_found_and_a_kept_head_is_asked_for(
    home: Path, studies: Path, tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    assert run_dcmvault("backup", studies, "--to", tmp_path / "copy", "--json").returncode == 0
    good = run_dcmvault("audit", "verify", "--json")
    verdict = json.loads(good.stdout)
    assert (good.returncode, verdict["whole"], verdict["findings"]) == (0, True, [])
    head = f"{verdict['head']['seq']}:{verdict['head']['sha256']}"
    assert run_dcmvault("audit", "rotate").returncode == 0
    assert run_dcmvault("audit", "verify", "--head", head).returncode == 0

    (first, _second) = sorted((home / "audit").glob("audit-*.jsonl"))
    kept = first.read_text()
    first.write_text(kept.replace('"stored":2', '"stored":9'))
    bad = run_dcmvault("audit", "verify")
    assert bad.returncode == 3
    assert "was changed" in bad.stdout
    first.write_text(kept)
    (home / "audit" / "head.json").unlink()
    assert run_dcmvault("audit", "verify").returncode == 0, "the next line says that it was lost"
    assert any(one["details"].get("reason") == "head-lost" for one in lines(home))
    assert run_dcmvault("audit", "verify", "--head", f"9999:{'0' * 64}").returncode == 3
    assert run_dcmvault("audit", "verify", "--head", "nonsense").returncode == 2


def test_lines_are_exported_byte_for_byte(
    home: Path, studies: Path, tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    run_dcmvault("backup", studies, "--to", tmp_path / "copy", "--json")
    out = tmp_path / "out.jsonl"
    assert run_dcmvault("audit", "export", "--output", out).returncode == 0
    journal = (home / "audit" / "audit-000001.jsonl").read_bytes()
    assert journal.startswith(out.read_bytes())
    assert len(out.read_bytes().splitlines()) == len(journal.splitlines())
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_killed_command_leaves_its_begin(
    home: Path, studies: Path, tmp_path: Path, start_dcmvault: StartDcmvault
) -> None:
    serve = start_dcmvault("listen", "--to", tmp_path / "copy", "--json")
    assert serve.stdout is not None
    serve.stdout.readline()
    os.kill(serve.pid, signal.SIGKILL)
    serve.communicate(timeout=30)
    told = [(one["event"], one["outcome"]) for one in lines(home)]
    assert ("service.started", "begun") in told
    assert not any(event == "service.stopped" for event, _outcome in told)


@pytest.mark.peers
def test_commands_tell_the_collector_and_go_on_without_it(
    home: Path, studies: Path, tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    with rsyslog() as peer:
        (home / "config.toml").write_text(
            f"{QUICK_RETRIES}\n[audit]\ncollector = 'tls://{peer.address}'\n"
            f"tls_ca_file = '{peer.certificate}'\n"
        )
        ran = run_dcmvault("backup", studies, "--to", tmp_path / "copy", "--json")
        assert ran.returncode == 0
        told = json.loads(run_dcmvault("audit", "forward", "--json").stdout)
        assert (told["waiting"], told["skipped"]) == (0, 0)
    again = run_dcmvault("backup", studies, "--to", tmp_path / "copy", "--json")
    assert again.returncode == 0
    away = run_dcmvault("audit", "forward", "--json")
    assert (away.returncode, json.loads(away.stdout)["error"]["code"]) == (
        5,
        "collector_unreachable",
    )
