"""Files kept in memory: bounded, the least used go first, and only what was right is kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.integration.archive_world import ArchiveWorld

from dcmvault.archives.kept_files import KeptFiles, bytes_to_keep
from dcmvault.model.query import InstanceBytes, Selection, UnreadableInstance
from dcmvault.testing.dicom_files import make_instance, make_uid


def _digest(number: int) -> bytes:
    return bytes([number]) * 32


def _numbers(kept: KeptFiles) -> list[int]:
    return [number for number in range(10) if kept.get(_digest(number)) is not None]


def test_the_least_used_go_first() -> None:
    kept = KeptFiles(300)
    for number in range(3):
        kept.put(_digest(number), memoryview(bytes([number]) * 100))
    assert bytes(kept.get(_digest(0)) or b"") == bytes(100)
    kept.put(_digest(3), memoryview(bytes(100)))
    assert _numbers(kept) == [0, 2, 3]
    kept.put(_digest(4), memoryview(bytes(250)))
    assert _numbers(kept) == [4]


def test_what_is_larger_than_all_that_may_be_kept_drives_nothing_out() -> None:
    kept = KeptFiles(300)
    kept.put(_digest(0), memoryview(bytes(100)))
    kept.put(_digest(1), memoryview(bytes(301)))
    assert _numbers(kept) == [0]


def test_what_is_kept_twice_counts_once() -> None:
    kept = KeptFiles(300)
    for number in (0, 1, 1, 1, 2):
        kept.put(_digest(number), memoryview(bytes(100)))
    assert _numbers(kept) == [0, 1, 2]


def test_unused_files_are_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("dcmvault.archives.kept_files.time.monotonic", lambda: now[0])
    kept = KeptFiles(300)
    kept.put(_digest(0), memoryview(bytes(100)))
    kept.put(_digest(1), memoryview(bytes(100)))
    now[0] = 150.0
    assert kept.get(_digest(0)) is not None
    now[0] = 170.0
    assert not kept.drop_unused(71.0)
    assert kept.drop_unused(60.0)
    assert _numbers(kept) == [0]
    kept.put(_digest(2), memoryview(bytes(200)))
    assert _numbers(kept) == [0, 2], "what was let go of does not count"


def test_a_small_machine_or_container_keeps_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < bytes_to_keep() <= 1 << 30
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr("dcmvault.archives.kept_files.os.sysconf", sizes.get)
    assert bytes_to_keep() == 4096 * 250
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("dcmvault.archives.kept_files._CONTAINER", limit)
    for told, expected in (("max\n", 4096 * 250), ("2000000\n", 500_000), ("", 4096 * 250)):
        limit.write_text(told)
        assert bytes_to_keep() == expected


def test_what_was_read_whole_is_given_again_and_what_is_damaged_never(tmp_path: Path) -> None:
    world = ArchiveWorld(tmp_path / "vault")
    made = [
        make_instance(
            tmp_path / f"{number}.dcm",
            make_uid("study"),
            make_uid("series"),
            make_uid("instance", number),
            instance_number=1 + number,
            # Large enough not to lie in the header.
            rows=64,
            columns=64,
        )
        for number in range(5)
    ]
    world.back_up([one.path for one in made])
    originals = [one.path.read_bytes() for one in made]
    selection = Selection([made[0].study_instance_uid])
    archive, other = world.archive(), world.archive()
    instances, others = archive.instances(selection), other.instances(selection)
    assert _given(list(archive.read(instances[:4]))) == originals[:4]
    for lost in ("packs", "parity"):
        shutil.rmtree(world.folder / lost)
    *again, fifth = archive.read(instances)
    assert _given(again) == originals[:4]
    assert isinstance(fifth, UnreadableInstance)
    for _time in range(2):
        read = list(other.read(others))
        assert all(isinstance(one, UnreadableInstance) for one in read), "it never read them"


def _given(read: list[InstanceBytes | UnreadableInstance]) -> list[bytes]:
    return [bytes(one.data) for one in read if isinstance(one, InstanceBytes)]
