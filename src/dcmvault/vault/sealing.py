"""Sealed objects under the vault's keys: new ones under the newest epoch, old ones under theirs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.config import VaultConfig
from dcmvault.vault.copies import RedundantObjects
from dcmvault.vault.crypto import HEADER_BYTES, NO_ID, Header, Sealer, new_header, read_header
from dcmvault.vault.key_changes import VaultKeys
from dcmvault.vault.key_objects import KEYS_PREFIX
from dcmvault.vault.keys import KeyRing
from dcmvault.vault.pack import PackBuilder


class Sealing:
    """Knows which key seals and opens what. Safe for several threads."""

    def __init__(
        self,
        config: VaultConfig,
        objects: RedundantObjects,
        keys: VaultKeys,
        load_keys: Callable[[], VaultKeys] | None = None,
    ) -> None:
        self._config = config
        self._objects = objects
        self._load_keys = load_keys
        self._lock = threading.Lock()
        #: What lay under `keys/` when keys were loaded last.
        self._seen: tuple[str, ...] = (keys.key,)
        #: Replaced when keys change.
        self.keys = keys

    @property
    def ring(self) -> KeyRing:
        """The secrets."""
        return self.keys.ring

    def new_header(self, kind: bytes) -> Header:
        """Make the header of a new object under the newest epoch."""
        return new_header(
            kind,
            self._config.vault_id,
            encrypted=self._config.encrypted,
            epoch=self.ring.newest.number,
        )

    def read_header(self, kind: bytes, data: bytes) -> Header:
        """Read the header of an object of this vault."""
        return read_header(data, kind, self._config.vault_id)

    def key_of(self, header: Header) -> bytes:
        """Return the epoch key that an object with this header is sealed with."""
        if header.encrypted != self._config.encrypted:
            raise VaultDamagedError("an object is not encrypted as the vault is")
        if header.epoch > self.ring.newest.number:
            self.keep_up()
        return self.ring.epoch_key(header.epoch)

    def keep_up(self) -> None:
        """Load the keys again if another process changed them since this one opened the vault.

        Raises VaultLockedError if what opened the vault no longer does.
        """
        if self._load_keys is None:
            return
        with self._lock:
            there = tuple(self._objects.keys(KEYS_PREFIX))
            if there == self._seen or there == (self.keys.key,):
                return
            loaded = self._load_keys()
            # Never back to older ones: a change is found by whoever looks first.
            if loaded.ring.generation >= self.ring.generation:
                self.keys = loaded
            self._seen = there

    def new_pack(self) -> PackBuilder:
        """Begin a pack."""
        header = self.new_header(b"P")
        return PackBuilder(header, self.key_of(header))

    def put(self, prefix: str, kind: bytes, body: bytes) -> tuple[str, int]:
        """Seal and store an object of kind J, I or C, durably; return its key and its size."""
        key, data = self.seal_object(prefix, kind, body)
        self._objects.put(key, data)
        return key, len(data)

    def seal_object(self, prefix: str, kind: bytes, body: bytes) -> tuple[str, bytes]:
        """Seal an object of kind J, I or C; return the key that it is to have, and its bytes."""
        data = self.seal(kind, body)
        return f"{prefix}/{hashlib.sha256(data).hexdigest()}", data

    def seal(self, kind: bytes, body: bytes) -> bytes:
        """Seal an object under the newest epoch; `open` gives its body again."""
        header = self.new_header(kind)
        return header.pack() + Sealer(header, self.key_of(header)).seal(0, kind, NO_ID, body)

    def get(self, kind: bytes, key: str) -> bytes:
        """Read and open an object of kind J, I or C."""
        return self.open(kind, self._objects.get(key))

    def open(self, kind: bytes, data: bytes) -> bytes:
        """Open what `seal` made; VaultDamagedError if it is not whole."""
        header = self.read_header(kind, data)
        sealed = memoryview(data)[HEADER_BYTES:]
        return Sealer(header, self.key_of(header)).open(0, kind, NO_ID, sealed)
