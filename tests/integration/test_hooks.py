"""Hooks: the user's own commands get JSON, a time limit and no secrets; a failure has its mode."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import RunDcmvault
from tests.integration.story import QUICK_RETRIES, summary_of

from dcmvault.app.hooks import call_hook
from dcmvault.config.hooks_section import HookSection
from dcmvault.ports.queue import StageInterruption
from dcmvault.testing.dicom_files import make_study

SHELL = "/bin/sh"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    for key in ("a", "b"):
        make_study(tmp_path / "studies" / key, key=key, instances=2, patient_name="Secret^Name")
    return tmp_path / "studies"


def _script(path: Path, text: str) -> Path:
    path.write_text(f"#!{SHELL}\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_commands_are_told_of_a_run_its_studies_and_its_end(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path, studies: Path
) -> None:
    told = tmp_path / "told.jsonl"
    script = _script(tmp_path / "hook", f"cat >> '{told}'; env > '{tmp_path}/environment'")
    hook = f'command = ["{script}", "an argument; $(touch never)"]'
    (home / "config.toml").write_text(f"""
[plans.nightly]
sources = ["{studies}"]
destinations = ["{tmp_path / "copies"}"]
[hooks.pre_run]
{hook}
[hooks.per_study]
{hook}
plans = ["nightly"]
[hooks.post_run]
{hook}
plans = ["nightly"]
""")
    done = run_dcmvault("run", "nightly", "--json", env={"S3CRET": "of-the-environment"})
    summary = summary_of(done)
    said = _lines(told)
    assert [one["hook"] for one in said] == ["pre_run", "per_study", "per_study", "post_run"]
    assert {one["run"] for one in said} == {summary["run"]}
    assert {one["plan"] for one in said} == {"nightly"}
    assert said[0]["destinations"] == [str(tmp_path / "copies")]
    assert {(one["held"], one["instances"], one["level"]) for one in said[1:3]} == {
        (2, 2, "proven")
    }
    assert said[3]["instances"] == summary["instances"]
    assert "Secret" not in told.read_text(), "patients are not named"
    environment = (tmp_path / "environment").read_text()
    assert "of-the-environment" not in environment
    assert "DCMVAULT_HOOK=post_run" in environment
    told.unlink()
    summary_of(run_dcmvault("backup", studies, "--to", tmp_path / "other", "--json"))
    assert [one["hook"] for one in _lines(told)] == ["pre_run"], "the others are for a plan"


@pytest.mark.parametrize("mode", ["ignore", "warn", "fail"])
def test_a_failing_command_before_the_run(
    mode: str, run_dcmvault: RunDcmvault, home: Path, tmp_path: Path, studies: Path
) -> None:
    script = _script(tmp_path / "hook", "echo the disk is not there >&2; exit 7")
    (home / "config.toml").write_text(f"""
{QUICK_RETRIES}
[hooks.pre_run]
command = ["{script}"]
on_failure = "{mode}"
""")
    copies = tmp_path / "copies"
    done = run_dcmvault("backup", studies, "--to", copies, "--json")
    summary = summary_of(done, exit_status=1 if mode == "fail" else 0)
    warned = [text for text in summary["warnings"] if "status 7" in text]
    assert len(warned) == (mode == "warn")
    if mode == "fail":
        assert summary["error"]["code"] == "hook_failed"
        assert not copies.exists(), "nothing was done"
        script.write_text(f"#!{SHELL}\nexit 0\n")
        summary_of(run_dcmvault("backup", studies, "--to", copies, "--json"))
    log = (home / "logs" / "dcmvault.log").read_text()
    assert "hook pre_run: the disk is not there" in log


def test_a_failing_command_after_the_run_fails_it_and_loses_nothing(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path, studies: Path
) -> None:
    calls = tmp_path / "calls"
    script = _script(tmp_path / "hook", f"cat >> '{calls}'; exit 1")
    (home / "config.toml").write_text(f"""
[hooks.per_study]
command = ["{script}"]
on_failure = "fail"
[hooks.post_run]
command = ["{script}"]
on_failure = "fail"
""")
    done = run_dcmvault("backup", studies, "--to", tmp_path / "copies", "--json")
    summary = summary_of(done, exit_status=1)
    assert summary["error"]["code"] == "hook_failed"
    assert summary["instances"]["stored"] == 4
    assert [one["hook"] for one in _lines(calls)] == ["per_study", "per_study", "post_run"]
    # What it stored is in the chain of manifests like what other runs stored.
    links = sorted((home / "manifests" / "chain").glob("*.json"))
    assert [link.stem.partition("-")[2] for link in links] == [summary["run"]]
    (home / "config.toml").unlink()
    again = summary_of(run_dcmvault("backup", studies, "--to", tmp_path / "copies", "--json"))
    assert again["instances"]["already_held"] == 4


def test_a_command_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = _script(tmp_path / "hook", f"sleep 600 & echo $! > '{pid_file}'; wait")
    result = call_hook("post_run", HookSection(command=(str(script),), timeout_s=0.5), {})
    assert result.problem == "the hook post_run took longer than 0.5 s"
    child = int(pid_file.read_text())
    for _attempt in range(100):
        if not _runs(child):
            break
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    """Say whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_that_is_none_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    for command in ("/no/such/program", str(tmp_path), "a\0b"):
        result = call_hook("pre_run", HookSection(command=(command,)), {})
        assert result.problem.startswith("the hook pre_run could not be started")


def test_a_command_that_says_much_or_reads_nothing_blocks_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = _script(
        tmp_path / "hook", "head -c 3000000 /dev/zero | tr '\\0' 'x'; printf '\\033[2J'"
    )
    with caplog.at_level("INFO"):
        result = call_hook(
            "pre_run", HookSection(command=(str(script),)), {"large": "y" * 1_000_000}
        )
    assert result.is_good
    assert sum(len(record.getMessage()) for record in caplog.records) < 20_000
    assert "\033" not in caplog.text


def test_a_stop_ends_a_command_that_still_runs(tmp_path: Path) -> None:
    """Else it would run on by itself, and beside its repetition after the next start."""
    pid_file = tmp_path / "pid"
    script = _script(tmp_path / "hook", f"echo $$ > '{pid_file}'; exec sleep 600")
    stopping = threading.Event()
    threading.Timer(0.3, stopping.set).start()
    with pytest.raises(StageInterruption):
        call_hook("pre_run", HookSection(command=(str(script),)), {}, stopping)
    assert not _runs(int(pid_file.read_text()))
    pid_file.unlink()
    with pytest.raises(StageInterruption):
        call_hook("per_study", HookSection(command=(str(script),)), {}, stopping)


def test_what_a_command_says_does_not_fill_the_disk(tmp_path: Path) -> None:
    script = _script(
        tmp_path / "hook",
        "exec 3>&1; head -c 30000000 /dev/zero; sleep 1.5;"
        f" stat -L -c %b /proc/self/fd/3 > '{tmp_path}/blocks'; echo more",
    )
    assert call_hook("pre_run", HookSection(command=(str(script),)), {}).is_good
    assert int((tmp_path / "blocks").read_text()) * 512 < 1_000_000


def test_a_folder_whose_name_is_no_text_is_told_all_the_same(tmp_path: Path) -> None:
    """File systems take any bytes; Python carries them in lone surrogates."""
    script = _script(tmp_path / "hook", f"cat > '{tmp_path}/told'")
    source = os.fsdecode(b"/studies/Jos\xe9")
    assert call_hook("pre_run", HookSection(command=(str(script),)), {"source": source}).is_good
    assert json.loads((tmp_path / "told").read_bytes())["source"] == source


def test_what_ended_by_a_signal_is_told_as_such(tmp_path: Path) -> None:
    script = _script(tmp_path / "hook", "kill -TERM $$")
    result = call_hook("pre_run", HookSection(command=(str(script),)), {})
    assert result.problem == "the hook pre_run was ended by signal 15"
    assert os.environ.get("DCMVAULT_HOOK") is None
