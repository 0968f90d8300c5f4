"""Small packs of many flushes put together, and what a snapshot made superfluous removed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence

from dcmvault.errors import DestinationError, ObjectMissingError, VaultDamagedError
from dcmvault.vault.blob_packs import BlobPacks
from dcmvault.vault.ledger import Journal
from dcmvault.vault.pack import PackEntry, blob_rows, pack_key
from dcmvault.vault.repository import Vault

_log = logging.getLogger(__name__)

#: Packs smaller than this are put together when a snapshot is taken. Larger ones are few anyway:
#: to read and write them once more takes longer than it will ever save.
SMALL_PACK_BYTES = 8 << 20


def put_together(
    vault: Vault, journals: Sequence[Journal], blobs: BlobPacks
) -> tuple[list[PackEntry], list[PackEntry]]:
    """Copy the blobs of small packs of the journals; return (packs copied, packs left alone).

    Blobs are known by their ids, so nobody who refers to them notices.
    """
    named = {pack.name: pack for journal in journals for pack in journal.packs}
    # A repair drops from the index what it had to give up.
    packs = [pack for name, pack in named.items() if vault.index.pack(name) is not None]
    small = [pack for pack in packs if pack.size < SMALL_PACK_BYTES]
    others = [pack for pack in packs if pack.size >= SMALL_PACK_BYTES]
    if len(small) < 2:
        return [], packs
    # Two who write at once may both have stored a blob.
    elsewhere = {row.id for pack in others for row in blob_rows(pack.rows)}
    copied: list[PackEntry] = []
    for pack in small:
        try:
            _copy(vault, pack, blobs, elsewhere)
        except ObjectMissingError:  # another snapshot moved it: its index says where to
            continue
        except VaultDamagedError:  # a repair will mend it where it lies
            others.append(pack)
            continue
        copied.append(pack)
    return copied, others


def _copy(vault: Vault, pack: PackEntry, blobs: BlobPacks, elsewhere: set[bytes]) -> None:
    data = vault.store.get(pack_key(pack.name))
    if hashlib.sha256(data).digest() != pack.name:
        raise VaultDamagedError(f"the pack {pack.name.hex()} is damaged")
    sealer = vault.packs.sealer(pack.name)
    for number, row in enumerate(blob_rows(pack.rows)):
        if row.id in elsewhere or blobs.has(row.id):
            continue
        sealed = memoryview(data)[row.offset : row.offset + row.length]
        encoding = sealer.open(number, row.type.letter, row.id, sealed)
        blobs.add(row.type, row.id, encoding, row.content_length)


def remove_superseded(
    vault: Vault, journals: Sequence[Journal], packs: Sequence[PackEntry]
) -> None:
    """Remove journals that a snapshot took up, and packs whose blobs were copied.

    What stays behind (the disk is gone, the object is locked) is harmless.
    """
    for journal in journals:
        _remove(vault.objects.delete, journal.key)
    for pack in packs:
        _remove(vault.objects.delete, pack_key(pack.name))
        for key in vault.packs.parity_keys(pack.name):
            _remove(vault.store.delete, key)
    vault.index.drop(pack.name for pack in packs)


def _remove(delete: Callable[[str], None], key: str) -> None:
    try:
        delete(key)
    except ObjectMissingError:
        return
    except DestinationError as error:
        _log.info("%s stays behind: %s", key, error.code)
