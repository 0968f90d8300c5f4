"""Object Lock: what snapshots lean on is retained, where the store can do that (format page, 13).

Retained are what every restore needs: `config`, keys, indexes, snapshots, and packs with their
parity. `RedundantObjects` retains the first four when they are written. Packs are retained when a
snapshot takes them up, not before: small packs of a run are put together then, and what was copied
must go. Journals, the lease and what a prune writes must go, too, and are never retained.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from dcmvault.errors import ObjectMissingError
from dcmvault.ports.clock import Clock
from dcmvault.ports.object_store import ObjectStore, Retention
from dcmvault.vault.config import CONFIG_KEY
from dcmvault.vault.copies import RETAINED, RedundantObjects
from dcmvault.vault.pack import PackEntry, pack_key
from dcmvault.vault.records import read_time_text, time_text
from dcmvault.vault.repository import Vault
from dcmvault.vault.state import VaultState

_log = logging.getLogger(__name__)

#: Requests under way at once.
_THREADS = 16
_AT_ONCE = 1000
#: Stores keep whole seconds.
_ROUNDED = timedelta(seconds=2)


class ObjectLocks:
    """The locks of one vault; does nothing where the store has none."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._store = vault.store if isinstance(vault.store, Retention) else None

    def are_due(self, before: VaultState) -> bool:
        """Say whether less than half of the time is left of what the heads promise.

        So an object is asked about twice in its time, not in every run. A promise counts only as
        far as its snapshot itself is retained: in a copy of a vault it is another store's.
        """
        if self._store is None:
            return False
        half = _half_time(self._store, self._vault.clock)
        for link, state in zip(before.links, before.states, strict=True):
            held = self._store.retained_until(link.key)
            if held is None or state.retained_until < time_text(half):
                return True
            if time_text(held + _ROUNDED) < state.retained_until:
                return True
        return False

    def take_up(
        self,
        before: VaultState,
        packs: Iterable[PackEntry],
        leaving: Iterable[PackEntry],
        *,
        renew: bool,
    ) -> str:
        """Retain what a new snapshot will lean on; return until when all of it is retained.

        `packs` are those that no snapshot named before; the blobs of those that are `leaving`
        are elsewhere by now. With `renew` everything is retained anew.
        """
        if self._store is None:
            return ""
        if before.states and not renew:
            self.keep_packs(packs)
            return min(state.retained_until for state in before.states)
        until = time_text(self._store.keep_until())
        self._renew(before.forgotten.snapshots, {pack.name for pack in leaving})
        return until

    def keep_packs(self, packs: Iterable[PackEntry]) -> None:
        """Retain new packs, and their parity."""
        if self._store is not None:
            self._keep([pack_key(pack.name) for pack in packs])

    def _renew(self, forgotten: frozenset[str], leaving: set[bytes]) -> None:
        """Retain what any snapshot needs that was not forgotten.

        A pack of which nothing is needed is retained, too, until a prune condemns it.
        """
        vault = self._vault
        packs = set(vault.index.packs) - vault.ledger.condemned - leaving
        small = [
            *(CONFIG_KEY, vault.sealing.keys.key),
            *vault.objects.keys("README"),
            *vault.objects.keys("rescue/"),
            *self._indexes(packs),
            *(link.key for link in vault.links() if link.name not in forgotten),
        ]
        _log.info("renewing the locks of %d packs", len(packs))
        places = [place for key in small for place in vault.objects.places(key)]
        self._keep([*places, *map(pack_key, packs)])

    def _indexes(self, packs: set[bytes]) -> list[str]:
        """Choose indexes that name these packs; others were superseded, but could not go yet."""
        indexes = self._vault.ledger.index_objects()
        named = {key: names & packs for key, names in indexes.items()}
        chosen: list[str] = []
        missing = set(packs)
        for key in sorted(named, key=lambda one: -len(named[one])):
            if named[key] & missing:
                missing -= named[key]
                chosen.append(key)
        return chosen

    def _keep(self, keys: Iterable[str]) -> None:
        parity = list(self._vault.store.keys("parity/")) if self._vault.config.parity else []
        wanted = list(keys)
        packs = {key.rpartition("/")[2] for key in wanted}
        wanted += [key for key in parity if key.rpartition("/")[2][:64] in packs]
        assert self._store is not None
        _retain_all(self._store, wanted)


def locked_until(vault: Vault, state: VaultState) -> datetime | None:
    """Return until when nobody can remove what the heads of a state name; None without a lock.

    A head's promise counts only as far as the head itself is retained, as the store says now.
    What stands in journals only is not locked yet.
    """
    store = vault.store
    if not isinstance(store, Retention) or not state.links:
        return None
    times: list[datetime] = []
    for link, promise in zip(state.links, state.states, strict=True):
        held = store.retained_until(link.key)
        if held is None or not promise.retained_until:
            return None
        times += [held, read_time_text(promise.retained_until)]
    return min(times)


def retain_pack(store: ObjectStore, key: str) -> None:
    """Retain a pack or its parity, which were copied from another store."""
    if isinstance(store, Retention):
        store.retain(key, store.keep_until())


def renew_copy(
    store: ObjectStore, objects: RedundantObjects, clock: Clock, keep_on: Callable[[], None]
) -> None:
    """Retain all of a vault's copy anew, if less than half of the time is left of a snapshot's.

    Needs no key, and so retains garbage, too. `keep_on` is called again and again meanwhile.
    """
    if not isinstance(store, Retention):
        return
    half = _half_time(store, clock)
    with ThreadPoolExecutor(_THREADS) as pool:
        held = list(pool.map(store.retained_until, objects.keys("snapshots/")))
    if all(until is not None and until >= half for until in held):
        return
    small = [key for prefix in RETAINED for key in objects.keys(prefix)]
    places = [place for key in small for place in objects.places(key)]
    wanted = [*places, *store.keys("packs/"), *store.keys("parity/")]
    for start in range(0, len(wanted), _AT_ONCE):
        keep_on()
        _retain_all(store, wanted[start : start + _AT_ONCE])


def _half_time(store: Retention, clock: Clock) -> datetime:
    now = clock.now()
    return now + (store.keep_until() - now) / 2


def _retain_all(store: Retention, keys: Iterable[str]) -> None:
    def retain(key: str) -> None:
        try:
            store.retain(key, store.keep_until())
        except ObjectMissingError:  # a check says so, where it should be there
            _log.info("%s is not there to be retained", key)

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(retain, keys):
            pass
