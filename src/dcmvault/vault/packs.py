"""Packs in the store: written with their parity, read blob by blob."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from dcmvault.errors import ObjectExistsError, VaultDamagedError
from dcmvault.ports.object_store import ObjectStore
from dcmvault.vault.blob import BlobType
from dcmvault.vault.crypto import HEADER_BYTES, Sealer
from dcmvault.vault.index import Place
from dcmvault.vault.pack import PackEntry, footer_length, pack_key, read_footer
from dcmvault.vault.parity import make_parity, parity_key
from dcmvault.vault.sealing import Sealing

_log = logging.getLogger(__name__)

_END_BYTES = 8
_MOST_SEALERS = 4096


class Packs:
    """Safe for several threads."""

    def __init__(self, store: ObjectStore, sealing: Sealing, *, parity: bool) -> None:
        self._store = store
        self._sealing = sealing
        self._parity = parity
        self._lock = threading.Lock()
        self._sealers: dict[bytes, Sealer] = {}

    def store(self, entry: PackEntry, pieces: Sequence[bytes]) -> int:
        """Store a pack and its parity, durable on return; return the bytes written."""
        written = entry.size
        if self._parity:
            parity = make_parity(*pieces)
            self._store.put(parity_key(entry.name, parity), [parity])
            written += len(parity)
        self._put_sound(pack_key(entry.name), pieces)
        self._remember(entry.name, pieces[0][:HEADER_BYTES])
        return written

    def _put_sound(self, key: str, pieces: Sequence[bytes]) -> None:
        """Put an object that is named by its digest; what is there and differs is damaged."""
        try:
            self._store.put(key, pieces)
        except ObjectExistsError:
            _log.warning("replacing the damaged object %s", key)
            self._store.delete(key)
            self._store.put(key, pieces)

    def size(self, name: bytes) -> int | None:
        """Return a pack's size in the store, None if it is not there."""
        return self._store.head(pack_key(name))

    def read(self, place: Place, kind: BlobType, identity: bytes) -> bytes:
        """Return a blob's encoding, opened and authenticated.

        Raises ObjectMissingError or VaultDamagedError.
        """
        sealed = self._store.get(pack_key(place.pack), place.offset, place.length)
        if len(sealed) != place.length:
            raise VaultDamagedError(f"the pack {place.pack.hex()} is cut short")
        return self.sealer(place.pack).open(place.number, kind.letter, identity, sealed)

    def sealer(self, name: bytes) -> Sealer:
        """Return what opens the blobs of a pack."""
        with self._lock:
            sealer = self._sealers.get(name)
        if sealer is None:
            sealer = self._remember(name, self._store.get(pack_key(name), 0, HEADER_BYTES))
        return sealer

    def _remember(self, name: bytes, raw: bytes) -> Sealer:
        header = self._sealing.read_header(b"P", raw)
        sealer = Sealer(header, self._sealing.key_of(header))
        with self._lock:
            if len(self._sealers) > _MOST_SEALERS:
                self._sealers.clear()
            self._sealers[name] = sealer
        return sealer

    def entry(self, name: bytes) -> PackEntry:
        """Read a pack's own table of blobs; ObjectMissingError or VaultDamagedError."""
        key = pack_key(name)
        header = self._sealing.read_header(b"P", self._store.get(key, 0, HEADER_BYTES))
        size = self._store.head(key) or 0
        length = footer_length(self._store.get(key, max(size - _END_BYTES, 0)), size)
        tail = self._store.get(key, size - length)
        return PackEntry(name, size, read_footer(header, self._sealing.key_of(header), tail))

    def parity_keys(self, name: bytes) -> list[str]:
        """List the parity objects of a pack: one, where it has any."""
        digest = name.hex()
        return list(self._store.keys(f"parity/{digest[:2]}/{digest}."))
