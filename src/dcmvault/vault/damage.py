"""Reading in spite of damage: what packs do not give any more may be found in another way."""

from __future__ import annotations

import contextlib
import threading

from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    VaultDamagedError,
    VaultFormatError,
)
from dcmvault.vault.blob import BlobType
from dcmvault.vault.codec import decode
from dcmvault.vault.copies import digest_of_key
from dcmvault.vault.crypto import HEADER_BYTES, Sealer
from dcmvault.vault.index import Place
from dcmvault.vault.pack import pack_key
from dcmvault.vault.parity import mend_pack
from dcmvault.vault.repository import Vault


def out_of_reach(error: DestinationError) -> bool:
    """Say whether an error is about the vault's place as a whole, and not damage of one part."""
    # In the middle of a vault that was opened, another format is a rotten byte.
    return isinstance(
        error, DestinationUnreachableError | DestinationStoppedError
    ) and not isinstance(error, VaultFormatError)


def read_in_spite_of_damage(vault: Vault) -> None:
    """Let a vault look further for blobs that no pack gives; the vault itself stays as it is."""
    vault.last_resort = LastResort(vault).read


class LastResort:
    """Blobs from packs that no index names, and from packs mended in memory by their parity.

    Safe for several threads. Keeps one pack in memory.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._lock = threading.Lock()
        self._name = b""
        self._pack: bytes | None = None
        self._listed = False

    def read(self, kind: BlobType, identity: bytes) -> bytes | None:
        """Return a blob's content; None if nothing gives it."""
        with self._lock:
            if not self._vault.index.places(kind, identity) and not self._listed:
                self._listed = True
                self._list_packs()
            places = self._vault.index.places(kind, identity)
            for read in (self._vault.read_at, self._read_mended):
                for place in places:
                    try:
                        return read(place, kind, identity)
                    except DestinationError as error:
                        if out_of_reach(error):
                            raise
        return None

    def _read_mended(self, place: Place, kind: BlobType, identity: bytes) -> bytes:
        if self._name != place.pack:
            self._name, self._pack = place.pack, None  # one pack in memory, not two
            self._pack = self._sound(place.pack)
        if self._pack is None:
            raise VaultDamagedError(f"the pack {place.pack.hex()} cannot be mended")
        header = self._vault.sealing.read_header(b"P", self._pack[:HEADER_BYTES])
        sealer = Sealer(header, self._vault.sealing.key_of(header))
        sealed = memoryview(self._pack)[place.offset : place.offset + place.length]
        encoding = sealer.open(place.number, kind.letter, identity, sealed)
        # What is mended has the SHA-256 of its name: nothing else is left to be compared.
        return decode(encoding, place.content_length)

    def _sound(self, name: bytes) -> bytes | None:
        """Return a whole pack as it was written."""
        damaged = self._get(pack_key(name))
        for key in self._vault.packs.parity_keys(name):
            parity = self._get(key)
            if parity is not None:
                with contextlib.suppress(DestinationError):
                    mended = mend_pack(damaged, parity, name)
                    if mended is not None:
                        return mended
        return None

    def _get(self, key: str) -> bytes | None:
        try:
            return self._vault.store.get(key)
        except DestinationError as error:
            if out_of_reach(error):
                raise
            return None

    def _list_packs(self) -> None:
        """Read the tables of packs that no index object names: one of those may be lost."""
        known = self._vault.index.packs
        for key in self._vault.store.keys("packs/"):
            name = digest_of_key(key)
            if name is None or name in known:
                continue
            try:
                self._vault.index.add([self._vault.packs.entry(name)])
            except DestinationError as error:
                if out_of_reach(error):
                    raise
