"""Copying some snapshots of a vault: only the packs that they need, and an index of these.

The copy's newest snapshot says of all others that they were forgotten there, so that nothing seems
to be missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from dcmvault.errors import UsageError
from dcmvault.ports.object_store import ObjectStore
from dcmvault.vault.choosing import find_snapshot
from dcmvault.vault.copying import Copying, CopyResult
from dcmvault.vault.lease import Lease, hold_lease
from dcmvault.vault.phases import Phase, Told, to_nobody
from dcmvault.vault.references import References
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link
from dcmvault.vault.state import Forgotten, VaultState, present_state, united
from dcmvault.vault.taking_snapshots import Change, take_snapshot
from dcmvault.vault.usage import look_at_usage


def copy_snapshots(
    vault: Vault, target: ObjectStore, names: Sequence[str], told: Told = to_nobody
) -> tuple[CopyResult, list[Link]]:
    """Copy what these snapshots need and the copy has not; return the snapshots, too.

    Each name is one that `choosing.find_snapshot` takes. Raises UsageError for others, and what
    `copy_vault` raises.
    """
    copying = Copying(vault.store, target, vault.clock, told)
    copying.check_target()
    told(Phase.LOOKING, 0, 0)
    references = References(vault)
    now = present_state(vault)
    links = [link for link in vault.links() if link.name not in now.forgotten.snapshots]
    chosen = list(
        {link.name: link for link in (find_snapshot(links, one) for one in names)}.values()
    )
    if not chosen:
        raise UsageError("no snapshot was named")
    for link in chosen:
        references.add_snapshot(link, now)
    usage = look_at_usage(vault, references.blobs, lambda _note: None)
    packs = set(usage.home.values())
    with hold_lease(target, vault.clock, "copy") as lease:
        copying.begin(lease)
        copying.copy_packs(packs, lease)
        copy = Vault(target, vault.config, vault.sealing.keys, vault.clock)
        copy.refresh()
        fresh = [usage.packs[name].entry for name in sorted(packs - copy.index.packs.keys())]
        lease.renew()
        if fresh:
            copy.ledger.add_index(fresh, copy.now())
        copying.copy([link.key for link in chosen], lease)
        _unite(copy, now, chosen, lease)
        copying.end(lease)
    return copying.result, chosen


def _unite(copy: Vault, source: VaultState, chosen: Sequence[Link], lease: Lease) -> None:
    """Let the copy's newest snapshot say what is not in it, unless it does."""
    there = present_state(copy)
    links = copy.links()
    names = {link.name for link in links}
    missing = {parent for link in links for parent in link.parents} - names
    known = united([there.forgotten, source.forgotten])
    snapshots = (known.snapshots | missing) - {link.name for link in chosen}
    forgotten = Forgotten(snapshots, known.studies, known.lost)
    holds = {**there.holds(), **source.holds()}
    if len(there.links) == 1 and forgotten == there.forgotten and holds == there.holds():
        return
    lease.renew()
    take_snapshot(copy, Change("merge", forgotten=forgotten, holds=holds))
