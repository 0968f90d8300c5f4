from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmvault.app.restored_files import RestoreFolder
from dcmvault.app.restored_names import UNFINISHED_FOLDER
from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    ObjectExistsError,
    UsageError,
    VaultDamagedError,
)
from dcmvault.model.restored import FileToRestore, Parts, Restored

CONTENT = b"bytes of a file"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def folder(root: Path) -> Iterator[RestoreFolder]:
    folder = RestoreFolder(root)
    with folder.open():
        yield folder


def write(folder: RestoreFolder, *parts: str, mtime_ns: int = 0) -> Restored:
    digest = hashlib.sha256(CONTENT).digest()
    file = FileToRestore(parts, len(CONTENT), digest, mtime_ns)
    return folder.write(file, iter([CONTENT[:5], CONTENT[5:]]))


def broken(folder: RestoreFolder, parts: Parts, error: Exception) -> None:
    def pieces() -> Iterator[bytes]:
        yield CONTENT
        raise error

    folder.write(FileToRestore(parts, 99, b""), pieces())


def test_a_file_is_written_once(folder: RestoreFolder, root: Path) -> None:
    assert write(folder, "a", "b", "c", mtime_ns=1_234_567_890_123_456_789) is Restored.WRITTEN
    path = root / "a" / "b" / "c"
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o700
    assert write(folder, "a", "b", "c") is Restored.ALREADY_THERE


@pytest.mark.parametrize("mtime_ns", [-(1 << 62), 1 << 80, -1])
def test_times_that_no_disk_can_hold_cost_no_file(folder: RestoreFolder, mtime_ns: int) -> None:
    assert write(folder, "x", mtime_ns=mtime_ns) is Restored.WRITTEN


def test_what_is_wrong_at_the_end_gets_no_name(folder: RestoreFolder, root: Path) -> None:
    with pytest.raises(VaultDamagedError):
        broken(folder, ("a", "x"), VaultDamagedError("not what was stored"))
    assert list((root / "a").iterdir()) == []
    assert [path.name for path in (root / UNFINISHED_FOLDER).iterdir()] == ["lock"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_full_or_lost_disk_ends_all(folder: RestoreFolder, root: Path, number: int) -> None:
    with pytest.raises(DestinationStoppedError) as caught:
        broken(folder, ("x",), OSError(number, "-"))
    assert caught.value.hint
    assert caught.value.exit_status == 5
    assert str(root) not in caught.value.message
    assert not (root / "x").exists()


def test_a_name_that_the_disk_refuses_is_about_one_file(folder: RestoreFolder) -> None:
    with pytest.raises(DestinationError) as caught:
        write(folder, "x" * 300)
    assert not isinstance(caught.value, DestinationStoppedError)
    assert write(folder, "y") is Restored.WRITTEN


@pytest.mark.parametrize("kind", ["other", "same size", "folder", "link", "dangling", "fifo"])
def test_nothing_is_overwritten(folder: RestoreFolder, root: Path, kind: str) -> None:
    path = root / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind in ("link", "dangling"):
        (root / "target").write_bytes(CONTENT)
        path.symlink_to("target" if kind == "link" else "nowhere")
    else:
        path.write_bytes(b"other" if kind == "other" else CONTENT.swapcase())
    before = path.lstat()
    with pytest.raises(ObjectExistsError):
        write(folder, "x")
    assert path.lstat() == before


def test_folders_that_are_links_are_not_entered(
    folder: RestoreFolder, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "a").symlink_to(tmp_path / "elsewhere")
    (root / "b").write_bytes(b"")
    for name in ("a", "b"):
        with pytest.raises(ObjectExistsError):
            write(folder, name, "x")
        with pytest.raises(ObjectExistsError):
            write(folder, name, "deeper", "x")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_our_own_folder_is_no_link_either(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_bytes(b"")
    (root / UNFINISHED_FOLDER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ObjectExistsError), RestoreFolder(root).open():
        pass
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["precious"]


def test_a_folder_that_nothing_came_into_goes_again(root: Path) -> None:
    with pytest.raises(UsageError), RestoreFolder(root).open():
        raise UsageError("no such study")
    assert not root.exists()
    root.mkdir()
    with pytest.raises(UsageError), RestoreFolder(root).open():
        raise UsageError("no such study")
    assert list(root.iterdir()) == []


def test_this_disk_tells_case_apart_or_not(folder: RestoreFolder, root: Path) -> None:
    (root / "probe").touch()
    assert folder.folds_case() is (root / "PROBE").exists()
