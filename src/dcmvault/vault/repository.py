"""The vault as a whole: made, opened, and read and written blob by blob."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dcmvault.errors import (
    DestinationAbsentError,
    ObjectExistsError,
    ObjectMissingError,
    VaultDamagedError,
    VaultMissingError,
)
from dcmvault.ports.clock import Clock
from dcmvault.ports.object_store import ObjectStore
from dcmvault.vault.blob import BlobType, blob_id
from dcmvault.vault.codec import decode
from dcmvault.vault.config import CONFIG_KEY, VaultConfig, digest_of
from dcmvault.vault.copies import RedundantObjects, without_check_line
from dcmvault.vault.crypto import NO_ID, Header, Sealer, new_header, read_header
from dcmvault.vault.index import Addition, BlobIndex, Place, RecordsRef
from dcmvault.vault.key_changes import VaultKeys, load_keys
from dcmvault.vault.keys import KeyRing
from dcmvault.vault.pack import PackBuilder, PackEntry, pack_key
from dcmvault.vault.parity import make_parity, parity_key
from dcmvault.vault.records import time_text, unpack_json
from dcmvault.vault.slots import Secret
from dcmvault.vault.snapshot import Link, SnapshotState, read_link, read_state

_log = logging.getLogger(__name__)

_HEADER_BYTES = 64
#: Decoded blobs of these types are wanted again soon: many files share a header block.
_KEPT = frozenset({BlobType.HEADERS, BlobType.STATE, BlobType.RECORDS})
_KEPT_BYTES = 48 << 20
_READERS = 8


@dataclass(frozen=True, slots=True)
class JournalRecords:
    """One journal object: what it adds to the snapshots."""

    name: str
    records: tuple[RecordsRef, ...]
    packs: tuple[PackEntry, ...] = ()


@dataclass(slots=True)
class _Kept:
    """Decoded blobs in the order of their last use."""

    blobs: OrderedDict[bytes, bytes] = field(default_factory=OrderedDict)
    size: int = 0

    def get(self, key: bytes) -> bytes | None:
        content = self.blobs.get(key)
        if content is not None:
            self.blobs.move_to_end(key)
        return content

    def put(self, key: bytes, content: bytes) -> None:
        if key in self.blobs or len(content) > _KEPT_BYTES // 4:
            return
        self.blobs[key] = content
        self.size += len(content)
        while self.size > _KEPT_BYTES:
            _oldest, dropped = self.blobs.popitem(last=False)
            self.size -= len(dropped)


class Vault:
    """An opened vault. Safe for several threads."""

    def __init__(
        self, store: ObjectStore, config: VaultConfig, keys: VaultKeys, clock: Clock
    ) -> None:
        self.store = store
        self.config = config
        #: Replaced when keys change.
        self.keys = keys
        self.clock = clock
        self.objects = RedundantObjects(store, config.copies)
        self.index = BlobIndex()
        self.condemned: frozenset[bytes] = frozenset()
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._loaded: set[str] = set()
        self._journals: dict[str, JournalRecords] = {}
        self._links: dict[str, Link] = {}
        self._sealers: dict[bytes, Sealer] = {}
        self._kept = _Kept()

    @property
    def ring(self) -> KeyRing:
        """The secrets that the vault was opened with."""
        return self.keys.ring

    # What is there

    def refresh(self) -> None:
        """Read index, journal and condemned objects that came since the last look."""
        with self._refreshing:
            journals = self.objects.keys("journal/")
            present = [*self.objects.keys("index/"), *journals]
            fresh = [key for key in present if key not in self._loaded]
            with ThreadPoolExecutor(_READERS) as pool:
                for key, addition in zip(fresh, pool.map(self._addition, fresh), strict=True):
                    if addition is None:
                        continue
                    self.index.add(addition.packs)
                    self._loaded.add(key)
                    if key.startswith("journal/"):
                        self._journals[key] = JournalRecords(key, addition.records, addition.packs)
            for gone in self._journals.keys() - set(journals):
                del self._journals[gone]
            self.look_at_condemned()

    def look_at_condemned(self) -> frozenset[bytes]:
        """Read which packs a prune condemned; they are no place for new references."""
        names: set[bytes] = set()
        for key in self.objects.keys("condemned/"):
            try:
                document = unpack_json(self.open_object(b"C", self.objects.get(key)))
                names |= {bytes.fromhex(name) for name in document["packs"]}
            except ObjectMissingError:  # its prune ended meanwhile
                continue
        self.condemned = frozenset(names)
        self.index.avoid(self.condemned)
        return self.condemned

    def _addition(self, key: str) -> Addition | None:
        try:
            data = self.objects.get(key)
        except ObjectMissingError:  # merged into another one meanwhile
            return None
        return Addition.decode(self.open_object(key[:1].upper().encode(), data))

    def index_keys(self) -> list[str]:
        """List the index objects that were read."""
        with self._refreshing:
            return sorted(key for key in self._loaded if key.startswith("index/"))

    def forget_index_key(self, key: str) -> None:
        """Note that an index object is gone, its content in another one."""
        with self._refreshing:
            self._loaded.discard(key)

    def packs_of_journals(self, names: Sequence[str]) -> dict[bytes, PackEntry]:
        """Return the packs that these journal objects brought, by name."""
        with self._refreshing:
            wanted = [self._journals[name].packs for name in names if name in self._journals]
        return {pack.name: pack for packs in wanted for pack in packs}

    def parity_keys(self, name: bytes) -> list[str]:
        """List the parity objects of a pack: one, where it has any."""
        digest = name.hex()
        return list(self.store.keys(f"parity/{digest[:2]}/{digest}."))

    def journals(self) -> list[JournalRecords]:
        """List what was written since the last snapshot, as of the last `refresh`."""
        with self._refreshing:
            return [self._journals[key] for key in sorted(self._journals)]

    def links(self) -> list[Link]:
        """List all snapshots, oldest first; damaged ones raise VaultDamagedError."""
        names = [key.removeprefix("snapshots/") for key in self.objects.keys("snapshots/")]
        fresh = [name for name in names if name not in self._links]
        with ThreadPoolExecutor(_READERS) as pool:
            for link in pool.map(self._link, fresh):
                if link is not None:
                    self._links[link.name] = link
        present = set(names)
        return [link for name, link in sorted(self._links.items()) if name in present]

    def _link(self, name: str) -> Link | None:
        try:
            data = self.objects.get(f"snapshots/{name}")
        except ObjectMissingError:
            return None
        return read_link(name, data, self.config.vault_id, self.config.verify_key)

    def state(self, link: Link) -> SnapshotState:
        """Open one snapshot."""
        data = self.objects.get(link.key)
        header = read_header(data, b"S", self.config.vault_id)
        return read_state(data, header, self._key(header))

    # Blobs

    def blob_id(self, kind: BlobType, content: bytes | memoryview) -> bytes:
        """Return the id that this content has in this vault."""
        return blob_id(self.ring.id_key, kind, content)

    def read_blob(self, kind: BlobType, identity: bytes) -> bytes:
        """Return a blob's content; VaultDamagedError if no pack gives it."""
        if kind in _KEPT:
            with self._lock:
                kept = self._kept.get(identity)
            if kept is not None:
                return kept
        try:
            content = self._read_somewhere(kind, identity)
        except VaultDamagedError:
            self.refresh()  # a pack may have been moved by somebody else
            content = self._read_somewhere(kind, identity)
        if kind in _KEPT:
            with self._lock:
                self._kept.put(identity, content)
        return content

    def _read_somewhere(self, kind: BlobType, identity: bytes) -> bytes:
        reason = VaultDamagedError("a part of the vault is in no pack that is known")
        for place in self.index.places(kind, identity):
            try:
                return self._read_at(place, kind, identity)
            except ObjectMissingError:
                reason = VaultDamagedError(f"the pack {place.pack.hex()} is missing")
            except VaultDamagedError as error:
                reason = error
        raise reason

    def read_encoding(self, place: Place, kind: BlobType, identity: bytes) -> bytes:
        """Return a blob's encoding as it is stored, opened and authenticated."""
        sealed = self.store.get(pack_key(place.pack), place.offset, place.length)
        if len(sealed) != place.length:
            raise VaultDamagedError(f"the pack {place.pack.hex()} is cut short")
        return self.pack_sealer(place.pack).open(place.number, kind.letter, identity, sealed)

    def _read_at(self, place: Place, kind: BlobType, identity: bytes) -> bytes:
        content = decode(self.read_encoding(place, kind, identity), place.content_length)
        if not self.config.encrypted and self.blob_id(kind, content) != identity:
            raise VaultDamagedError("a part of the vault is not what its id promises")
        return content

    def pack_sealer(self, name: bytes) -> Sealer:
        """Return what opens the blobs of a pack."""
        with self._lock:
            sealer = self._sealers.get(name)
        if sealer is None:
            raw = self.store.get(pack_key(name), 0, _HEADER_BYTES)
            header = read_header(raw, b"P", self.config.vault_id)
            sealer = Sealer(header, self._key(header))
            with self._lock:
                if len(self._sealers) > 4096:
                    self._sealers.clear()
                self._sealers[name] = sealer
        return sealer

    def _key(self, header: Header) -> bytes:
        if header.encrypted != self.config.encrypted:
            raise VaultDamagedError("an object is not encrypted as the vault is")
        return self.ring.epoch_key(header.epoch)

    # Writing

    def new_pack(self) -> PackBuilder:
        """Begin a pack under the newest epoch's key."""
        header = self.new_header(b"P")
        return PackBuilder(header, self._key(header))

    def new_header(self, kind: bytes) -> Header:
        """Make the header of a new object under the newest epoch."""
        return new_header(
            kind,
            self.config.vault_id,
            encrypted=self.config.encrypted,
            epoch=self.ring.newest.number,
        )

    def seal_key(self, header: Header) -> bytes:
        """Return the epoch key that an object with this header is sealed with."""
        return self._key(header)

    def store_pack(self, entry: PackEntry, data: bytes) -> int:
        """Store a pack and its parity, durable on return; return the bytes written."""
        written = len(data)
        if self.config.parity:
            parity = make_parity(data)
            self.store.put(parity_key(entry.name, parity), [parity])
            written += len(parity)
        self.put_sound(pack_key(entry.name), data)
        return written

    def put_sound(self, key: str, data: bytes) -> None:
        """Put an object that is named by its digest; what is there and differs is damaged."""
        try:
            self.store.put(key, [data])
        except ObjectExistsError:
            _log.warning("replacing the damaged object %s", key)
            self.store.delete(key)
            self.store.put(key, [data])

    def put_object(self, prefix: str, kind: bytes, body: bytes) -> tuple[str, int]:
        """Seal and store an object of kind J, I or C; return its key and its size."""
        header = self.new_header(kind)
        data = header.pack() + Sealer(header, self._key(header)).seal(0, kind, NO_ID, body)
        key = f"{prefix}/{hashlib.sha256(data).hexdigest()}"
        self.objects.put(key, data)
        return key, len(data)

    def open_object(self, kind: bytes, data: bytes) -> bytes:
        """Open an object of kind J, I or C."""
        header = read_header(data, kind, self.config.vault_id)
        sealed = memoryview(data)[_HEADER_BYTES:]
        return Sealer(header, self._key(header)).open(0, kind, NO_ID, sealed)

    def add_journal(self, addition: Addition) -> int:
        """Write down what a flush added, durable on return; return the bytes written."""
        key, size = self.put_object("journal", b"J", addition.encode())
        with self._refreshing:
            self.index.add(addition.packs)
            self._loaded.add(key)
            self._journals[key] = JournalRecords(key, addition.records, addition.packs)
        return size

    def now(self) -> str:
        """Return the present as the format writes it."""
        return time_text(self.clock.now())


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
    keys = load_keys(objects, offered, config, digest_of(raw))
    return Vault(store, config, keys, clock)
