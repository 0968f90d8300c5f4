"""Blobs on their way: through the encoders into packs, and packs into the store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from dcmvault.errors import DestinationUnreachableError
from dcmvault.vault.blob import BlobType
from dcmvault.vault.effort import EffortGauge
from dcmvault.vault.freed_memory import give_back
from dcmvault.vault.pack import PACK_BYTES, PackBuilder, PackEntry
from dcmvault.vault.profile import Profile
from dcmvault.vault.repository import Vault
from dcmvault.vault.taking_apart import LARGE_BYTES, NewBlob

#: Content that waits for the encoders at most.
_IN_FLIGHT_BYTES = 16 << 20
#: A pack grows no further than this while the one before it is still being written.
_BESIDE_WRITING_BYTES = 8 << 20
#: Nor is more of it kept while a large blob is encoded: it is closed early then.
_BESIDE_LARGE_BYTES = 16 << 20


class _Encoding(NamedTuple):
    """A blob on its way through the encoders."""

    blob: NewBlob
    encoding: Future[bytes]


class OutgoingBlobs:
    """The packs of one flush; used by one thread, encodes and writes in others."""

    def __init__(
        self, vault: Vault, workers: ThreadPoolExecutor, profile: Profile, gauge: EffortGauge
    ) -> None:
        self._vault = vault
        self._workers = workers
        self._profile = profile
        self._gauge = gauge
        self._in_flight: deque[_Encoding] = deque()
        self._in_flight_bytes = 0
        self._pack: PackBuilder | None = None
        self._writing: Future[int] | None = None
        self._packs: list[PackEntry] = []
        self._written = 0
        self._new: set[bytes] = set()
        self._is_broken = False
        #: Blobs of other packs that this flush will refer to.
        self.leans_on: dict[bytes, BlobType] = {}

    def offer(self, blob: NewBlob) -> None:
        """Store a blob unless the vault has it; encoding runs beside the caller.

        After an error, of whatever this was on its way to, `finish` fails, too.
        """
        try:
            self._offer(blob)
        except BaseException:
            self._is_broken = True
            raise

    def _offer(self, blob: NewBlob) -> None:
        if blob.id in self._new:
            return
        if self._vault.index.holds(blob.kind, blob.id):
            self.leans_on[blob.id] = blob.kind
            return
        self._new.add(blob.id)
        if len(blob.content) > LARGE_BYTES:
            self._take_alone(blob)
            return
        self._drain(max(_IN_FLIGHT_BYTES - len(blob.content), 0))
        self._in_flight.append(_Encoding(blob, self._workers.submit(self._encode, blob)))
        self._in_flight_bytes += len(blob.content)

    def add(self, kind: BlobType, identity: bytes, encoding: bytes, content_length: int) -> None:
        """Store a blob whose encoding is there."""
        if self._pack is None:
            self._pack = self._vault.sealing.new_pack()
        self._pack.add(kind, identity, encoding, content_length)
        if self._pack.size >= _BESIDE_WRITING_BYTES:
            self._wait_for_write()
        if self._pack.size >= PACK_BYTES:
            self._close_pack()

    def finish(self) -> tuple[tuple[PackEntry, ...], int]:
        """Make everything durable; return the packs and the bytes written."""
        if self._is_broken:
            raise DestinationUnreachableError(
                "a part of this batch could not be stored, so nothing of it counts",
                hint="It is stored when the batch is tried again.",
            )
        self._drain(0)
        self._close_pack()
        self._wait_for_write()
        return tuple(self._packs), self._written

    def abandon(self) -> None:
        """Drop what is on its way; a pack that was written stays as garbage for a prune."""
        for waiting in self._in_flight:
            waiting.encoding.cancel()
        self._in_flight.clear()

    def _take_alone(self, blob: NewBlob) -> None:
        """Encode a large blob while nothing else of this flush is on its way."""
        self._drain(0)
        if self._pack is not None and self._pack.size >= _BESIDE_LARGE_BYTES:
            self._close_pack()
        self._wait_for_write()
        self.add(blob.kind, blob.id, self._encode(blob), len(blob.content))

    def _drain(self, down_to: int) -> None:
        """Take what the encoders made into the pack, until little enough is in flight."""
        while self._in_flight and (
            self._in_flight_bytes > down_to or self._in_flight[0].encoding.done()
        ):
            blob, encoding = self._in_flight.popleft()
            self._in_flight_bytes -= len(blob.content)
            self.add(blob.kind, blob.id, encoding.result(), len(blob.content))

    def _close_pack(self) -> None:
        """Send the pack on its way; one is written while the next is filled."""
        if self._pack is None:
            return
        entry, pieces = self._pack.finish()
        self._pack = None
        self._wait_for_write()
        self._packs.append(entry)
        self._writing = self._workers.submit(self._store, entry, pieces)

    def _wait_for_write(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            self._written += writing.result()

    def _encode(self, blob: NewBlob) -> bytes:
        began = time.perf_counter()
        encoding = blob.encode()
        self._gauge.encoded(self._profile, len(blob.content), time.perf_counter() - began)
        return encoding

    def _store(self, entry: PackEntry, pieces: Sequence[bytes]) -> int:
        began = time.perf_counter()
        written = self._vault.packs.store(entry, pieces)
        self._gauge.stored(written, time.perf_counter() - began)
        give_back()
        return written
