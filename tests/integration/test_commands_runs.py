"""The commands around a backup, as a user meets them: status, report, node echo, doctor, config."""

from __future__ import annotations

import csv
import io
import json
import signal
import stat
from pathlib import Path

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.story import QUICK_RETRIES, summary_of

from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peer_faults import slow
from dcmvault.testing.peers import SimulatedPacs


@pytest.fixture
def studies(tmp_path: Path, home: Path) -> Path:
    (home / "config.toml").write_text(QUICK_RETRIES)
    for key in ("a", "b"):
        make_study(
            tmp_path / "studies" / key,
            key=key,
            instances=4,
            patient_name="Silva^Ana",
            patient_id="ID-77",
        )
    return tmp_path / "studies"


def pacs_of(orthanc: Orthanc) -> str:
    return f"dicom://{orthanc.ae_title}@{orthanc.host}:{orthanc.dicom_port}"


SUMMARY_KEYS = {
    "run",
    "level",
    "instances",
    "bytes",
    "studies",
    "duration_s",
    "stages",
    "exit_status",
    "failures",
}
FAILURE_KEYS = {
    "sop_instance_uid",
    "study_instance_uid",
    "destination",
    "code",
    "status",
    "message",
    "hint",
}


def test_the_contract_of_json_holds_for_success_and_failure(
    run_dcmvault: RunDcmvault, studies: Path, tmp_path: Path
) -> None:
    good = run_dcmvault("backup", studies, "--to", tmp_path / "copies", "--json")
    summary = summary_of(good)
    assert set(summary) >= SUMMARY_KEYS
    assert set(summary["stages"]) >= {"scan", "read", "encode", "deliver", "verify"}
    assert summary["stages"]["read"] > 0
    assert summary["stages"]["verify"] > 0
    (studies / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM")
    with SimulatedPacs() as pacs:
        address = f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"
        bad = run_dcmvault(
            "backup",
            studies,
            "--to",
            address,
            "--json",
            "--progress",
            "json",
            env={"DCMVAULT_LANGUAGE": "pt-BR"},
        )
    summary = summary_of(bad, exit_status=3)
    assert set(summary) >= SUMMARY_KEYS
    (failure,) = summary["failures"]
    assert set(failure) >= FAILURE_KEYS
    assert failure["message"].startswith("this file cannot go to a PACS"), "the same for everybody"
    events = [json.loads(line) for line in bad.stderr.splitlines()]
    assert {event["event"] for event in events} == {"progress"}
    assert events[-1]["state"] == "finished"
    assert {"instances_per_s", "bytes_per_s", "eta_s"} <= set(events[0])


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("backup", "SOURCE", "--json"), 2, "usage"),
        (
            ("backup", "SOURCE", "--to", "COPIES", "--verify", "committed", "--json"),
            2,
            "level_not_supported",
        ),
        (("backup", "SOURCE", "--to", "SOURCE", "--json"), 2, "usage"),
        (("backup", "SOURCE", "--to", "pacs:104", "--json"), 2, "bad_address"),
        (("verify", "SOURCE", "--at", "COPIES", "--json"), 2, "usage"),
        (("report", "nonsense"), 2, ""),
        (("queue", "cancel", "nonsense", "--json"), 2, "usage"),
        (("node", "echo", "dicom://A@b:0", "--json"), 2, "bad_address"),
    ],
)
def test_usage_errors_are_one_object_and_start_nothing(
    run_dcmvault: RunDcmvault,
    studies: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    status: int,
    code: str,
) -> None:
    places = {"SOURCE": str(studies), "COPIES": str(tmp_path / "copies")}
    done = run_dcmvault(*(places.get(argument, argument) for argument in arguments))
    assert done.returncode == status
    if code:
        answer = json.loads(done.stdout)
        assert answer["error"]["code"] == code
        assert answer["error"]["message"]
        assert done.stderr == ""
    else:
        assert done.stdout == ""
        assert done.stderr.startswith("dcmvault: ")
    assert json.loads(run_dcmvault("status", "--json").stdout)["runs"] == []


def test_a_wrong_configuration_is_one_object(
    run_dcmvault: RunDcmvault, studies: Path, home: Path
) -> None:
    (home / "config.toml").write_text("[retry]\nattemps = 3\n")
    done = run_dcmvault("backup", studies, "--to", "./x", "--json")
    answer = summary_of(done, exit_status=4)
    assert "line 2, retry.attemps" in answer["error"]["message"]
    assert "attempts" in answer["error"]["message"]
    assert run_dcmvault("config", "check").returncode == 4
    assert run_dcmvault("doctor").returncode == 1


@pytest.mark.peers
def test_status_tells_what_is_protected_and_forgets_misspelt_paths(
    run_dcmvault: RunDcmvault, orthanc: Orthanc, studies: Path, tmp_path: Path
) -> None:
    before = run_dcmvault("status")
    assert "Nothing was backed up yet" in before.stdout
    assert run_dcmvault("backup", f"{studies}x", "--to", tmp_path / "copies").returncode == 1
    assert "Nothing was backed up yet" in run_dcmvault("status").stdout
    pacs = pacs_of(orthanc)
    summary_of(run_dcmvault("backup", studies, "--to", pacs, "--to", tmp_path / "copies", "--json"))
    shown = run_dcmvault("status").stdout
    assert "2 studies, 8 instances" in shown
    assert "✓ " in shown
    assert "(8 complete)" in shown
    assert "(8 proven)" in shown
    assert "Silva" not in shown
    orthanc.rest(f"/instances/{orthanc.rest('/instances')[0]}", method="DELETE")
    summary_of(run_dcmvault("verify", studies, "--at", pacs, "--json"), exit_status=3)
    shown = run_dcmvault("status").stdout
    assert "1 of 2 studies protected, 7 of 8 instances held" in shown
    assert "✗ " in shown


def test_what_was_never_backed_up_is_not_verified(
    run_dcmvault: RunDcmvault, studies: Path, tmp_path: Path
) -> None:
    summary_of(run_dcmvault("backup", studies, "--to", tmp_path / "copies", "--json"))
    done = run_dcmvault("verify", f"{studies}x", "--at", tmp_path / "copies")
    assert done.returncode == 2
    assert str(studies) in done.stderr


def test_reports_in_every_format_keep_patients_out_unless_asked(
    run_dcmvault: RunDcmvault, studies: Path, tmp_path: Path, home: Path
) -> None:
    run = summary_of(run_dcmvault("backup", studies, "--to", tmp_path / "copies", "--json"))["run"]
    path = Path(run_dcmvault("report", run, "--format", "html").stdout.strip())
    assert path.parent == home / "reports"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    page = path.read_text("utf-8")
    assert "All 8 copies are backed up and verified." in page
    texts = {
        privacy: {
            kind: run_dcmvault(
                "report", run, "--format", kind, "--privacy", privacy, "--output", "-"
            ).stdout
            for kind in ("html", "text", "csv", "json")
        }
        for privacy in ("off", "ids", "full")
    }
    for kind, text in texts["off"].items():
        assert "Silva" not in text, kind
        assert "ID-77" not in text, kind
    assert all("ID-77" in text and "Silva" not in text for text in texts["ids"].values())
    assert all("Silva" in text for text in texts["full"].values())
    table = list(csv.DictReader(io.StringIO(texts["full"]["csv"])))
    assert [row["held"] for row in table] == ["4", "4"]
    assert json.loads(texts["off"]["json"])["run"] == run
    portuguese = run_dcmvault("--lang", "pt-BR", "report", run, "--format", "text")
    assert "cópias" in portuguese.stdout
    assert run in run_dcmvault("report").stdout, "the newest run is meant where none is named"


def test_failures_are_read_in_the_readers_language(
    run_dcmvault: RunDcmvault, studies: Path
) -> None:
    with SimulatedPacs(allowed_ae_titles=["FRIEND"]) as pacs:
        address = f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"
        done = run_dcmvault("backup", studies, "--to", address, "--progress", "none")
        assert done.returncode == 5
        assert "it does not know our (calling) AE title" in done.stdout
        probe = run_dcmvault("--lang", "pt-BR", "node", "echo", address)
    portuguese = run_dcmvault("--lang", "pt-BR", "report").stdout
    for text in (portuguese, probe.stdout):
        assert "não conhece o nosso AE title (calling)" in text
        assert "Cadastre o nosso AE title no PACS" in " ".join(text.split())


def test_node_echo_names_the_rung_that_fails(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    def rungs(address: str | Path, exit_status: int) -> list[tuple[str, bool]]:
        done = run_dcmvault("node", "echo", address, "--json")
        answer = summary_of(done, exit_status)
        assert answer["ok"] is (exit_status == 0)
        assert all(step["hint"] for step in answer["steps"] if not step["ok"])
        return [(step["name"], step["ok"]) for step in answer["steps"]]

    with SimulatedPacs(allowed_ae_titles=["FRIEND"]) as pacs:
        there = f"127.0.0.1:{pacs.port}"
        assert rungs(f"dicom://X@{there}?calling=FRIEND", 0)[-1] == ("echo", True)
        assert rungs(f"dicom://X@{there}", 5)[-1] == ("associate", False)
    assert rungs(f"dicom://X@{there}", 5)[-1] == ("connect", False)
    assert rungs("dicom://X@nothing.invalid:104", 5) == [("resolve", False)]
    assert rungs(tmp_path, 0)[-1] == ("space", True)
    (tmp_path / "file").touch()
    assert rungs(tmp_path / "file", 5) == [("folder", False)]
    assert list(home.iterdir()) == [], "trying a destination leaves nothing behind"


def test_doctor_makes_nothing_and_names_what_is_wrong(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "not-made-yet"
    done = run_dcmvault("doctor", "--json", env={"DCMVAULT_HOME": str(elsewhere)})
    assert {check["ok"] for check in summary_of(done)["checks"]} == {True, None}
    assert not elsewhere.exists()
    (home / "config.toml").write_text(
        f'[sources.main]\naddress = "{tmp_path}/gone"\n'
        '[destinations.pacs]\naddress = "dicom://A@127.0.0.1:1"\n'
    )
    done = run_dcmvault("doctor", "--json")
    wrong = {c["name"]: c["hint"] for c in summary_of(done, 1)["checks"] if c["ok"] is False}
    assert set(wrong) == {"source main", "destination pacs"}
    assert all(wrong.values())


def test_a_dry_run_foretells_the_run_and_sends_nothing(
    run_dcmvault: RunDcmvault, studies: Path, tmp_path: Path
) -> None:
    command = ("backup", studies, "--to", tmp_path / "copies")
    told = summary_of(run_dcmvault(*command, "--dry-run", "--explain", "--json"))
    assert told["dry_run"] is True
    (there,) = told["destinations"]
    assert (there["selected"], there["already_held"], there["reasons"]) == (8, 0, {"new": 8})
    assert len(told["explanation"]) == 8
    assert not (tmp_path / "copies").exists()
    assert "8 instances due" in run_dcmvault(*command, "--dry-run").stdout
    assert json.loads(run_dcmvault("status", "--json").stdout)["runs"] == []
    done = run_dcmvault(*command, "--explain", "--json")
    summary = summary_of(done)
    assert summary["instances"]["stored"] == 8
    assert [one["reason"] for one in summary["explanation"]] == ["new"] * 8


def test_ctrl_c_keeps_the_rest_and_the_same_command_goes_on(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, studies: Path
) -> None:
    make_study(studies / "c", key="c", instances=36)
    with SimulatedPacs(slow(0.4)) as pacs:
        address = f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"
        command = ("backup", studies, "--to", address, "--json")
        process = start_dcmvault(*command, "--progress", "json")
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line)["sent"]:
                break
        process.send_signal(signal.SIGINT)
        stdout, _rest = process.communicate(timeout=60)
        assert process.returncode == 130
        answer = json.loads(stdout)
        assert (answer["error"]["code"], answer["exit_status"]) == ("interrupted", 130)
        assert len(pacs.held()) < 44
        summary = summary_of(run_dcmvault(*command))
        assert summary["instances"]["stored"] == 44
        assert len(pacs.held()) == 44


def test_a_reader_that_went_away_is_no_drama(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, studies: Path, tmp_path: Path
) -> None:
    summary_of(run_dcmvault("backup", studies, "--to", tmp_path / "copies", "--json"))
    process = start_dcmvault("report", "--format", "csv")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.wait(timeout=60)


def test_config_is_written_checked_and_shown(
    run_dcmvault: RunDcmvault, home: Path, studies: Path
) -> None:
    (home / "config.toml").unlink()
    done = run_dcmvault("config", "init", "--source", studies, "--to", "dicom://A@b:104")
    assert done.stdout.strip() == str(home / "config.toml")
    assert stat.S_IMODE((home / "config.toml").stat().st_mode) == 0o600
    assert summary_of(run_dcmvault("config", "check", "--json"))["exists"] is True
    settings = summary_of(run_dcmvault("config", "show", "--json"))["settings"]
    assert settings["sources"]["main"]["address"] == str(studies)
    told = summary_of(run_dcmvault("backup", "main", "--to", "pacs", "--dry-run", "--json"))
    assert told["destinations"][0]["level"] == "complete"
