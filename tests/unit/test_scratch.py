"""Private folders for temporary files: what a killed process left goes, what is in use stays."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dcmvault.scratch import remove_abandoned, scratch_folder

_HOLDS_ONE = """
import sys
from dcmvault.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "patient.dcm").write_bytes(b"data")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def _holder() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDS_ONE], stdin=-1, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_private_and_gone_at_the_end(tmp_path: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == tmp_path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """By the next process that makes one; the folder of a living one is left alone."""
    dead, left = _holder()
    living, used = _holder()
    try:
        dead.send_signal(signal.SIGKILL)
        dead.communicate()
        assert (left / "patient.dcm").exists()
        next_one, _folder = _holder()
        next_one.communicate()
        assert not left.exists()
        assert (used / "patient.dcm").exists()
        remove_abandoned(tmp_path)
        assert (used / "patient.dcm").exists()
    finally:
        living.communicate()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_folder_of_ours_stays(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    (tmp_path / "dcmvault-scratch-link").symlink_to(other)
    (tmp_path / "dcmvault-scratch-file").touch()
    remove_abandoned(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert (other / "file").exists()
