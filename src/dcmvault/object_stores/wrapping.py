"""What wrappers of object stores share: they offer a capability only if what they wrap does.

A capability is a method that is there or not, so a wrapper is given it as an attribute of the
instance. `Staging` is never passed on: behaviour hangs on whole operations on keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from dcmvault.ports.object_store import (
    CacheEviction,
    Checksums,
    CompareAndSwap,
    ObjectStore,
    Retention,
)


class WrappedStore:
    """A store that hands everything to another one; subclasses change what they are about."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner
        if isinstance(inner, CompareAndSwap):
            self._offer("swap", self._swapping(inner))
        if isinstance(inner, Retention):
            self._offer("retain", self._retaining(inner))
            self._offer("keep_until", inner.keep_until)
            self._offer("retained_until", self._telling_retention(inner))
        if isinstance(inner, CacheEviction):
            self._offer("evict", self._evicting(inner))
        if isinstance(inner, Checksums):
            self._offer("sha256", self._telling_checksum(inner))

    @property
    def inner(self) -> ObjectStore:
        """What is wrapped."""
        return self._inner

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store an object."""
        return self._inner.put(key, chunks)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object."""
        return self._inner.get(key, start, length)

    def head(self, key: str) -> int | None:
        """Return an object's size in bytes."""
        return self._inner.head(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List keys."""
        return self._inner.keys(prefix)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._inner.delete(key)

    def _swapping(self, inner: CompareAndSwap) -> Callable[[str, bytes | None, bytes], bool]:
        return inner.swap

    def _retaining(self, inner: Retention) -> Callable[[str, datetime], None]:
        return inner.retain

    def _telling_retention(self, inner: Retention) -> Callable[[str], datetime | None]:
        return inner.retained_until

    def _evicting(self, inner: CacheEviction) -> Callable[[str], bool]:
        return inner.evict

    def _telling_checksum(self, inner: Checksums) -> Callable[[str], bytes | None]:
        return inner.sha256

    def _offer(self, name: str, method: Callable[..., object]) -> None:
        vars(self)[name] = method
