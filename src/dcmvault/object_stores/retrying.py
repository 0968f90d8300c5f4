"""Trying again what failed because the store could not be reached."""

from __future__ import annotations

import logging
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TypeVar

from dcmvault.errors import (
    DestinationAbsentError,
    DestinationUnreachableError,
    ObjectMissingError,
    Retry,
)
from dcmvault.object_stores.wrapping import WrappedStore
from dcmvault.ports.object_store import (
    CacheEviction,
    Checksums,
    CompareAndSwap,
    ObjectStore,
    Retention,
)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

#: Bytes of an object that are held in memory so that it can be sent again; beyond that, on disk.
_IN_MEMORY = 64 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often to try, and how long to wait: doubling, with `jitter` so that many do not meet."""

    attempts: int = 5
    #: Seconds before the second attempt, and the most there ever are.
    first_s: float = 1.0
    most_s: float = 60.0
    jitter: float = 0.2

    def waits(self) -> Iterator[float]:
        """Give the seconds before each attempt after the first."""
        for number in range(self.attempts - 1):
            wait = min(self.first_s * 2**number, self.most_s)
            yield wait * random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 (no secret)


class RetryingStore(WrappedStore):
    """A store whose operations are tried again after DestinationUnreachableError.

    Only where the error says that time helps (`Retry.LATER`). A put may be repeated because
    putting the same bytes again succeeds; its chunks are kept for that, in memory or a temporary
    file. A swap whose answer was lost is answered by reading what came of it, so its `new` must
    name its writer, as the port says. An answer that was lost on removing shows as success.
    """

    def __init__(
        self, inner: ObjectStore, sleep: Callable[[float], object], backoff: Backoff | None = None
    ) -> None:
        super().__init__(inner)
        self._sleep = sleep
        self._backoff = backoff or Backoff()

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store an object."""
        if isinstance(chunks, list | tuple):
            return self._again(lambda: self._inner.put(key, chunks))
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as stream:
            kept = _Kept(stream, chunks)
            waits = self._backoff.waits()
            while True:
                try:
                    return self._inner.put(key, kept)
                except DestinationUnreachableError as error:
                    if kept.is_broken:
                        raise
                    self._wait(error, waits)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object."""
        return self._again(lambda: self._inner.get(key, start, length))

    def head(self, key: str) -> int | None:
        """Return an object's size in bytes."""
        return self._again(lambda: self._inner.head(key))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List keys; after a failure the list goes on behind the last key that was given."""
        # Begun at once, so that what is wrong shows here and not later.
        found = self._again(lambda: self._inner.keys(prefix))
        return self._listed(found, prefix)

    def delete(self, key: str) -> None:
        """Remove an object."""
        attempts = 0

        def remove() -> None:
            nonlocal attempts
            attempts += 1
            try:
                self._inner.delete(key)
            except ObjectMissingError:
                if attempts == 1:
                    raise

        self._again(remove)

    def _listed(self, found: Iterator[str], prefix: str) -> Iterator[str]:
        last = ""
        waits = self._backoff.waits()
        while True:
            try:
                for key in found:
                    if key > last:
                        yield key
                        last = key
            except DestinationUnreachableError as error:
                self._wait(error, waits)
                found = self._again(lambda: self._inner.keys(prefix))
            else:
                return

    def _swapping(self, inner: CompareAndSwap) -> Callable[[str, bytes | None, bytes], bool]:
        def swap(key: str, expected: bytes | None, new: bytes) -> bool:
            waits = self._backoff.waits()
            while True:
                try:
                    return inner.swap(key, expected, new)
                except DestinationUnreachableError as error:
                    self._wait(error, waits)
                present = self._content(key)
                if present == new:
                    return True
                if present != expected:
                    return False

        return swap

    def _retaining(self, inner: Retention) -> Callable[[str, datetime], None]:
        return lambda key, until: self._again(lambda: inner.retain(key, until))

    def _telling_retention(self, inner: Retention) -> Callable[[str], datetime | None]:
        return lambda key: self._again(lambda: inner.retained_until(key))

    def _telling_checksum(self, inner: Checksums) -> Callable[[str], bytes | None]:
        return lambda key: self._again(lambda: inner.sha256(key))

    def _evicting(self, inner: CacheEviction) -> Callable[[str], bool]:
        return lambda key: self._again(lambda: inner.evict(key))

    def _content(self, key: str) -> bytes | None:
        try:
            return self.get(key)
        except ObjectMissingError:
            return None

    def _again(self, action: Callable[[], _T]) -> _T:
        waits = self._backoff.waits()
        while True:
            try:
                return action()
            except DestinationUnreachableError as error:
                self._wait(error, waits)

    def _wait(self, error: DestinationUnreachableError, waits: Iterator[float]) -> None:
        """Wait for the next attempt, or raise the error if there is none."""
        wait = next(waits, None)
        # A folder that is not there is an answer: somebody must make it, or bring it back.
        is_passing = error.retry is Retry.LATER and not isinstance(error, DestinationAbsentError)
        if wait is None or not is_passing:
            raise error
        _log.info("the object store cannot be reached; next attempt in %.1f s", wait)
        self._sleep(wait)


class _Kept:
    """Chunks that can be gone through several times, though their producer gives them once."""

    def __init__(self, stream: IO[bytes], chunks: Iterable[bytes]) -> None:
        self._stream = stream
        self._rest = iter(chunks)
        #: The producer failed: there will never be a whole object.
        self.is_broken = False

    def __iter__(self) -> Iterator[bytes]:
        self._stream.seek(0)
        while chunk := self._stream.read(_CHUNK):
            yield chunk
        while True:
            try:
                chunk = next(self._rest)
            except StopIteration:
                return
            except BaseException:
                self.is_broken = True
                raise
            self._stream.write(chunk)
            yield chunk
