"""The workshop's own promises: what it says when a machine lacks something."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"HOME": str(cwd), "PATH": os.environ["PATH"]},
        timeout=60,
    )


@pytest.mark.parametrize("target", ["demo", "test"])
def test_without_python_make_says_the_one_line(target: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "hatch_build.py", tmp_path / "scripts")
    made = _run("make", target, "PYTHON=", cwd=tmp_path)
    assert made.returncode != 0
    assert "sudo apt-get install -y make python3-venv" in made.stderr
    assert not (tmp_path / ".venv").exists()


def test_make_help_lists_the_targets_of_the_readme() -> None:
    listed = _run("make", "help", cwd=ROOT).stdout
    for target in ("demo", "test", "test-local", "check", "bench", "nightly", "clean"):
        assert f"make {target} " in listed


def test_peers_check_names_what_is_missing(tmp_path: Path) -> None:
    checked = _run(ROOT / "scripts" / "peers", "check", cwd=tmp_path)
    missing = checked.returncode != 0
    assert ("Install once: " in checked.stderr) == missing
    assert ("all installed" in checked.stdout) != missing


def test_continuous_integration_runs_what_developers_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8")
