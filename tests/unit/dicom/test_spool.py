"""The order in which an instance becomes durable, and what happens where that fails."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmvault.dicom import spool as module
from dcmvault.dicom.part10 import scan
from dcmvault.dicom.spool import OUT_OF_RESOURCES, STORED, ArrivingInstance, Spool
from dcmvault.durability import make_names_durable
from dcmvault.errors import StateError
from dcmvault.testing.dicom_files import make_study


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path / "spool") as spool:
        yield spool


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    return make_study(tmp_path / "sent", key="spool", instances=1)[0].path


def _arriving(spool: Spool, sent: Path) -> ArrivingInstance:
    header = scan(sent)
    arriving = spool.begin(
        header.sop_class_uid, header.sop_instance_uid, header.transfer_syntax_uid
    )
    arriving.write(sent.read_bytes()[header.data_set_start :])
    return arriving


def test_bytes_then_name_then_answer(
    spool: Spool, sent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced before it gets its name, and its folder after that."""
    acts: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        acts.append("folder" if is_folder else "bytes")
        fsync(descriptor)

    def noted_rename(path: Path, target: Path) -> Path:
        acts.append("name")
        return rename(path, target)

    arriving = _arriving(spool, sent)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    assert arriving.finish() == STORED
    # The first folder is that of the studies, in which there is a new one.
    assert acts == ["bytes", "folder", "name", "folder"]


@pytest.mark.parametrize("fails_at", range(3))
def test_a_disk_that_fails_is_no_success(
    spool: Spool, sent: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """Whichever fsync fails, the sender keeps its instance; the next attempt goes well."""
    count = 0
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == fails_at + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    arriving = _arriving(spool, sent)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        assert arriving.finish() == OUT_OF_RESOURCES
    assert not list((spool.folder / "arriving").iterdir())
    kept = list(spool.studies.glob("*/*"))
    assert spool.used == sum(path.stat().st_size for path in kept)
    assert _arriving(spool, sent).finish() == STORED
    (path,) = spool.studies.glob("*/*")
    assert spool.used == path.stat().st_size


def test_a_studys_folder_is_durable_though_it_was_there(
    spool: Spool, sent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its fsync failed, or a kill before it, the name may be there and be only in memory."""
    synced: list[str] = []
    make = make_names_durable

    def noted(folder: Path) -> None:
        if not synced:
            synced.append("failed")
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        synced.append(folder.name)
        make(folder)

    first, second = _arriving(spool, sent), _arriving(spool, sent)
    uid = scan(sent).sop_instance_uid
    monkeypatch.setattr(module, "make_names_durable", noted)
    assert first.finish() == OUT_OF_RESOURCES
    assert second.finish() == STORED
    study = next(spool.studies.iterdir()).name
    assert synced == ["failed", "studies", study]
    assert _arriving(spool, sent).finish() == STORED
    assert synced[3:] == [study]
    synced[:] = ["a start"]
    spool.__exit__(None, None, None)
    with Spool(spool.folder) as again:
        assert "studies" in synced
        assert set(again.sop_classes([uid])) == {uid}
    assert synced[-1] == study


def test_nothing_is_made_where_a_volume_is_missing(tmp_path: Path) -> None:
    """A spool on a volume that is not mounted must not come anew on another one."""
    with pytest.raises(StateError, match="is not there"):
        Spool(tmp_path / "volume" / "spool").__enter__()
    assert list(tmp_path.iterdir()) == []


def test_dropped_half_way(spool: Spool, sent: Path) -> None:
    """What did not come to its end leaves nothing, and may be dropped twice."""
    arriving = _arriving(spool, sent)
    arriving.drop()
    arriving.drop()
    assert spool.used == 0
    assert not list((spool.folder / "arriving").iterdir())
