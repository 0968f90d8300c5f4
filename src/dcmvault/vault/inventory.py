"""What lies in a vault's store: every object, its copies and their sizes; reads none of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dcmvault.ports.object_store import ObjectStore
from dcmvault.vault.copies import RedundantObjects

_HEX = "[0-9a-f]{64}"
_KNOWN = re.compile(
    r"(?:copies/[12]/)?("
    r"config|README\.txt|lease|ballast"
    rf"|rescue/rescue-{_HEX}\.py|rescue/vault-format-{_HEX}\.md"
    rf"|(?:keys|snapshots)/[0-9]{{8}}-{_HEX}"
    rf"|packs/(?P<pack>[0-9a-f]{{2}})/(?P=pack)[0-9a-f]{{62}}"
    rf"|parity/(?P<parity>[0-9a-f]{{2}})/(?P=parity)[0-9a-f]{{62}}\.{_HEX}"
    rf"|(?:journal|index|condemned)/{_HEX}"
    r")\Z"
)
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Inventory:
    """The objects of a vault at one time."""

    #: Size of every copy, by where it lies.
    sizes: dict[str, int] = field(default_factory=dict)
    #: Keys without `copies/N/`, in lexicographic order.
    keys: tuple[str, ...] = ()
    #: Keys that no vault has.
    strangers: tuple[str, ...] = ()

    def under(self, prefix: str) -> list[str]:
        """List the keys that start with `prefix`."""
        return [key for key in self.keys if key.startswith(prefix)]

    def pack_size(self, key: str) -> int | None:
        """Return the size of a pack's main copy."""
        return self.sizes.get(key)

    def missing_copies(self, objects: RedundantObjects, key: str) -> list[str]:
        """List where a copy should be and is not."""
        return [place for place in objects.places(key) if place not in self.sizes]

    def sizes_differ(self, objects: RedundantObjects, key: str) -> bool:
        """Say whether copies of an object differ in size."""
        there = {self.sizes[place] for place in objects.places(key) if place in self.sizes}
        return len(there) > 1


def take_inventory(store: ObjectStore) -> Inventory:
    """List the store and look at the size of everything that is a vault's."""
    every = list(store.keys())
    known = {place: found[1] for place in every if (found := _KNOWN.match(place))}
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = dict(zip(known, pool.map(store.head, known), strict=True))
    there = {place: size for place, size in sizes.items() if size is not None}
    return Inventory(
        there,
        tuple(sorted({known[place] for place in there})),
        tuple(_without(every, known)),
    )


def name_of(key: str) -> bytes:
    """Return the pack that the key of a pack or of its parity names."""
    return bytes.fromhex(key.rpartition("/")[2][:64])


def _without(every: Iterable[str], known: dict[str, str]) -> list[str]:
    return sorted(place for place in every if place not in known)
