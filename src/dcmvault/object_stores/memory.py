"""Objects in memory: for tests, drills and measurements. Durable until the process ends."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from dcmvault.errors import ObjectExistsError, ObjectMissingError
from dcmvault.object_stores.keys import check_key


class MemoryStore:
    """An object store (with staging and compare-and-swap) that lives and dies with its process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, bytes] = {}

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store an object under a new key, or the same bytes again."""
        check_key(key)
        content = b"".join(chunks)
        self.add(key, content)
        return len(content)

    def add(self, key: str, content: bytes) -> bool:
        """Store whole content; False when the same bytes were there already."""
        check_key(key)
        with self._lock:
            there = self._objects.get(key)
            if there is None:
                self._objects[key] = content
                return True
            if there == content:
                return False
        raise ObjectExistsError(f"other bytes are stored under {key}")

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object."""
        content = self._object(key)
        return content[start:] if length is None else content[start : start + length]

    def head(self, key: str) -> int | None:
        """Return an object's size in bytes."""
        check_key(key)
        with self._lock:
            content = self._objects.get(key)
        return None if content is None else len(content)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List keys as they are now."""
        with self._lock:
            found = sorted(key for key in self._objects if key.startswith(prefix))
        return iter(found)

    def delete(self, key: str) -> None:
        """Remove an object."""
        check_key(key)
        with self._lock:
            if self._objects.pop(key, None) is None:
                raise ObjectMissingError(f"no object {key}")

    def stage(self) -> MemoryStagedObject:
        """Begin an object."""
        return MemoryStagedObject(self)

    def swap(self, key: str, expected: bytes | None, new: bytes) -> bool:
        """Replace an object if it equals `expected`."""
        check_key(key)
        with self._lock:
            if self._objects.get(key) != expected:
                return False
            self._objects[key] = bytes(new)
            return True

    def _object(self, key: str) -> bytes:
        check_key(key)
        with self._lock:
            content = self._objects.get(key)
        if content is None:
            raise ObjectMissingError(f"no object {key}")
        return content


class MemoryStagedObject:
    """Bytes on their way into a MemoryStore."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._content = bytearray()

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._content += chunk

    def commit(self, key: str) -> bool:
        """Give the bytes their key."""
        return self._store.add(key, bytes(self._content))

    def discard(self) -> None:
        """Drop the bytes; an object that was committed stays."""
        self._content.clear()
