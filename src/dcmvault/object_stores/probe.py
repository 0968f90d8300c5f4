"""A place for objects tried step by step: reach, write, read, remove, its clock, and its locks."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from dcmvault.errors import (
    DcmvaultError,
    DestinationError,
    ObjectLockedError,
    ObjectMissingError,
)
from dcmvault.model.probe import ProbeStep
from dcmvault.object_stores.wrapping import WrappedStore
from dcmvault.ports.clock import Clock
from dcmvault.ports.object_store import ObjectStore, Retention
from dcmvault.ports.object_times import TellsTimes

#: Clocks that differ by more make signatures and locks doubtful (seconds).
_MUCH_S = 120
_BYTES = 1024


@dataclass(slots=True)
class StoreProbe:
    """Tries one store with an object of its own, which is removed again where that is allowed."""

    store: ObjectStore
    clock: Clock
    #: Hears of each step when it ended.
    tell: Callable[[ProbeStep], None] = lambda _step: None

    def run(self) -> bool:
        """Try every step and stop after the first that fails; say whether none did."""
        # Not in a folder: that would stay, and no vault is made beside it.
        key = f"probe-{os.urandom(8).hex()}"
        content = os.urandom(_BYTES)
        steps: tuple[tuple[str, Callable[[], tuple[str, str]]], ...] = (
            ("place", lambda: self._reach(key)),
            ("put", lambda: self._put(key, content)),
            ("get", lambda: self._get(key, content)),
            ("clock", lambda: self._clocks(key)),
            ("lock", lambda: self._lock(key)),
            ("delete", lambda: self._delete(key)),
        )
        written = False
        for name, attempt in steps:
            begun = self.clock.monotonic()
            try:
                detail, hint = attempt()
            except DcmvaultError as error:
                took_s = self.clock.monotonic() - begun
                self.tell(ProbeStep(name, False, error.message, took_s, error.hint))
                if written and name != "delete":
                    with suppress(DcmvaultError):
                        self.store.delete(key)
                return False
            written = written or name == "put"
            if detail:
                took_s = self.clock.monotonic() - begun
                self.tell(ProbeStep(name, True, detail, took_s, hint))
        return True

    def _reach(self, key: str) -> tuple[str, str]:
        self.store.head(key)
        return "it answers", ""

    def _put(self, key: str, content: bytes) -> tuple[str, str]:
        self.store.put(key, [content])
        return "an object can be written", ""

    def _get(self, key: str, content: bytes) -> tuple[str, str]:
        if self.store.get(key) != content:
            raise DestinationError(
                "what is read back is not what was written",
                hint="Do not keep copies there before it is known why.",
            )
        return "it can be read back, and is equal", ""

    def _clocks(self, key: str) -> tuple[str, str]:
        inner = _innermost(self.store)
        if not isinstance(inner, TellsTimes):
            return "", ""
        skew_s = (inner.written_at(key) - self.clock.now()).total_seconds()
        if abs(skew_s) <= _MUCH_S:
            return "its clock and ours agree", ""
        return (
            f"its clock and ours differ by {abs(skew_s):.0f} s",
            "Set the clocks of both machines by NTP: signatures and locks depend on them.",
        )

    def _lock(self, key: str) -> tuple[str, str]:
        inner = _innermost(self.store)
        if not isinstance(inner, Retention):
            return "", ""
        inner.retained_until(key)
        return "it can say until when objects are locked", ""

    def _delete(self, key: str) -> tuple[str, str]:
        try:
            self.store.delete(key)
        except ObjectLockedError:
            return "the test object is locked and stays until that ends", ""
        except ObjectMissingError:
            raise DestinationError(
                "the object that was written is gone",
                hint="Somebody, or a rule of the store, removes objects.",
            ) from None
        return "it can be removed", ""


def _innermost(store: ObjectStore) -> ObjectStore:
    while isinstance(store, WrappedStore):
        store = store.inner
    return store
