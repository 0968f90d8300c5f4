"""The owner lock of an embedded state folder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dcmvault.engine.ownership import Ownership
from dcmvault.errors import StateError

_HOLDER = """
import sys
from pathlib import Path
from dcmvault.engine.ownership import Ownership
assert Ownership(Path(sys.argv[1])).try_acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    first, second = Ownership(tmp_path), Ownership(tmp_path)
    assert second.owner_pid() is None
    assert first.try_acquire()
    assert first.try_acquire()
    assert not second.try_acquire()
    assert second.owner_pid() == os.getpid()
    assert stat.S_IMODE((tmp_path / "owner.lock").stat().st_mode) == 0o600
    first.release()
    first.release()
    assert second.owner_pid() is None
    assert second.try_acquire()
    second.release()


def test_kernel_releases_the_lock_of_a_killed_owner(tmp_path: Path) -> None:
    ownership = Ownership(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert not ownership.try_acquire()
        assert ownership.owner_pid() == holder.pid
        holder.kill()
        holder.wait()
        assert ownership.try_acquire()
    ownership.release()


def test_missing_state_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateError):
        Ownership(tmp_path / "missing").try_acquire()
