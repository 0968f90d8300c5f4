"""A full disk or spool: the sender is told to come back (A700), and then everything goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.dimse_story import destination_at, put_each, study_files
from tests.integration.listener_world import AE_TITLE, echoes, receiving
from tests.integration.small_disk import SmallDisk, can_mount

from dcmvault.errors import InstanceDeferredError
from dcmvault.model.instance import Fingerprint
from dcmvault.model.receipt import Receipt


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system in memory of 4 MB."""
    if not can_mount(tmp_path / "try"):
        pytest.skip("file systems cannot be mounted here")
    disk = SmallDisk(tmp_path / "disk", 4 << 20)
    try:
        yield disk
    finally:
        disk.unmount()


def test_a_full_disk_and_its_end(tmp_path: Path, disk: SmallDisk) -> None:
    """Without any reserve the disk itself says no; nothing half written stays."""
    files = study_files(tmp_path / "s", 8, rows=512, columns=512)
    with receiving(disk.folder / "spool") as listener:
        outcomes = put_each(destination_at(listener.port, AE_TITLE), files)
        stored = [one for one in outcomes if isinstance(one, Receipt)]
        refused = [one for one in outcomes if isinstance(one, InstanceDeferredError)]
        assert len(stored) + len(refused) == 8
        assert 3 <= len(stored) <= 7
        assert {one.status for one in refused} == {"A700"}
        assert len(listener.files) == len(stored)
        assert not list((disk.folder / "spool" / "arriving").iterdir())
        assert echoes(listener.port)
        disk.resize(32 << 20)
        again = put_each(destination_at(listener.port, AE_TITLE), files)
        assert all(isinstance(one, Receipt) for one in again)
        assert len(listener.files) == 8


def test_the_reserve_is_left_alone(tmp_path: Path, disk: SmallDisk) -> None:
    """With a reserve the disk is never full."""
    files = study_files(tmp_path / "s", 8, rows=512, columns=512)
    with receiving(disk.folder / "spool", reserve=2 << 20) as listener:
        outcomes = put_each(destination_at(listener.port, AE_TITLE), files)
        assert sum(isinstance(one, Receipt) for one in outcomes) >= 2
        assert any(isinstance(one, InstanceDeferredError) for one in outcomes)
        # What comes between two looks at the disk may be taken of it, not more.
        assert disk.used <= (4 << 20) - (2 << 20) + (1 << 20)


def test_the_budget_of_the_spool(tmp_path: Path) -> None:
    """A spool that holds as much as it may refuses for now, until something left it."""
    files = study_files(tmp_path / "s", 4, rows=256, columns=256)
    size = files[0].entry.fingerprint.size
    with receiving(tmp_path / "spool", budget=2 * size - 5000) as listener:
        outcomes = put_each(destination_at(listener.port, AE_TITLE), files)
        assert [isinstance(one, Receipt) for one in outcomes] == [True, True, False, False]
        before = listener.files[0]
        used = listener.spool.used
        entry_status = before.stat()
        fingerprint = Fingerprint(
            entry_status.st_size, entry_status.st_mtime_ns, entry_status.st_ino
        )
        assert listener.spool.remove(before.parent.name, before.name, fingerprint)
        assert listener.spool.used == used - entry_status.st_size
        outcomes = put_each(destination_at(listener.port, AE_TITLE), files[2:])
        assert isinstance(outcomes[0], Receipt)
