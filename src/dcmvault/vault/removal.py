"""Removing what a prune may remove: packs, snapshots, and lists of condemned packs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    ObjectLockedError,
    ObjectMissingError,
)
from dcmvault.vault.lease import Lease
from dcmvault.vault.pack import PackEntry, pack_key
from dcmvault.vault.phases import Phase, Told
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link
from dcmvault.vault.state import VaultState, forgotten_of


class Condemned(NamedTuple):
    """One object of kind C."""

    key: str
    condemned_at: datetime
    packs: frozenset[bytes]


@dataclass(slots=True)
class Removal:
    """Removes under the lease; what is locked stays, and is counted."""

    vault: Vault
    lease: Lease
    told: Told
    #: Takes a sentence for people.
    note: Callable[[str], None]

    def remove_packs(self, ripe: set[bytes]) -> set[bytes]:
        """Remove packs; return which are gone."""
        self.lease.renew()
        gone: set[bytes] = set()
        for number, name in enumerate(sorted(ripe)):
            self.told(Phase.REMOVING, number, len(ripe))
            self.lease.keep()
            # Parity first: a pack that stays without it is none the worse for being garbage.
            removed = [self._delete(key) for key in self.vault.packs.parity_keys(name)]
            if all([*removed, self._delete(pack_key(name))]):
                gone.add(name)
        self.vault.index.drop(gone)
        return gone

    def remove_snapshots(self, going: list[Link], now: VaultState) -> tuple[int, int]:
        """Remove forgotten snapshots of which every head says that they were forgotten.

        Another one would look for a snapshot that is missing. It goes when heads are united.
        Returns how many were removed, and how many are locked.
        """
        removed = locked = 0
        known = [forgotten_of(self.vault, [state]).snapshots for state in now.states]
        agreed = frozenset.intersection(*known) if known else frozenset()
        for link in going:
            if link.name not in agreed:
                continue
            try:
                self.vault.objects.delete(link.key)
            except ObjectLockedError:
                locked += 1
            else:
                removed += 1
        return removed, locked

    def _delete(self, key: str) -> bool:
        try:
            self.vault.objects.delete(key)
        except ObjectMissingError:
            return True
        except ObjectLockedError:
            return False
        except (DestinationUnreachableError, DestinationStoppedError):
            raise
        except DestinationError as error:
            self.note(f"{key} cannot be removed yet: {error.message}")
            return False
        return True

    def end_condemned(
        self,
        condemned: list[Condemned],
        before: datetime,
        garbage: set[bytes],
        staying: set[bytes],
    ) -> None:
        """Remove lists from `before`, and those of which everything is needed again.

        Not what names packs that stay, or that some index still names.
        """
        self.lease.renew()
        there = self.vault.index.packs.keys()
        for one in condemned:
            # What was spared is needed again: it may be referred to from now on.
            is_over = one.condemned_at <= before and not one.packs & staying
            is_needed = one.packs <= there and not one.packs & (garbage | staying)
            if is_over or (one.packs and is_needed):
                self.vault.objects.delete(one.key)

    def remove_pack(self, entry: PackEntry) -> None:
        """Remove one pack with its parity, as far as it can be."""
        for key in (*self.vault.packs.parity_keys(entry.name), pack_key(entry.name)):
            self._delete(key)
