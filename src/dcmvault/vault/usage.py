"""How much of each pack is needed, and where what is needed is counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dcmvault.errors import ObjectMissingError, VaultDamagedError, VaultFormatError
from dcmvault.vault.blob import BlobType
from dcmvault.vault.codec import decode
from dcmvault.vault.copies import digest_of_key
from dcmvault.vault.index import Place
from dcmvault.vault.pack import PackEntry, blob_rows, pack_key
from dcmvault.vault.repository import Vault

#: A blob: letter of its type, and its id.
BlobName = tuple[str, bytes]


class PackUsage(NamedTuple):
    """One pack that is there."""

    entry: PackEntry
    needed: int  #: sealed bytes of needed blobs that are counted here
    blobs: int  #: sealed bytes of all its blobs
    listed: bool  #: whether an index or a journal names it


@dataclass(slots=True)
class Usage:
    """The packs of a vault, and which of them gives each needed blob."""

    vault: Vault
    packs: Mapping[bytes, PackUsage]
    #: The pack in which a needed blob is counted; it may be in others, too.
    home: Mapping[BlobName, bytes]
    _read_back: set[BlobName] = field(default_factory=set)

    @property
    def size(self) -> int:
        """Bytes of all packs."""
        return sum(one.entry.size for one in self.packs.values())

    @property
    def garbage(self) -> set[bytes]:
        """Packs of which nothing is counted."""
        return {name for name, one in self.packs.items() if not one.needed}

    def size_of(self, names: Collection[bytes]) -> int:
        """Bytes of some packs."""
        return sum(self.packs[name].entry.size for name in names)

    def is_home_to(self, name: bytes, blob: BlobName) -> bool:
        """Say whether a blob is needed and counted in this pack."""
        return self.home.get(blob) == name

    def can_do_without(self, name: bytes) -> bool:
        """Read what is needed of a pack where else it is counted; False if any of it is damaged.

        Of two copies the sound one must not go.
        """
        for row in blob_rows(self.packs[name].entry.rows):
            blob = (row.type, row.id)
            home = self.home.get(blob)
            if home is None or home == name or blob in self._read_back:
                continue
            places = self.vault.index.places(row.type, row.id)
            try:
                place = next(place for place in places if place.pack == home)
                read_encoding(self.vault, place, row.type, row.id)
            except (StopIteration, ObjectMissingError, VaultDamagedError):
                return False
            self._read_back.add(blob)
        return True


def read_encoding(vault: Vault, place: Place, kind: str, identity: bytes) -> bytes:
    """Return the encoding of a blob from one place, once its content was found right.

    Raises ObjectMissingError or VaultDamagedError.
    """
    blob_type = BlobType(kind)
    encoding = vault.packs.read(place, blob_type, identity)
    content = decode(encoding, place.content_length)
    if vault.blob_id(blob_type, content) != identity:
        raise VaultDamagedError(f"the pack {place.pack.hex()} is damaged")
    return encoding


def look_at_usage(vault: Vault, needed: Collection[BlobName], told: Callable[[str], None]) -> Usage:
    """Say of every pack how much is needed; a blob in several packs counts in one of them.

    Preferred are packs that an index names (readers find nothing else), that were not condemned,
    and that are fullest. Raises VaultDamagedError if something that is needed is nowhere. `told`
    hears of packs whose own table cannot be read: they are left alone.
    """
    listed = vault.index.packs
    present: dict[bytes, PackEntry] = {}
    for key in vault.store.keys("packs/"):
        name = digest_of_key(key)
        if name is None or pack_key(name) != key:
            continue  # nothing of ours
        entry = listed.get(name) or _unlisted(vault, name, told)
        if entry is not None:
            present[name] = entry
    sizes = {
        name: sum(row.length for row in blob_rows(entry.rows) if (row.type, row.id) in needed)
        for name, entry in present.items()
    }
    condemned = vault.ledger.condemned
    home: dict[BlobName, bytes] = {}
    packs: dict[bytes, PackUsage] = {}
    for name in sorted(present, key=lambda one: (one not in listed, one in condemned, -sizes[one])):
        counted, every = 0, 0
        for row in blob_rows(present[name].rows):
            blob = (row.type, row.id)
            every += row.length
            if blob in needed and blob not in home:
                home[blob] = name
                counted += row.length
        packs[name] = PackUsage(present[name], counted, every, name in listed)
    if missing := len(needed) - len(home):
        raise VaultDamagedError(
            f"{missing} parts that snapshots need are in no pack; nothing was removed",
            hint="Run `dcmvault vault check`, then `dcmvault vault repair`.",
        )
    return Usage(vault, packs, home)


def _unlisted(vault: Vault, name: bytes, told: Callable[[str], None]) -> PackEntry | None:
    """Read the footer of a pack that no index names: of a writer that died, or works now."""
    try:
        return vault.packs.entry(name)
    except (VaultDamagedError, VaultFormatError):
        told(f"the pack {name.hex()} is damaged, and left alone")
    except ObjectMissingError:  # a snapshot put it together with others meanwhile
        return None
    return None
