"""An object store that fails, or dies, at a chosen moment: for tests of durability."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Protocol

from dcmvault.errors import DestinationStoppedError, DestinationUnreachableError
from dcmvault.ports.object_store import CompareAndSwap, ObjectStore, StagedObject, Staging


class CrashError(BaseException):
    """The process is gone. Not an Exception: nothing that handles errors may survive it."""


class Fault(StrEnum):
    """What happens at the chosen operation."""

    #: The operation does not happen; the error is reported, later operations work.
    REFUSE = "refuse"
    #: The operation happens, but its answer is lost; later operations work.
    LOSE_ANSWER = "lose_answer"
    #: The disk is full: from the operation on nothing more is stored; reading and removing work.
    FILL = "fill"
    #: The process dies before the operation: this and every later one raises CrashError.
    DIE_BEFORE = "die_before"
    #: The process dies after the operation took effect.
    DIE_AFTER = "die_after"


class StagingStore(ObjectStore, Staging, Protocol):
    """An object store that stages."""


class FaultyStore:
    """Wraps a store and injects one fault at its `at`-th operation (counted from 1).

    Operations are put, get, head, keys, delete, stage and (where the store has it) swap, and
    write, commit and discard of staged objects. With `at` 0 nothing fails, and `operations` tells
    afterwards how many moments there are to try.
    """

    def __init__(self, inner: StagingStore, at: int = 0, fault: Fault = Fault.REFUSE) -> None:
        self._inner = inner
        self._at = at
        self._fault = fault
        self._lock = threading.Lock()
        #: Operations seen so far.
        self.operations = 0
        #: Whether the simulated process is dead.
        self.dead = False
        if isinstance(inner, CompareAndSwap):
            # A capability that only some stores have: an attribute, so that it is there or not.
            vars(self)["swap"] = self._swapping(inner)

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store an object, or fail."""
        fault = self.before(stores=True)
        size = self._inner.put(key, chunks)
        self.after(fault)
        return size

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Read a range, or fail."""
        fault = self.before()
        content = self._inner.get(key, start, length)
        self.after(fault)
        return content

    def head(self, key: str) -> int | None:
        """Return a size, or fail."""
        fault = self.before()
        size = self._inner.head(key)
        self.after(fault)
        return size

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List keys, or fail."""
        fault = self.before()
        keys = list(self._inner.keys(prefix))
        self.after(fault)
        return iter(keys)

    def delete(self, key: str) -> None:
        """Remove an object, or fail."""
        fault = self.before()
        self._inner.delete(key)
        self.after(fault)

    def stage(self) -> StagedObject:
        """Begin an object whose operations count, too, or fail."""
        fault = self.before(stores=True)
        staged = self._inner.stage()
        self.after(fault)
        return _FaultyStagedObject(self, staged)

    def _swapping(self, inner: CompareAndSwap) -> Callable[[str, bytes | None, bytes], bool]:
        def swap(key: str, expected: bytes | None, new: bytes) -> bool:
            fault = self.before(stores=True)
            done = inner.swap(key, expected, new)
            self.after(fault)
            return done

        return swap

    def before(self, *, stores: bool = False) -> Fault | None:
        """Count an operation; fail now if the fault comes before it, else return the fault.

        `stores` says that it needs room.
        """
        with self._lock:
            if self.dead:
                raise CrashError
            self.operations += 1
            if self._fault is Fault.FILL:
                if stores and 0 < self._at <= self.operations:
                    raise DestinationStoppedError("injected fault: no room is left")
                return None
            if self.operations != self._at:
                return None
            self.dead = self._fault in (Fault.DIE_BEFORE, Fault.DIE_AFTER)
        if self._fault is Fault.DIE_BEFORE:
            raise CrashError
        if self._fault is Fault.REFUSE:
            raise DestinationUnreachableError("injected fault: the operation did not happen")
        return self._fault

    def after(self, fault: Fault | None) -> None:
        """Fail now if the fault comes after the operation."""
        if fault is Fault.DIE_AFTER:
            raise CrashError
        if fault is Fault.LOSE_ANSWER:
            raise DestinationUnreachableError("injected fault: the answer was lost")


class _FaultyStagedObject:
    """A staged object whose operations the store counts."""

    def __init__(self, store: FaultyStore, inner: StagedObject) -> None:
        self._store = store
        self._inner = inner

    def write(self, chunk: bytes) -> None:
        fault = self._store.before(stores=True)
        self._inner.write(chunk)
        self._store.after(fault)

    def commit(self, key: str) -> bool:
        fault = self._store.before(stores=True)
        new = self._inner.commit(key)
        self._store.after(fault)
        return new

    def discard(self) -> None:
        fault = self._store.before()
        self._inner.discard()
        self._store.after(fault)
