"""Small immutable objects kept in a local folder, so that they are fetched once."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from dcmvault.errors import ObjectMissingError
from dcmvault.object_stores.wrapping import WrappedStore
from dcmvault.ports.object_store import CacheEviction, ObjectStore

_log = logging.getLogger(__name__)

#: What a vault reads again and again; the last 64 digits of the key are the SHA-256 of the bytes.
_CACHED = re.compile(r"(?:keys|index|snapshots|journal)/(?:.*[^0-9a-f])?([0-9a-f]{64})\Z")
_PART = "part-"


class CachedStore(WrappedStore):
    """A store that keeps what it read or wrote under `keys/`, `index/`, `snapshots/`, `journal/`.

    Objects are kept by their SHA-256, checked before they are kept and each time they are given,
    so one folder serves many vaults and several processes; what is damaged is fetched again. When
    they are more than `most_bytes`, those longest unused go. A cache that cannot be read or
    written is no error. What somebody else removed from the store may still be read here until
    `evict` is called, or `delete`; `head` and `keys` always ask the store. Who wants proof of
    what the store holds evicts first.
    """

    def __init__(self, inner: ObjectStore, folder: Path, most_bytes: int = 512 << 20) -> None:
        super().__init__(inner)
        self._kept = _Folder(folder, most_bytes)
        # It has a cache of its own, whatever is behind it.
        self._offer("evict", self._evict)

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store an object, and keep it."""
        digest = _digest_of(key)
        if digest is None:
            return self._inner.put(key, chunks)
        copy = _Copy(chunks, self._kept.largest)
        size = self._inner.put(key, copy)
        if copy.content is not None:
            self._kept.add(digest, copy.content)
        return size

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object; a whole one that was fetched is kept."""
        digest = _digest_of(key)
        if digest is not None:
            kept = self._kept.get(digest)
            if kept is not None:
                return kept[start:] if length is None else kept[start : start + length]
        content = self._inner.get(key, start, length)
        if digest is not None and start == 0 and length is None:
            self._kept.add(digest, content)
        return content

    def delete(self, key: str) -> None:
        """Remove an object, here too."""
        self._forget(key)
        self._inner.delete(key)

    def _evict(self, key: str) -> bool:
        """Ask that the next `get` comes from the medium."""
        self._forget(key)
        if isinstance(self._inner, CacheEviction):
            return self._inner.evict(key)
        if self._inner.head(key) is None:
            raise ObjectMissingError(f"no object {key}")
        return True

    def _forget(self, key: str) -> None:
        digest = _digest_of(key)
        if digest is not None:
            self._kept.remove(digest)


def _digest_of(key: str) -> str | None:
    found = _CACHED.match(key)
    return found.group(1) if found else None


class _Copy:
    """Chunks on their way, of which a copy is kept as long as it is not too large."""

    def __init__(self, chunks: Iterable[bytes], largest: int) -> None:
        self._chunks = chunks
        self._largest = largest
        self._seen: list[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        self._seen = []
        size = 0
        for chunk in self._chunks:
            size += len(chunk)
            if size > self._largest:
                self._seen = None
            elif self._seen is not None:
                self._seen.append(chunk)
            yield chunk

    @property
    def content(self) -> bytes | None:
        """All bytes that went by last, or None if they were too many."""
        return None if self._seen is None else b"".join(self._seen)


class _Folder:
    """Files named by the SHA-256 of their bytes, up to a size in all. Safe for several threads."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        #: Larger objects would throw out too many others.
        self.largest = most_bytes // 4
        self._lock = threading.Lock()
        #: Bytes in the folder as far as this process knows; None before it looked.
        self._size: int | None = None

    def get(self, digest: str) -> bytes | None:
        """Return the bytes with this digest if they are here, whole and right."""
        path = self._path(digest)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content).hexdigest() != digest:
            _log.warning("the cache held damaged bytes of %s", digest)
            self.remove(digest)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return content

    def add(self, digest: str, content: bytes) -> None:
        """Keep bytes if they have this digest; older ones go where room is needed."""
        if len(content) > self.largest or hashlib.sha256(content).hexdigest() != digest:
            return
        path = self._path(digest)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            # Not made durable: what a power cut leaves has the wrong digest.
            part = path.parent / f"{_PART}{secrets.token_hex(8)}"
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(descriptor, "wb") as stream:  # noqa: PTH123 (a descriptor)
                    stream.write(content)
                part.replace(path)
            except OSError:
                part.unlink(missing_ok=True)
                raise
            self._make_room(len(content))
        except OSError as error:
            _log.info("the cache cannot keep an object: %s", error.strerror)

    def remove(self, digest: str) -> None:
        """Drop bytes, if they are here."""
        with contextlib.suppress(OSError):
            self._path(digest).unlink()

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def _make_room(self, added: int) -> None:
        with self._lock:
            if self._size is not None and self._size + added <= self._most_bytes:
                self._size += added
                return
            files = []
            for path in self._folder.glob("??/*"):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    files.append((status.st_mtime_ns, status.st_size, path))
            size = sum(each for _, each, _ in files)
            if size > self._most_bytes:
                for _, each, path in sorted(files):
                    # Some room to spare, or the folder would be listed for every object.
                    if size <= self._most_bytes * 3 // 4:
                        break
                    path.unlink(missing_ok=True)
                    size -= each
            self._size = size
