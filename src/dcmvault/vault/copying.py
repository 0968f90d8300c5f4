"""Copying a vault to another place: objects as they are, nothing is decoded or encoded again.

A copy has the same vault id, the same keys and the same constants, so it keeps as many copies of
small objects (and parity) as the vault that it is from, wherever it lies. It needs no key unless
only some snapshots are wanted. Whatever interrupts it, the next call goes on.

The order is the writers': packs with their parity, indexes, snapshots, journals; at the first copy
`config` comes last. Others may write into the source meanwhile: what is listed first (journals,
then snapshots, then indexes, then packs) leads only to what is listed after it. Rounds are made
until nothing new came. The target's lease keeps a prune there away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dcmvault.errors import (
    DestinationAbsentError,
    ObjectMissingError,
    UsageError,
    VaultDamagedError,
    VaultFormatError,
)
from dcmvault.ports.clock import Clock
from dcmvault.ports.object_store import ObjectStore
from dcmvault.vault.ballast import restore_ballast_of
from dcmvault.vault.config import CONFIG_KEY
from dcmvault.vault.copies import RedundantObjects, digest_of_key
from dcmvault.vault.inventory import take_inventory
from dcmvault.vault.key_changes import drop_superseded
from dcmvault.vault.key_objects import KEYS_PREFIX, check_generation, generation_of
from dcmvault.vault.lease import Lease, hold_lease
from dcmvault.vault.locking import renew_copy, retain_pack
from dcmvault.vault.phases import Phase, Told, to_nobody
from dcmvault.vault.repository import read_config
from dcmvault.vault.sound_packs import sound_pack

_log = logging.getLogger(__name__)

#: Packs that are on their way at once; each is held in memory.
_THREADS = 4
_ROUNDS = 5


@dataclass(slots=True)
class CopyResult:
    """What was copied."""

    objects: int = 0
    bytes: int = 0
    #: Objects that the target had already.
    there: int = 0
    #: Keys of objects that cannot be read in the source any more.
    damaged: list[str] = field(default_factory=list)
    #: Snapshots of the target that the source does not have: it was written to by itself.
    own_snapshots: int = 0
    #: Somebody wrote into the source all the time; another call brings what is newest.
    is_behind: bool = False


class Copying:
    """One copy under way, from one store to another; used as a context, under the target's lease.

    Raises UsageError where the target is neither empty nor a copy of this vault, VaultBusyError
    while somebody prunes there.
    """

    def __init__(
        self, source: ObjectStore, target: ObjectStore, clock: Clock, told: Told = to_nobody
    ) -> None:
        self.source = source
        self.target = target
        self.clock = clock
        self.config, self._raw = read_config(source)
        self.from_objects = RedundantObjects(source, self.config.copies)
        self.to_objects = RedundantObjects(target, self.config.copies)
        self._told = told
        self.result = CopyResult()

    def begin(self, lease: Lease) -> None:
        """Copy keys and what strangers find; what is not a copy of this vault is left alone."""
        self.copy(sorted(self.from_objects.keys(KEYS_PREFIX)), lease)
        drop_superseded(self.to_objects, self.config)
        extras = [*self.from_objects.keys("README"), *self.from_objects.keys("rescue/")]
        self.copy(extras, lease)
        restore_ballast_of(self.target, self.config)

    def end(self, lease: Lease) -> None:
        """Write `config`: from now on there is a vault. What was there before stays retained."""
        renew_copy(self.target, self.to_objects, self.clock, lease.keep)
        self.to_objects.put(CONFIG_KEY, self._raw)

    def check_target(self) -> None:
        """Refuse a target that is something else, or whose keys went their own way."""
        try:
            there = self.to_objects.get(CONFIG_KEY)
        except DestinationAbsentError:
            return
        except ObjectMissingError:
            self._check_begun()
            there = self._raw
        if there != self._raw:
            raise VaultFormatError(
                "another vault is at the place that the copy was to go to",
                hint="Name an empty place, or the place of an earlier copy of this vault.",
            )
        ours = set(self.from_objects.keys(KEYS_PREFIX))
        newest = max((generation_of(key) or 0 for key in ours), default=0)
        theirs = set(self.to_objects.keys(KEYS_PREFIX)) - ours
        if any((generation_of(key) or 0) >= newest for key in theirs):
            raise UsageError(
                "the keys of the copy were changed there, so it cannot take new objects",
                hint="Change keys in the vault that is copied; copying brings them.",
            )

    def _check_begun(self) -> None:
        """Look whether a place without `config` is an interrupted copy of this vault."""
        inventory = take_inventory(self.target)
        is_ours = any(self._is_ours(key) for key in inventory.under(KEYS_PREFIX))
        content = [key for key in inventory.keys if key != "lease"]
        if inventory.strangers or (content and not is_ours):
            raise UsageError(
                "the place is not empty, and what is there is no copy of this vault",
                hint="Name an empty place.",
            )

    def _is_ours(self, key: str) -> bool:
        try:
            return check_generation(self.to_objects.get(key), self.config) > 0
        except (VaultDamagedError, VaultFormatError, ObjectMissingError):
            return False

    def copy_packs(self, names: Iterable[bytes], lease: Lease) -> None:
        """Copy packs with their parity, which goes first, as writers do it."""
        wanted = sorted(name.hex() for name in names)
        there = set(self.target.keys("packs/"))
        parity_there = set(self.target.keys("parity/"))
        missing = [name for name in wanted if f"packs/{name[:2]}/{name}" not in there]
        named = set(wanted)
        parity = [
            key
            for key in (self.source.keys("parity/") if self.config.parity else ())
            if key.rpartition("/")[2][:64] in named
        ]
        self._each([key for key in parity if key not in parity_there], lease, self._object)
        self._each([f"packs/{name[:2]}/{name}" for name in missing], lease, self._pack)
        self.result.there += len(wanted) - len(missing)

    def copy(self, keys: Sequence[str], lease: Lease) -> None:
        """Copy small objects that the target does not have, in this order."""
        prefixes = {key.partition("/")[0] for key in keys}
        # Where the main copy is, all are.
        there = {key for prefix in prefixes for key in self.target.keys(prefix)}
        missing = [key for key in keys if key not in there]
        for number, key in enumerate(missing):
            lease.keep()
            self._told(Phase.COPYING, number, len(missing))
            self._object(key)
        self.result.there += len(keys) - len(missing)

    def _each(self, keys: Sequence[str], lease: Lease, one: Callable[[str], None]) -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(keys), _THREADS):
                lease.keep()
                self._told(Phase.COPYING, start, len(keys))
                for _ in pool.map(one, keys[start : start + _THREADS]):
                    pass

    def _pack(self, key: str) -> None:
        name = digest_of_key(key)
        assert name is not None
        data = sound_pack(self.source, self.from_objects, name)
        if data is not None:
            self._put(key, data)
        elif self.source.head(key) is not None:
            self._damaged(key)

    def _object(self, key: str) -> None:
        try:
            data = self.from_objects.get(key)
        except ObjectMissingError:  # superseded meanwhile; the next round finds by what
            return
        except VaultDamagedError:
            self._damaged(key)
        else:
            self._put(key, data)

    def _put(self, key: str, data: bytes) -> None:
        # Its bytes were compared with its name; the store compares what it has with them.
        self.to_objects.put(key, data)
        if key.startswith(("packs/", "parity/")):
            retain_pack(self.target, key)
        self.result.objects += 1
        self.result.bytes += len(data)

    def _damaged(self, key: str) -> None:
        if key not in self.result.damaged:
            self.result.damaged.append(key)


@dataclass(frozen=True, slots=True)
class _Listing:
    """What the source has, listed in this order."""

    journals: list[str]
    snapshots: list[str]
    indexes: list[str]
    packs: list[str]

    @classmethod
    def of(cls, objects: RedundantObjects, store: ObjectStore) -> _Listing:
        """List."""
        journals = objects.keys("journal/")
        snapshots = objects.keys("snapshots/")
        return cls(journals, snapshots, objects.keys("index/"), list(store.keys("packs/")))


def copy_vault(
    source: ObjectStore, target: ObjectStore, clock: Clock, told: Told = to_nobody
) -> CopyResult:
    """Copy all that a vault has and its copy has not; needs no key.

    Nothing is removed from the copy: prune it as the vault itself.
    """
    copying = Copying(source, target, clock, told)
    copying.check_target()
    with hold_lease(target, clock, "copy") as lease:
        copying.begin(lease)
        listing = _Listing.of(copying.from_objects, source)
        for _round in range(_ROUNDS):
            _copy_round(copying, listing, lease)
            again = _Listing.of(copying.from_objects, source)
            copying.result.is_behind = again != listing
            if not copying.result.is_behind:
                break
            listing = again
        copying.end(lease)
        own = set(copying.to_objects.keys("snapshots/")) - set(listing.snapshots)
        copying.result.own_snapshots = len(own)
    return copying.result


def _copy_round(copying: Copying, listing: _Listing, lease: Lease) -> None:
    named = (digest_of_key(key) for key in listing.packs)
    copying.copy_packs((name for name in named if name is not None), lease)
    # A journal goes before its packs do: one that is there still has had them all along.
    there = set(copying.from_objects.keys("journal/"))
    journals = [key for key in listing.journals if key in there]
    copying.copy(listing.indexes, lease)
    copying.copy(listing.snapshots, lease)
    copying.copy(journals, lease)
