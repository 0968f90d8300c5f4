"""Blobs of snapshots and prunes, gathered in packs of their own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from dcmvault.vault.blob import BlobType
from dcmvault.vault.codec import encode_bytes
from dcmvault.vault.freed_memory import give_back
from dcmvault.vault.pack import PACK_BYTES, PackBuilder, PackEntry
from dcmvault.vault.profile import Profile
from dcmvault.vault.repository import Vault

#: So much of the next pack is filled while one is written: two whole ones would be much memory.
_AHEAD_BYTES = 8 << 20


class BlobPacks:
    """Stores blobs of a snapshot in packs of their own, unless the vault has them.

    One pack is written while the next begins to be filled; used by one thread.
    """

    def __init__(self, vault: Vault, profile: Profile) -> None:
        self._vault = vault
        self._profile = profile
        self._builder: PackBuilder | None = None
        self._new: set[bytes] = set()
        self._writer: ThreadPoolExecutor | None = None
        self._writing: tuple[PackEntry, Future[int]] | None = None
        #: What is durable.
        self.packs: list[PackEntry] = []
        #: Blobs in other packs.
        self.leans_on: dict[bytes, BlobType] = {}

    def put(self, kind: BlobType, content: bytes) -> bytes:
        """Store a content and return its id."""
        identity = self._vault.blob_id(kind, content)
        if identity in self._new:
            return identity
        if not self.can_refer_to(kind, identity):
            self.add(kind, identity, encode_bytes(content, self._profile), len(content))
        return identity

    def can_refer_to(self, kind: BlobType, identity: bytes) -> bool:
        """Note that what is stored here needs a blob; False if it is in no pack that will do."""
        if not self._vault.index.holds(kind, identity):
            return False
        self.leans_on[identity] = kind
        return True

    def add(self, kind: BlobType, identity: bytes, encoding: bytes, content_length: int) -> None:
        """Store a blob whose encoding is there."""
        self._new.add(identity)
        if self._builder is None:
            self._builder = self._vault.sealing.new_pack()
        self._builder.add(kind, identity, encoding, content_length)
        if self._builder.size >= PACK_BYTES:
            self._write_pack()
        elif self._builder.size >= _AHEAD_BYTES:
            self._wait_for_write()

    def has(self, identity: bytes) -> bool:
        """Say whether the blob was stored here."""
        return identity in self._new

    def close(self) -> None:
        """Make what was stored so far durable."""
        self._write_pack()
        self._wait_for_write()
        if self._writer is not None:
            self._writer.shutdown()
            self._writer = None

    def _write_pack(self) -> None:
        if self._builder is None or not len(self._builder):
            return
        entry, pieces = self._builder.finish()
        self._builder = None
        self._wait_for_write()
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="pack-writer")
        self._writing = entry, self._writer.submit(self._store, entry, pieces)

    def _store(self, entry: PackEntry, pieces: Sequence[bytes]) -> int:
        written = self._vault.packs.store(entry, pieces)
        give_back()
        return written

    def _wait_for_write(self) -> None:
        if self._writing is not None:
            (entry, writing), self._writing = self._writing, None
            writing.result()
            self.packs.append(entry)
