"""The release before the newest change of the schema, built from this repository's history."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

from dcmvault.catalogue.migrate import REVISIONS

ROOT = Path(__file__).resolve().parents[2]
_REVISIONS = "src/dcmvault/catalogue/migrations/versions"
_VENDOR = "src/dcmvault/web/assets/vendor"
_LONG_S = 300


def commit_before_the_newest_schema() -> str:
    """Name it; the test fails, with what to do, where the history does not reach so far."""
    (newest,) = (ROOT / _REVISIONS).glob(f"v{REVISIONS[-1]}_*.py")
    added = _git(
        *("log", "--first-parent", "--diff-merges=first-parent", "--diff-filter=A"),
        *("--max-count=1", "--no-patch", "--format=%H", "--", str(newest.relative_to(ROOT))),
    )
    if not added:
        # Not committed yet: all that is committed is older.
        return _git("rev-parse", "HEAD")
    found = _git("rev-list", "--max-count=1", f"{added}^1", can_fail=True)
    if not found:
        pytest.fail(
            "This clone does not have the history before the newest change of the schema, of which"
            " the release before is built: git fetch --unshallow"
        )
    return found


def install(folder: Path) -> Path:
    """Build that release's wheel, install it into an environment; return its `dcmvault`.

    It shares the dependencies of this environment, and nothing else.
    """
    source, wheels, environment = folder / "source", folder / "wheels", folder / "environment"
    packed = subprocess.run(
        ["git", "archive", commit_before_the_newest_schema()],
        check=True,
        cwd=ROOT,
        capture_output=True,
        timeout=_LONG_S,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(source, filter="data")
    shutil.copytree(ROOT / _VENDOR, source / _VENDOR, dirs_exist_ok=True)
    _python("-m", "scripts.man_pages", folder=source)
    _python("-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels), folder=source)
    _python("-m", "venv", "--without-pip", str(environment), folder=folder)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    pip = ("-m", "pip", "--python", str(environment / "bin" / "python"), "install", "--quiet")
    (wheel,) = wheels.glob("*.whl")
    _python(*pip, "--no-deps", "--no-index", "--no-warn-script-location", str(wheel), folder=folder)
    return environment / "bin" / "dcmvault"


def _python(*arguments: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LONG_S,
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _git(*arguments: str, can_fail: bool = False) -> str:
    done = subprocess.run(
        ["git", *arguments],
        check=False,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LONG_S,
    )
    assert can_fail or done.returncode == 0, done.stderr
    return done.stdout.strip() if done.returncode == 0 else ""
