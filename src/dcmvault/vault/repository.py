"""The vault as a whole: opened, and read blob by blob and snapshot by snapshot."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dcmvault.errors import (
    DestinationAbsentError,
    DestinationError,
    DestinationUnreachableError,
    ObjectMissingError,
    VaultDamagedError,
    VaultFormatError,
    VaultMissingError,
)
from dcmvault.ports.clock import Clock
from dcmvault.ports.object_store import ObjectStore
from dcmvault.vault.blob import BlobType, blob_id
from dcmvault.vault.codec import decode
from dcmvault.vault.config import CONFIG_KEY, VaultConfig, digest_of
from dcmvault.vault.copies import RedundantObjects, without_check_line
from dcmvault.vault.index import BlobIndex, Place
from dcmvault.vault.key_changes import VaultKeys, load_keys
from dcmvault.vault.ledger import Journal, Ledger, PassOver
from dcmvault.vault.packs import Packs
from dcmvault.vault.records import time_text
from dcmvault.vault.sealing import Sealing
from dcmvault.vault.slots import Secret
from dcmvault.vault.snapshot import Link, SnapshotState, read_link, read_state

#: Bytes of decoded blobs that are wanted again soon. Many files share a header block; what is
#: read once, as most records are, does not drive these out.
_KEPT_HEADER_BYTES = 32 << 20
_KEPT_OTHER_BYTES = 16 << 20
_READERS = 8


@dataclass(slots=True)
class _Kept:
    """Decoded blobs in the order of their last use."""

    most_bytes: int
    blobs: OrderedDict[bytes, bytes] = field(default_factory=OrderedDict)
    size: int = 0

    def get(self, key: bytes) -> bytes | None:
        content = self.blobs.get(key)
        if content is not None:
            self.blobs.move_to_end(key)
        return content

    def put(self, key: bytes, content: bytes) -> None:
        if key in self.blobs or len(content) > self.most_bytes // 4:
            return
        self.blobs[key] = content
        self.size += len(content)
        self.limit(self.most_bytes)

    def limit(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        while self.size > most_bytes:
            _oldest, dropped = self.blobs.popitem(last=False)
            self.size -= len(dropped)


class Vault:
    """An opened vault: its parts, and what is read through them. Safe for several threads."""

    def __init__(
        self,
        store: ObjectStore,
        config: VaultConfig,
        keys: VaultKeys,
        clock: Clock,
        reload_keys: Callable[[], VaultKeys] | None = None,
    ) -> None:
        self.store = store
        self.config = config
        self.clock = clock
        self.objects = RedundantObjects(store, config.copies)
        self._reload_keys = reload_keys
        self.sealing = Sealing(config, self.objects, keys, reload_keys)
        self.packs = Packs(store, self.sealing, parity=config.parity)
        self.index = BlobIndex()
        self.ledger = Ledger(self.objects, self.sealing, self.index)
        self._lock = threading.Lock()
        self._links: dict[str, Link] = {}
        others = _Kept(_KEPT_OTHER_BYTES)
        self._kept = {
            BlobType.HEADERS: _Kept(_KEPT_HEADER_BYTES),
            BlobType.STATE: others,
            BlobType.RECORDS: others,
        }
        #: Is asked for a blob that no pack gives, and returns its content or None.
        self.last_resort: Callable[[BlobType, bytes], bytes | None] | None = None

    def unread(self) -> Vault:
        """Return the same vault with nothing remembered of what was read."""
        return Vault(self.store, self.config, self.sealing.keys, self.clock, self._reload_keys)

    def refresh(self) -> None:
        """Read what index, journal and condemned objects came since the last look."""
        self.ledger.refresh()

    def journals(self) -> list[Journal]:
        """List what was written since the last snapshot, as of the last `refresh`."""
        return self.ledger.journals()

    def now(self) -> str:
        """Return the present as the format writes it."""
        return time_text(self.clock.now())

    # Snapshots

    def links(self, pass_over: PassOver | None = None) -> list[Link]:
        """List all snapshots, oldest first.

        A damaged one raises VaultDamagedError, unless `pass_over` is told of it.
        """
        names = [key.removeprefix("snapshots/") for key in self.objects.keys("snapshots/")]
        fresh = [name for name in names if name not in self._links]
        with ThreadPoolExecutor(_READERS) as pool:
            for link in pool.map(lambda name: self._link(name, pass_over), fresh):
                if link is not None:
                    self._links[link.name] = link
        present = set(names)
        return [link for name, link in sorted(self._links.items()) if name in present]

    def _link(self, name: str, pass_over: PassOver | None) -> Link | None:
        key = f"snapshots/{name}"
        try:
            data = self.objects.get(key)
            return read_link(name, data, self.config.vault_id, self.config.verify_key)
        except ObjectMissingError:
            return None
        except (VaultDamagedError, VaultFormatError) as error:
            if pass_over is None:
                raise
            pass_over(key, error)
            return None

    def state(self, link: Link) -> SnapshotState:
        """Open one snapshot."""
        data = self.objects.get(link.key)
        header = self.sealing.read_header(b"S", data)
        return read_state(data, header, self.sealing.key_of(header))

    # Blobs

    def blob_id(self, kind: BlobType, content: bytes | memoryview) -> bytes:
        """Return the id that this content has in this vault."""
        return blob_id(self.sealing.ring.id_key, kind, content)

    def read_blob(self, kind: BlobType, identity: bytes) -> bytes:
        """Return a blob's content; VaultDamagedError if no pack gives it."""
        kept = self._kept.get(kind)
        if kept is None:
            return self._read(kind, identity)
        with self._lock:
            found = kept.get(identity)
        if found is not None:
            return found
        content = self._read(kind, identity)
        with self._lock:
            kept.put(identity, content)
        return content

    def keep_headers(self, most_bytes: int = _KEPT_HEADER_BYTES) -> None:
        """Keep so many bytes of header blocks decoded from now on: for who reads many, anywhere."""
        with self._lock:
            self._kept[BlobType.HEADERS].limit(most_bytes)

    def _read(self, kind: BlobType, identity: bytes) -> bytes:
        try:
            return self._read_anew(kind, identity)
        except DestinationError as error:
            if self.last_resort is None or isinstance(error, DestinationUnreachableError):
                raise
            content = self.last_resort(kind, identity)
            if content is None:
                raise
            return content

    def _read_anew(self, kind: BlobType, identity: bytes) -> bytes:
        try:
            return self._read_somewhere(kind, identity)
        except VaultDamagedError:
            self.refresh()  # its pack may have been put together with others meanwhile
            return self._read_somewhere(kind, identity)

    def _read_somewhere(self, kind: BlobType, identity: bytes) -> bytes:
        reason = VaultDamagedError("a part of the vault is in no pack that is known")
        for place in self.index.places(kind, identity):
            try:
                return self.read_at(place, kind, identity)
            except ObjectMissingError:
                reason = VaultDamagedError(f"the pack {place.pack.hex()} is missing")
            except VaultDamagedError as error:
                reason = error
        raise reason

    def read_at(self, place: Place, kind: BlobType, identity: bytes) -> bytes:
        """Return a blob's content from one place; ObjectMissingError or VaultDamagedError."""
        content = decode(self.packs.read(place, kind, identity), place.content_length)
        # With encryption the id is authenticated with the bytes.
        if not self.config.encrypted and self.blob_id(kind, content) != identity:
            raise VaultDamagedError("a part of the vault is not what its id promises")
        return content


def read_config(store: ObjectStore) -> tuple[VaultConfig, bytes]:
    """Read a vault's constants and their bytes; needs no key.

    Raises VaultMissingError, VaultFormatError or VaultDamagedError.
    """
    try:
        data = RedundantObjects(store).get(CONFIG_KEY)
    except (ObjectMissingError, DestinationAbsentError):
        raise VaultMissingError(
            "there is no vault at this place",
            hint="Is the disk mounted, the bucket right? Make a new one by `dcmvault vault init`.",
        ) from None
    without_check_line(data)
    return VaultConfig.decode(data), data


def open_vault(store: ObjectStore, offered: Sequence[Secret], clock: Clock) -> Vault:
    """Open a vault with whichever of the offered secrets fits; its index is read on first use.

    Raises VaultMissingError, VaultLockedError, VaultFormatError or VaultDamagedError.
    """
    config, raw = read_config(store)
    objects = RedundantObjects(store, config.copies)

    def load() -> VaultKeys:
        return load_keys(objects, offered, config, digest_of(raw))

    return Vault(store, config, load(), clock, load)
