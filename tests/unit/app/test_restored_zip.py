"""A ZIP file is written by one restore at a time, and its end is read again before it is named."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from dcmvault.app.restored_zip import RestoreZip
from dcmvault.errors import DestinationStoppedError, UsageError
from dcmvault.model.restored import FileToRestore


def put(target: RestoreZip, name: str, content: bytes) -> None:
    file = FileToRestore((name,), len(content), hashlib.sha256(content).digest())
    target.write(file, [content])
    assert b"".join(target.read_back(file)) == content


def test_one_restore_at_a_time(tmp_path: Path) -> None:
    """The second neither ends the first nor has its half file named."""
    place = tmp_path / "a.zip"
    first, second = RestoreZip(place), RestoreZip(place)
    with first.open():
        put(first, "x", b"first")
        with pytest.raises(UsageError, match="Another restore"), second.open():
            pass
    with zipfile.ZipFile(place) as opened:
        assert opened.read("x") == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_what_a_killed_restore_left_goes_and_what_it_named_stays(tmp_path: Path) -> None:
    """Killed between naming and removing: both names are of one file, which is not written to."""
    moved = tmp_path / "moved.zip"
    moved.write_bytes(b"whole")
    (tmp_path / ".a.zip.part").hardlink_to(moved)
    target = RestoreZip(tmp_path / "a.zip")
    with target.open():
        put(target, "x", b"content")
    assert moved.read_bytes() == b"whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "moved.zip"]


def test_a_list_that_the_disk_lost_gives_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written last (the list, the DICOMDIR) is read back, too."""
    target = RestoreZip(tmp_path / "a.zip")

    def rot(path: Path) -> None:
        path.write_bytes(path.read_bytes().replace(b"last", b"lost"))

    def write() -> None:
        with target.open():
            put(target, "first", b"content")
            target.write(FileToRestore(("last",), 7, b""), [b"content"])
            monkeypatch.setattr("dcmvault.app.restored_zip.make_file_durable", rot)

    with pytest.raises(DestinationStoppedError):
        write()
    assert list(tmp_path.iterdir()) == []
