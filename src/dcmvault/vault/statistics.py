"""What a vault stores for what it holds: sizes by kind of object and of blob, and what is waste."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import numpy as np

from dcmvault.vault.blob import BlobType
from dcmvault.vault.copies import digest_of_key
from dcmvault.vault.keys import Epoch
from dcmvault.vault.phases import Told, to_nobody
from dcmvault.vault.prune import PruneRequest, PruneResult, prune
from dcmvault.vault.repository import Vault
from dcmvault.vault.space import Space, space_of
from dcmvault.vault.state import VaultState, present_state

_THREADS = 16


class BlobFigures(NamedTuple):
    """Blobs of one type in all packs."""

    kind: BlobType
    blobs: int
    content_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class VaultFigures:
    """Sizes of a vault; bytes as they lie in its store."""

    #: What it holds now.
    studies: int
    instances: int
    source_bytes: int
    #: By kind of object: the first part of its key. Copies are under `copies`.
    stored: Mapping[str, int]
    blobs: tuple[BlobFigures, ...]
    #: What a prune would find.
    packs: PruneResult
    snapshots: int
    journals: int
    epochs: tuple[Epoch, ...]
    #: What takes up the space of what it holds now.
    space: Space

    @property
    def stored_bytes(self) -> int:
        """All of it."""
        return sum(self.stored.values())

    @property
    def ratio(self) -> float:
        """Bytes of the files for one byte in packs; 0 for an empty vault."""
        packs = self.stored.get("packs", 0)
        return self.source_bytes / packs if packs else 0.0

    @property
    def waste_bytes(self) -> int:
        """Bytes in packs that nothing needs."""
        return self.packs.waste_bytes


def figures_of(vault: Vault, told: Told = to_nobody) -> VaultFigures:
    """Gather the figures; reads what is needed as a prune does, and changes nothing."""
    now = present_state(vault)
    studies, instances, size = _holding(now)
    links = vault.links()
    return VaultFigures(
        studies=studies,
        instances=instances,
        source_bytes=size,
        stored=_stored(vault),
        blobs=_blobs(vault),
        packs=prune(vault, PruneRequest(timedelta(0), 1.0, dry_run=True), told),
        snapshots=sum(link.name not in now.forgotten.snapshots for link in links),
        journals=len(now.journals),
        epochs=vault.sealing.ring.epochs,
        space=space_of(vault, now, told),
    )


def _holding(now: VaultState) -> tuple[int, int, int]:
    if len(now.states) == 1 and not now.journals:
        (only,) = now.states
        return only.studies, only.instances, only.size
    studies, instances, size = 0, 0, 0
    for uid in now.studies():
        records = now.records(uid)
        studies += 1
        instances += len(records)
        size += sum(record.size for record in records)
    return studies, instances, size


def _stored(vault: Vault) -> dict[str, int]:
    """Add up the sizes of objects: of packs as indexes tell them, others are asked for."""
    sizes: Counter[str] = Counter()
    asked: list[str] = []
    every = vault.store.keys()
    for key in every:
        name = digest_of_key(key) if key.startswith("packs/") else None
        pack = vault.index.pack(name) if name else None
        if pack is None:
            asked.append(key)
        else:
            sizes["packs"] += pack.size
    with ThreadPoolExecutor(_THREADS) as pool:
        for key, size in zip(asked, pool.map(vault.store.head, asked), strict=True):
            sizes[key.partition("/")[0]] += size or 0
    return dict(sorted(sizes.items()))


def _blobs(vault: Vault) -> tuple[BlobFigures, ...]:
    blobs: Counter[int] = Counter()
    contents: Counter[int] = Counter()
    stored: Counter[int] = Counter()
    for pack in vault.index.packs.values():
        types = pack.rows["type"]
        for letter in np.unique(types):
            chosen = pack.rows[types == letter]
            blobs[int(letter)] += len(chosen)
            contents[int(letter)] += int(chosen["content"].sum(dtype=np.int64))
            stored[int(letter)] += int(chosen["length"].sum(dtype=np.int64))
    return tuple(
        BlobFigures(kind, blobs[ord(kind)], contents[ord(kind)], stored[ord(kind)])
        for kind in BlobType
        if blobs[ord(kind)]
    )
