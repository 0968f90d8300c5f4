"""A cap on bytes per second, exact over any time on one host for whoever shares it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from dcmvault.object_stores.wrapping import WrappedStore
from dcmvault.ports.clock import Clock
from dcmvault.ports.object_store import CompareAndSwap, ObjectStore

#: Pieces in which an object is let through, in seconds of the cap.
_PIECE_S = 0.1
_SMALLEST_PIECE = 4096


class Bandwidth:
    """Bytes per second that all who hold this may use together. Safe for several threads.

    Bytes get their place on one line of time, one after the other, and pass when their time is
    over: in any `t` seconds at most `t` times the rate, and nothing is saved up while nobody asks.
    """

    def __init__(
        self, bytes_per_second: float, clock: Clock, sleep: Callable[[float], None]
    ) -> None:
        if bytes_per_second <= 0:
            message = "a bandwidth is more than nothing"
            raise ValueError(message)
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = 0.0

    @property
    def piece(self) -> int:
        """The bytes to ask for at a time, so that others get their turn."""
        return max(_SMALLEST_PIECE, int(self._rate * _PIECE_S))

    def take(self, size: int) -> None:
        """Return when `size` more bytes may pass."""
        with self._lock:
            self._free_at = max(self._free_at, self._clock.monotonic()) + size / self._rate
            until = self._free_at
        # A clock that sleeps short (or a signal) must not let bytes through early.
        while (wait := until - self._clock.monotonic()) > 0:
            self._sleep(wait)


class ThrottledStore(WrappedStore):
    """A store that takes and gives object bytes no faster than its bandwidths allow.

    What is written passes before it is sent; what is read is paid for when it is here, before it
    is given. A store that gathers an object before it sends it (a cloud store) sends in bursts:
    then the cap holds over objects, not within one.
    """

    def __init__(
        self,
        inner: ObjectStore,
        *,
        writing: Bandwidth | None = None,
        reading: Bandwidth | None = None,
    ) -> None:
        self._writing = writing
        self._reading = reading
        super().__init__(inner)

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store an object."""
        if self._writing is not None:
            chunks = _paced(chunks, self._writing)
        return self._inner.put(key, chunks)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object."""
        content = self._inner.get(key, start, length)
        if self._reading is not None:
            self._reading.take(len(content))
        return content

    def _swapping(self, inner: CompareAndSwap) -> Callable[[str, bytes | None, bytes], bool]:
        def swap(key: str, expected: bytes | None, new: bytes) -> bool:
            if self._writing is not None:
                self._writing.take(len(new))
            return inner.swap(key, expected, new)

        return swap


def _paced(chunks: Iterable[bytes], bandwidth: Bandwidth) -> Iterator[bytes]:
    piece = bandwidth.piece
    for chunk in chunks:
        for start in range(0, len(chunk), piece):
            part = chunk if len(chunk) <= piece else chunk[start : start + piece]
            bandwidth.take(len(part))
            yield part
