"""Packs that are mostly waste, written anew with what is needed of them."""

from __future__ import annotations

from dcmvault.errors import DestinationStoppedError, ObjectMissingError, VaultDamagedError
from dcmvault.vault.blob_packs import BlobPacks
from dcmvault.vault.index import Place
from dcmvault.vault.locking import ObjectLocks
from dcmvault.vault.pack import PackEntry, blob_rows
from dcmvault.vault.phases import Phase
from dcmvault.vault.profile import DEFAULT_PROFILE
from dcmvault.vault.removal import Removal
from dcmvault.vault.usage import PackUsage, Usage, read_encoding

#: Packs that are rewritten before an index names the new ones.
_REWRITTEN_AT_ONCE = 16


def rewrite_packs(usage: Usage, wasteful: list[PackUsage], removal: Removal) -> set[bytes]:
    """Copy what is needed out of packs that are mostly waste; return those packs."""
    vault = removal.vault
    done: set[bytes] = set()
    for start in range(0, len(wasteful), _REWRITTEN_AT_ONCE):
        removal.told(Phase.REWRITING, len(done), len(wasteful))
        part = wasteful[start : start + _REWRITTEN_AT_ONCE]
        blobs = BlobPacks(vault, DEFAULT_PROFILE)
        try:
            copied = {one.entry.name for one in part if _copy(one.entry, usage, blobs, removal)}
            removal.lease.keep()
            blobs.close()
            removal.lease.renew()
            ObjectLocks(vault).keep_packs(blobs.packs)
            vault.ledger.add_index(blobs.packs, vault.now())
        except DestinationStoppedError:
            # A full disk: what needs no room is done first; a later prune does this.
            removal.note("there is no room to rewrite packs that are mostly waste")
            for entry in blobs.packs:
                removal.remove_pack(entry)
            break
        done |= copied
    return done


def _copy(entry: PackEntry, usage: Usage, blobs: BlobPacks, removal: Removal) -> bool:
    """Copy what is counted in a pack; False if it cannot be read, and must stay."""
    for number, row in enumerate(blob_rows(entry.rows)):
        if not usage.is_home_to(entry.name, (row.type, row.id)) or blobs.has(row.id):
            continue
        place = Place(entry.name, number, row.offset, row.length, row.content_length)
        try:
            encoding = read_encoding(removal.vault, place, row.type, row.id)
        except (ObjectMissingError, VaultDamagedError):
            removal.note(f"the pack {entry.name.hex()} is damaged, and left alone")
            return False
        blobs.add(row.type, row.id, encoding, row.content_length)
    return True
