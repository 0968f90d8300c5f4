"""Reports of periods and destinations from real runs, in every format."""

from __future__ import annotations

import csv
import io
import json
import stat
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault
from tests.integration.story import QUICK_RETRIES

from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peer_faults import slow
from dcmvault.testing.peers import SimulatedPacs


@pytest.fixture
def copy(tmp_path: Path, home: Path, run_dcmvault: RunDcmvault) -> Path:
    """One good run to a folder, and one that reaches nobody."""
    (home / "config.toml").write_text(QUICK_RETRIES)
    make_study(
        tmp_path / "studies", key="a", instances=3, patient_name="Silva^Ana", patient_id="P7"
    )
    run_dcmvault("backup", tmp_path / "studies", "--to", tmp_path / "copy", "--json")
    run_dcmvault(*("backup", tmp_path / "studies", "--to", "dicom://NOBODY@127.0.0.1:9", "--json"))
    return tmp_path / "copy"


def test_a_period_in_every_format(home: Path, copy: Path, run_dcmvault: RunDcmvault) -> None:
    told = json.loads(run_dcmvault("report", "--last", "1d", "--format", "json").stdout)
    assert told["statistics"]["runs"] == 2
    assert told["statistics"]["studies"] == 1
    assert told["statistics"]["instances"]["stored"] == 3
    assert told["statistics"]["instances"]["failed"] == 3
    assert told["statistics"]["success"] == 0.5
    assert {cause["code"] for cause in told["causes"]} == {"unreachable"}
    (here,) = [row for row in told["evidence"] if row["destination"] == str(copy)]
    assert (here["held"], here["by_level"]) == (3, {"proven": 3})
    rows = list(
        csv.DictReader(
            io.StringIO(run_dcmvault("report", "--last", "1d", "--format", "csv").stdout)
        )
    )
    assert (rows[0]["record"], rows[0]["stored"], rows[0]["failed"]) == ("total", "3", "3")
    for format_, starts in (("html", b"<!doctype html>"), ("pdf", b"%PDF-")):
        path = Path(run_dcmvault("report", "--last", "1d", "--format", format_).stdout.strip())
        assert path.read_bytes().startswith(starts)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"Silva" not in path.read_bytes()
    text = run_dcmvault("report", "--last", "1d").stdout
    assert "3 instances did not reach their level." in text
    spoken = run_dcmvault("--lang", "pt-BR", "report", "--last", "1d").stdout
    assert "3 instâncias não alcançaram o seu nível." in spoken


def test_a_destination_and_a_time_before_everything(copy: Path, run_dcmvault: RunDcmvault) -> None:
    told = json.loads(run_dcmvault("report", "--destination", str(copy), "--format", "json").stdout)
    assert (told["statistics"]["runs"], told["statistics"]["success"]) == (1, 1.0)
    assert told["destination"] == str(copy)
    before = run_dcmvault("report", "--until", "2001-01-01", "--format", "json")
    assert json.loads(before.stdout)["runs"] == []
    assert run_dcmvault("report", "--destination", "/never/used").returncode == 2
    assert run_dcmvault("report", "latest", "--last", "1d").returncode == 2
    assert run_dcmvault("report", "--last", "soon").returncode == 2
    assert run_dcmvault("report", "--since", "2026-02-01", "--until", "2026-01-01").returncode == 2


def test_a_run_tells_what_took_its_time(copy: Path, run_dcmvault: RunDcmvault) -> None:
    told = json.loads(run_dcmvault("report", "--destination", str(copy), "--format", "json").stdout)
    run = told["runs"][0]["run"]
    summary = json.loads(run_dcmvault("report", run, "--format", "json").stdout)
    (part,) = summary["performance"]["destinations"]
    assert part["stages"]["deliver"] > 0
    assert part["stages"]["verify"] > 0
    assert part["bytes_per_s"] > 0
    pdf = run_dcmvault("report", run, "--format", "pdf")
    assert Path(pdf.stdout.strip()).read_bytes().startswith(b"%PDF-")


def test_a_peer_that_answers_slowly_is_named(
    home: Path, tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    (home / "config.toml").write_text(QUICK_RETRIES)
    make_study(tmp_path / "studies", key="a", instances=12)
    with SimulatedPacs(slow(0.4)) as pacs:
        address = f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"
        run_dcmvault("backup", tmp_path / "studies", "--to", address, "--json")
    told = json.loads(run_dcmvault("report", "--format", "json").stdout)["performance"]
    assert told["bottleneck"]["kind"] == "answers"
    assert told["bottleneck"]["share"] > 0.6
    assert "TCP_NODELAY" in run_dcmvault("report").stdout


def test_a_limit_that_holds_bytes_back_is_named(
    home: Path, tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    (home / "config.toml").write_text(f"{QUICK_RETRIES}\n[bandwidth]\nrate = '40 kB/s'\n")
    make_study(tmp_path / "studies", key="a", instances=4, rows=160, columns=160)
    with SimulatedPacs() as pacs:
        address = f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"
        run_dcmvault("backup", tmp_path / "studies", "--to", address, "--json")
    told = json.loads(run_dcmvault("report", "--format", "json").stdout)["performance"]
    assert told["bottleneck"]["kind"] == "bandwidth"
    assert "“bandwidth”" in run_dcmvault("report").stdout
