"""Indexes written anew by a prune, so that none names packs that are gone."""

from __future__ import annotations

from collections.abc import Iterable

from dcmvault.errors import ObjectLockedError
from dcmvault.ports.object_store import Retention
from dcmvault.vault.lease import Lease
from dcmvault.vault.pack import PackEntry
from dcmvault.vault.repository import Vault
from dcmvault.vault.usage import Usage

_MANY_INDEXES = 64
#: Blobs that one index object names at most.
_INDEX_ROWS = 500_000


def renew_index(vault: Vault, usage: Usage, gone: set[bytes], lease: Lease) -> set[bytes]:
    """Let no index name packs that are gone; return those that one names nevertheless.

    Only indexes that were read here are replaced, and all that they name and is there stands
    in the new ones: a writer may add others at any time.
    """
    indexes = vault.ledger.index_objects()
    entries = {**vault.index.packs, **{n: u.entry for n, u in usage.packs.items()}}
    named = _united(indexes.values())
    unlisted = {name for name, one in usage.packs.items() if one.needed and not one.listed}
    missing = {name for name in named if name in gone or not _is_there(vault, name, usage)}
    stale = {key for key, packs in indexes.items() if packs & missing}
    if len(indexes) >= _MANY_INDEXES and not isinstance(vault.store, Retention):
        stale = set(indexes)
    staying = _united(indexes[key] for key in indexes.keys() - stale)
    wanted = (unlisted | _united(indexes[key] for key in stale)) - missing - staying
    lease.renew()
    _write_indexes(vault, [entries[name] for name in sorted(wanted) if name in entries])
    locked = [key for key in sorted(stale) if not _remove_index(vault, key)]
    return _united(indexes[key] & missing for key in locked)


def _is_there(vault: Vault, name: bytes, usage: Usage) -> bool:
    return name in usage.packs or vault.packs.size(name) is not None


def _write_indexes(vault: Vault, entries: list[PackEntry]) -> None:
    part: list[PackEntry] = []
    rows = 0
    for entry in entries:
        part.append(entry)
        rows += len(entry.rows)
        if rows >= _INDEX_ROWS:
            vault.ledger.add_index(part, vault.now())
            part, rows = [], 0
    if part:
        vault.ledger.add_index(part, vault.now())


def _remove_index(vault: Vault, key: str) -> bool:
    try:
        vault.ledger.remove_index(key)
    except ObjectLockedError:
        return False
    return True


def _united(every: Iterable[frozenset[bytes]]) -> set[bytes]:
    return {name for one in every for name in one}
