"""Object Lock: what snapshots lean on is retained, where the store can do that (format page, 13).

Retained are what every restore needs: `config`, keys, indexes, snapshots, and packs with their
parity. `RedundantObjects` retains the first four when they are written. Packs are retained when a
snapshot takes them up, not before: small packs of a run are put together then, and what was copied
must go. Journals, the lease and what a prune writes must go, too, and are never retained.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from dcmvault.errors import ObjectMissingError
from dcmvault.ports.object_store import Retention
from dcmvault.vault.config import CONFIG_KEY
from dcmvault.vault.pack import PackEntry, pack_key
from dcmvault.vault.records import time_text
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import SnapshotState
from dcmvault.vault.state import VaultState

_log = logging.getLogger(__name__)

#: Requests under way at once.
_THREADS = 16


class ObjectLocks:
    """The locks of one vault; does nothing where the store has none."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._store = vault.store if isinstance(vault.store, Retention) else None

    def are_due(self, states: Iterable[SnapshotState]) -> bool:
        """Say whether less than half of the time is left of what the heads promise.

        So an object is asked about twice in its time, not in every run.
        """
        promised = [state.retained_until for state in states]
        if self._store is None or not promised:
            return False
        now = self._vault.clock.now()
        return min(promised) < time_text(now + (self._store.keep_until() - now) / 2)

    def take_up(
        self, before: VaultState, packs: Iterable[PackEntry], leaving: Iterable[PackEntry]
    ) -> str:
        """Retain what a new snapshot will lean on; return until when all of it is retained.

        `packs` are those that no snapshot named before; the blobs of those that are `leaving`
        are elsewhere by now. When it is due everything is retained anew.
        """
        if self._store is None:
            return ""
        if before.states and not self.are_due(before.states):
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
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(self._retain, wanted):
                pass

    def _retain(self, key: str) -> None:
        assert self._store is not None
        try:
            self._store.retain(key, self._store.keep_until())
        except ObjectMissingError:  # a check says so, where it should be there
            _log.info("%s is not there to be retained", key)
