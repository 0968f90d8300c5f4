"""A store that is written to no faster than a pacer lets bytes pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dcmvault.object_stores.wrapping import WrappedStore
from dcmvault.ports.object_store import CompareAndSwap, ObjectStore
from dcmvault.ports.pacing import Pacer


class ThrottledStore(WrappedStore):
    """A store whose objects' bytes wait for a pacer before they are handed on.

    A store that gathers an object before it sends it (a cloud store) sends in bursts: then the
    limit holds over objects, not within one. Under a retrying store repeated bytes count again.
    """

    def __init__(self, inner: ObjectStore, pacer: Pacer) -> None:
        self._pacer = pacer
        super().__init__(inner)

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store an object."""
        return self._inner.put(key, _paced(chunks, self._pacer))

    def _swapping(self, inner: CompareAndSwap) -> Callable[[str, bytes | None, bytes], bool]:
        def swap(key: str, expected: bytes | None, new: bytes) -> bool:
            self._pacer.take(len(new))
            return inner.swap(key, expected, new)

        return swap


def _paced(chunks: Iterable[bytes], pacer: Pacer) -> Iterator[bytes]:
    for chunk in chunks:
        piece = pacer.piece
        for start in range(0, len(chunk), piece):
            part = chunk if len(chunk) <= piece else chunk[start : start + piece]
            pacer.take(len(part))
            yield part
