"""Objects under keys: the narrow floor on which folders and vaults stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Protocol, runtime_checkable


class ObjectStore(Protocol):
    """Create-only objects. Safe for several threads and processes at once.

    Keys are relative POSIX paths of ASCII letters, digits, `.`, `_` and `-`; no component is
    empty, `.` or `..` or starts with a dot. An invalid key is a ValueError.
    """

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store an object and return its size in bytes; durable on return, or absent.

        Create-only and atomic: a reader sees the whole object or none. Putting the same bytes
        again succeeds; other bytes under an existing key raise ObjectExistsError and change
        nothing.
        """
        ...

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes `start` to `start + length` (to the end if None, cut at the end).

        Raises ObjectMissingError.
        """
        ...

    def head(self, key: str) -> int | None:
        """Return the object's size in bytes, or None if there is none."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List the keys that start with `prefix`, in lexicographic order; unfinished puts never."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object, durably; ObjectMissingError if there is none.

        A store with `Retention` raises ObjectLockedError while the object is retained.
        """
        ...


class StagedObject(Protocol):
    """Bytes on their way into a store, whose key is known only when all were seen."""

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        ...

    def commit(self, key: str) -> bool:
        """Give the bytes their key, with `ObjectStore.put`'s promises; once.

        Returns False when the same bytes were there already. After ObjectExistsError the bytes
        are still staged, and committing may be tried again.
        """
        ...

    def discard(self) -> None:
        """Drop the bytes; harmless after commit."""
        ...


@runtime_checkable
class Staging(Protocol):
    """A store that can take bytes before their key is known (a disk can, a bucket cannot)."""

    def stage(self) -> StagedObject:
        """Begin an object; unfinished ones are invisible and swept away later."""
        ...


@runtime_checkable
class CacheEviction(Protocol):
    """A store in front of whose medium the operating system keeps a cache."""

    def evict(self, key: str) -> bool:
        """Ask that the next `get` of this object comes from the medium, not from memory.

        Returns False where that cannot be asked. Raises ObjectMissingError.
        """
        ...


@runtime_checkable
class Checksums(Protocol):
    """A store that keeps a checksum of each object, which it compared with the bytes it got."""

    def sha256(self, key: str) -> bytes | None:
        """Return the SHA-256 that the store has of an object; None where it has none.

        No byte of the object is moved. Raises ObjectMissingError.
        """
        ...


@runtime_checkable
class CompareAndSwap(Protocol):
    """A store with one mutable kind of object, for leases."""

    def swap(self, key: str, expected: bytes | None, new: bytes) -> bool:
        """Replace the object if it equals `expected` (None: if absent); say whether it did.

        Atomic between threads, processes and hosts; durable on return. DestinationUnreachableError
        leaves open whether it happened: read the object, and let `new` name its writer.
        """
        ...


@runtime_checkable
class Retention(Protocol):
    """A store that can be told to keep an object, whatever its own administrator says later."""

    def keep_until(self) -> datetime:
        """Return until when what is needed now is to be kept (aware), as the operator wants it."""
        ...

    def retained_until(self, key: str) -> datetime | None:
        """Return until when an object is retained (aware), None if it is not or is not there."""
        ...

    def retain(self, key: str, until: datetime) -> None:
        """Let nobody remove the object before `until` (aware); durable on return.

        Extends only: an earlier time than the one that holds changes nothing. Removing the
        object before then raises ObjectLockedError. Raises ObjectMissingError.
        """
        ...
