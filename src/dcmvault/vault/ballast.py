"""Ballast: room that is given up when a disk is full and space must be made (format page, 2)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from dcmvault.errors import DestinationError, DestinationStoppedError, ObjectMissingError
from dcmvault.ports.object_store import ObjectStore
from dcmvault.vault.config import VaultConfig
from dcmvault.vault.initialise import BALLAST_KEY
from dcmvault.vault.repository import Vault

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


def with_ballast(vault: Vault, work: Callable[[], _T]) -> _T:
    """Do what makes space; if there is no room even for that, give up the ballast and try again.

    `work` must be something that may be done twice.
    """
    try:
        return work()
    except DestinationStoppedError:
        if not _give_up(vault):
            raise
    return work()


def restore_ballast(vault: Vault) -> bool:
    """Put the ballast back where it should be and is not; say whether it is there now."""
    return restore_ballast_of(vault.store, vault.config)


def restore_ballast_of(store: ObjectStore, config: VaultConfig) -> bool:
    """Do `restore_ballast` where no key is at hand."""
    if not config.ballast or store.head(BALLAST_KEY) is not None:
        return True
    try:
        store.put(BALLAST_KEY, [bytes(config.ballast)])
    except DestinationError as error:
        _log.warning("no ballast can be kept: %s", error.code)
        return False
    return True


def require_ballast(vault: Vault) -> None:
    """Put the ballast back before anything else is stored; DestinationStoppedError without room.

    What was given up is for making room: a backup that takes it leaves nothing to do that with.
    """
    if not restore_ballast(vault):
        raise DestinationStoppedError(
            "the disk that the vault is on is full: not even its reserve fits",
            hint="Free space on the disk, or run `dcmvault vault prune`.",
        )


def _give_up(vault: Vault) -> bool:
    try:
        vault.store.delete(BALLAST_KEY)
    except ObjectMissingError:
        return False
    _log.warning("the ballast was given up")
    return True
