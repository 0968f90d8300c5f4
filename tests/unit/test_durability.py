"""What is called durable is brought to the medium by one rule, wherever it is written."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import sys
from pathlib import Path

import pytest

import dcmvault
from dcmvault.durability import (
    make_durable,
    make_file_system_durable,
    make_folder_durable,
    make_names_durable,
)

FULL = 51


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A system on which fsync(2) leaves bytes in the drive's cache; what is asked of it."""
    asked: list[str] = []

    def full(descriptor: int, command: int) -> int:
        assert command == FULL
        asked.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        return 0

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", full)
    monkeypatch.setattr(os, "fsync", lambda _descriptor: asked.append("fsync"))
    return asked


def test_a_drives_cache_is_emptied_where_that_can_be_asked(tmp_path: Path, mac: list[str]) -> None:
    with (tmp_path / "file").open("wb") as file:
        make_durable(file.fileno())
    make_names_durable(tmp_path)
    make_file_system_durable(tmp_path)
    assert mac == ["file", "folder", "folder"]


def test_a_network_mount_that_refuses_is_synced(
    tmp_path: Path, mac: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _command: int) -> int:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with (tmp_path / "file").open("wb") as file:
        make_durable(file.fileno())
    assert mac == ["fsync"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_folder_that_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A server orders names itself where it says that this is no question; an error is one."""

    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        if number == errno.EINVAL:
            make_folder_durable(descriptor)
        else:
            with pytest.raises(OSError, match=os.strerror(number)):
                make_folder_durable(descriptor)
    finally:
        os.close(descriptor)


def test_nobody_else_syncs() -> None:
    """The rule stands in one place."""
    root = Path(dcmvault.__file__).parent
    direct = re.compile(r"os\.fsync\(|F_FULLFSYNC")
    found = [
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if direct.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["durability.py"]
