"""New epochs by themselves: when a backup begins to write, as the vault's policy says (page, 4)."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

from dcmvault.errors import DestinationError, ObjectMissingError, UsageError, VaultDamagedError
from dcmvault.vault.key_changes import rotate_if_due
from dcmvault.vault.lease import hold_lease
from dcmvault.vault.pack import PackEntry
from dcmvault.vault.repository import Vault

_log = logging.getLogger(__name__)

#: Packs whose epoch is looked up where all of them are more than the policy's limit.
_SAMPLE = 128
_READERS = 16


def rotate_when_due(vault: Vault) -> bool:
    """Open an epoch if the policy asks for one; say whether that was done.

    Whoever holds the lease now goes first, and a store that takes none is left as it is: the next
    backup asks again. Raises VaultLockedError if what opened the vault no longer does.
    """
    if not vault.config.encrypted:
        return False
    vault.sealing.keep_up()
    if not _is_due(vault):
        return False
    before = vault.sealing.ring.newest.number
    try:
        with hold_lease(vault.store, vault.clock, "key rotate"):
            vault.sealing.keep_up()
            vault.sealing.keys = rotate_if_due(
                vault.objects, vault.sealing.keys, vault.clock.now(), bytes_in_newest_epoch(vault)
            )
    except (DestinationError, UsageError) as error:
        _log.info("the next key epoch waits: %s", error.code)
        return False
    return vault.sealing.ring.newest.number > before


def _is_due(vault: Vault) -> bool:
    ring, now = vault.sealing.ring, vault.clock.now()
    return ring.rotation_due(now, 0) or ring.rotation_due(now, bytes_in_newest_epoch(vault))


def bytes_in_newest_epoch(vault: Vault) -> int:
    """Estimate how much is stored under the newest epoch, as far as the index is read.

    Which epoch a pack belongs to, only its header says. Where all packs together are less than
    the policy's limit, or there was one epoch only, none is asked. Else 128 packs are: those whose
    names come first, which are as good as drawn by lot because names are digests.
    """
    packs = vault.index.packs
    total = sum(pack.size for pack in packs.values())
    ring = vault.sealing.ring
    if len(ring.epochs) == 1 or not ring.rotation.bytes or total < ring.rotation.bytes:
        return total
    sample = [packs[name] for name in sorted(packs)[:_SAMPLE]]

    def is_newest(pack: PackEntry) -> bool:
        try:
            return vault.packs.sealer(pack.name).header.epoch == ring.newest.number
        except (ObjectMissingError, VaultDamagedError):
            return False

    with ThreadPoolExecutor(_READERS) as pool:
        newest = [
            pack.size for pack, new in zip(sample, pool.map(is_newest, sample), strict=True) if new
        ]
    return total * sum(newest) // max(sum(pack.size for pack in sample), 1)
