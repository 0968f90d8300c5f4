"""Swapping on a disk: among processes, beside removal, and on a medium that is full."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from dcmvault.errors import DestinationUnreachableError
from dcmvault.object_stores.local import LocalStore
from dcmvault.testing.clock import FakeClock

_PROCESSES = 4
_TURNS = 60


def _store(root: Path) -> LocalStore:
    return LocalStore(root, FakeClock())


def _count(root: Path) -> None:
    """Add one to the number in the object, as often as there are turns."""
    store = _store(root)
    for _ in range(_TURNS):
        while True:
            before = store.get("counter")
            if store.swap("counter", before, str(int(before) + 1).encode()):
                break


def _take_and_release(root: Path, name: str, log: Path) -> None:
    """Take the lease and remove it again; two at once would mix their lines."""
    store = _store(root)
    for _ in range(_TURNS):
        while not store.swap("lease", None, name.encode()):
            pass
        with log.open("a", encoding="ascii") as stream:
            stream.write(f"{name} in\n")
            stream.flush()
            stream.write(f"{name} out\n")
        assert store.get("lease") == name.encode()
        store.delete("lease")


def _run(target: object, arguments: list[tuple[object, ...]]) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=each) for each in arguments]  # type: ignore[arg-type]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def test_no_swap_of_several_processes_is_lost(tmp_path: Path) -> None:
    assert _store(tmp_path).swap("counter", None, b"0")
    _run(_count, [(tmp_path,)] * _PROCESSES)
    assert _store(tmp_path).get("counter") == str(_PROCESSES * _TURNS).encode()


def test_a_lease_has_one_holder_among_processes(tmp_path: Path) -> None:
    root, log = tmp_path / "objects", tmp_path / "log"
    root.mkdir()
    names = [f"process-{number}" for number in range(3)]
    _run(_take_and_release, [(root, name, log) for name in names])
    lines = log.read_text(encoding="ascii").splitlines()
    assert len(lines) == 2 * len(names) * _TURNS
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert (entered, left) == (f"{entered.split()[0]} in", f"{entered.split()[0]} out")
    assert list(_store(root).keys()) == []


def test_nothing_is_left_staged(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.swap("lease", None, b"one")
    store.swap("lease", b"wrong", b"two")
    store.swap("lease", b"one", b"two")
    assert [path.name for path in (tmp_path / ".staging").iterdir()] == ["swap.lock"]
    assert (tmp_path / "lease").stat().st_mode & 0o777 == 0o600


def test_removal_writes_nothing(tmp_path: Path) -> None:
    """A full disk must allow it."""
    store = _store(tmp_path)
    (tmp_path / "object").write_bytes(b"x")
    store.delete("object")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_no_object_to_swap(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"other")
    (tmp_path / "lease").symlink_to(tmp_path / "elsewhere")
    store = _store(tmp_path)
    assert store.swap("lease", None, b"new") is False
    assert store.swap("lease", b"other", b"new") is False
    assert (tmp_path / "elsewhere").read_bytes() == b"other"


def test_swapping_where_the_disk_went_away(tmp_path: Path) -> None:
    store = _store(tmp_path / "objects")
    assert store.swap("lease", None, b"one")
    (tmp_path / "objects").rename(tmp_path / "unplugged")
    with pytest.raises(DestinationUnreachableError):
        store.swap("lease", b"one", b"two")
