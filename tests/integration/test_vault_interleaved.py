"""Two processes at one vault: whatever one does, the other does something whole in the middle."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from tests.integration.vault_acts import ACTS, SIZES, Act, go_on_from, prepared
from tests.integration.vault_world import Files, VaultWorld

from dcmvault.errors import UsageError, VaultBusyError
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.object_stores.wrapping import WrappedStore
from dcmvault.ports.object_store import CompareAndSwap, ObjectStore

#: Moments that are tried of all that there are, unless all are.
TRIALS = 30


class InTheMiddle(WrappedStore):
    """Lets somebody else do something before the `at`-th operation (counted from 1)."""

    def __init__(self, inner: ObjectStore, at: int, other: Callable[[], None]) -> None:
        super().__init__(inner)
        self._at = at
        self._other = other
        self.operations = 0

    def _count(self) -> None:
        self.operations += 1
        if self.operations == self._at:
            self._other()

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store an object."""
        self._count()
        return self._inner.put(key, chunks)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object."""
        self._count()
        return self._inner.get(key, start, length)

    def head(self, key: str) -> int | None:
        """Return an object's size in bytes."""
        self._count()
        return self._inner.head(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List keys."""
        self._count()
        return self._inner.keys(prefix)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._count()
        self._inner.delete(key)

    def _swapping(self, inner: CompareAndSwap) -> Callable[[str, bytes | None, bytes], bool]:
        def swap(key: str, expected: bytes | None, new: bytes) -> bool:
            self._count()
            return inner.swap(key, expected, new)

        return swap


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, size in SIZES:
        monkeypatch.setattr(module, name, size)


#: Ours, and what comes between. Both may find that the vault is busy; then they did nothing.
PAIRS = [
    (ours, theirs)
    for ours in ACTS
    for theirs in ACTS
    if not ACTS[ours].mends and not ACTS[theirs].mends
]


def _both(world: VaultWorld, ours: Act, theirs: Act, at: int) -> int:
    """Do both, and compare; return how many operations ours had."""
    world = world.copy()
    done: list[Act] = []

    def other() -> None:
        with _busy_is_allowed():
            theirs.do(world, world.store)
            done.append(theirs)

    store = InTheMiddle(world.store, at, other)
    with _busy_is_allowed():
        ours.do(world, store)
        done.append(ours)
    go_on_from(world, done)
    return store.operations


class _busy_is_allowed:  # noqa: N801 - reads as what it is
    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> bool:
        """Pass over what may be tried again, or has nothing to do any more."""
        return kind is not None and issubclass(kind, VaultBusyError | UsageError)


def _world(folder: Path, ours: Act, theirs: Act) -> VaultWorld:
    world = prepared(VaultWorld(MemoryStore(), Files(folder)).init())
    for before in dict.fromkeys((ours.before, theirs.before)):
        before(world)
    return world


def test_what_another_process_stored_is_found_by_who_looked_before(tmp_path: Path) -> None:
    """Who takes over a job of a process that was killed verifies what that one delivered."""
    world = VaultWorld(MemoryStore(), Files(tmp_path)).init()
    ours, theirs = world.process(), world.process()
    ours.back_up("source", [("first", b"no DICOM")])
    theirs.deliver("source", [("second", b"no DICOM, either")])
    ours.verify("source", [("first", b"no DICOM"), ("second", b"no DICOM, either")])


@pytest.mark.parametrize("seed", range(TRIALS))
def test_in_the_middle_of_some_operations(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    ours, theirs = (ACTS[name] for name in chance.choice(PAIRS))
    world = _world(tmp_path, ours, theirs)
    _both(world, ours, theirs, chance.randrange(_both(world, ours, theirs, 0)) + 1)


@pytest.mark.nightly
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_in_the_middle_of_every_operation(tmp_path: Path, ours: str, theirs: str) -> None:
    world = _world(tmp_path, ACTS[ours], ACTS[theirs])
    for at in range(1, _both(world, ACTS[ours], ACTS[theirs], 0) + 1):
        _both(world, ACTS[ours], ACTS[theirs], at)
