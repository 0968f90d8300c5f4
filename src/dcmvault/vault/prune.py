"""Pruning: space of what nothing refers to comes back, in two phases (format page, 12).

First packs are condemned: from then on no writer refers to them. After a grace time, and only if
still nothing refers to them, they are removed. So writers need no lock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dcmvault.errors import (
    DestinationError,
    ObjectLockedError,
    PruneRefusedError,
    VaultDamagedError,
)
from dcmvault.vault.ballast import restore_ballast, with_ballast
from dcmvault.vault.index_renewal import renew_index
from dcmvault.vault.key_changes import drop_superseded
from dcmvault.vault.lease import Lease, hold_lease
from dcmvault.vault.ledger import condemned_packs
from dcmvault.vault.phases import Phase, Told, to_nobody
from dcmvault.vault.records import pack_json, read_time_text, time_text, unpack_json
from dcmvault.vault.references import References
from dcmvault.vault.removal import Condemned, Removal
from dcmvault.vault.repository import Vault
from dcmvault.vault.rewriting import rewrite_packs
from dcmvault.vault.snapshot import Link
from dcmvault.vault.state import VaultState
from dcmvault.vault.usage import BlobName, PackUsage, Usage, look_at_usage

_log = logging.getLogger(__name__)

#: Longer than any batch of a writer takes: what it refers to is written down by then.
GRACE = timedelta(hours=24)
#: Share of the stored bytes that may be dropped at once without being told to.
MOST_DROPPED = 0.20
#: A pack is written anew when at least this share of it is no longer needed.
_WASTE = 0.30
#: Smaller packs are not worth it; taking snapshots puts them together.
_LEAST_REWRITTEN_BYTES = 64 << 10
#: Without a grace time, what was condemned goes at once, and what that makes superfluous, too.
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """How a prune is to be done."""

    #: Below an hour only while nobody writes: a writer may be at work on its next batch.
    grace: timedelta = GRACE
    #: Share of the stored bytes (0 to 1) that may be dropped.
    most_dropped: float = MOST_DROPPED
    dry_run: bool = False


@dataclass(slots=True)
class PruneResult:
    """What a prune did, or would do."""

    packs: int = 0
    stored_bytes: int = 0
    needed_bytes: int = 0
    #: Of blobs that nothing needs.
    waste_bytes: int = 0
    #: Newly found to be of no use: it is removed in two steps.
    dropped_bytes: int = 0
    #: Of a dry run: the prune would be refused.
    is_refused: bool = False
    #: Removed now: what was condemned before, its grace time over.
    removed_packs: int = 0
    removed_bytes: int = 0
    #: Condemned now: removed by a prune after the grace time.
    condemned_packs: int = 0
    condemned_bytes: int = 0
    #: Condemned before, and waiting; the first of them until then (UTC).
    waiting_packs: int = 0
    waiting_bytes: int = 0
    waiting_until: datetime | None = None
    spared_packs: int = 0
    rewritten_packs: int = 0
    removed_snapshots: int = 0
    #: Packs and snapshots that the store keeps for some time (Object Lock): a later prune
    #: removes them.
    locked_packs: int = 0
    locked_snapshots: int = 0
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Take in a sentence for people, once."""
        if text not in self.notes:
            self.notes.append(text)


def prune(vault: Vault, request: PruneRequest, told: Told = to_nobody) -> PruneResult:
    """Prune under the lease. Without a grace time, what is condemned goes at once.

    A dry run changes nothing, takes no lease, and tells in its result what would be refused. Else
    raises VaultBusyError, PruneRefusedError when too much would go, and VaultDamagedError when
    something that is needed cannot be read: then nothing is removed.
    """
    if request.dry_run:
        return _Prune(vault, request, None, told).run()
    # On a full disk the ballast makes room for what must be written before anything can go.
    result = with_ballast(vault, lambda: _prune(vault, request, told))
    if not restore_ballast(vault):
        result.note("the disk is still too full for the ballast; free space on it")
    return result


def _prune(vault: Vault, request: PruneRequest, told: Told) -> PruneResult:
    with hold_lease(vault.store, vault.clock, "prune") as lease:
        with suppress(ObjectLockedError):
            drop_superseded(vault.objects, vault.config)
        result = _Prune(vault, request, lease, told).run()
        last = result
        for _round in range(_ROUNDS):
            if request.grace or not last.condemned_packs:
                break
            last = _Prune(vault, request, lease, told).run()
            result.removed_packs += last.removed_packs
            result.removed_bytes += last.removed_bytes
            result.locked_packs = last.locked_packs
            result.condemned_packs = last.condemned_packs
            result.condemned_bytes = last.condemned_bytes
            result.notes += (note for note in last.notes if note not in result.notes)
        for prefix in ("keys/", "index/", "snapshots/", "condemned/"):
            with suppress(DestinationError):  # no part of pruning; a check tells what is missing
                vault.objects.complete(prefix)
    return result


@dataclass(slots=True)
class _Prune:
    vault: Vault
    request: PruneRequest
    #: None in a dry run.
    lease: Lease | None
    told: Told
    result: PruneResult = field(default_factory=PruneResult)

    def run(self) -> PruneResult:
        """Look first, then remove, then condemn."""
        self.told(Phase.LOOKING, 0, 0)
        now, going, needed = self._needed()
        usage = look_at_usage(self.vault, needed, self.result.note)
        condemned = self._condemned()
        known = {name for one in condemned for name in one.packs}
        garbage = usage.garbage
        ripe = self._ripe(condemned) & garbage
        fresh = {name for name in garbage - known if self._may_go(usage, name)}
        ripe = {name for name in ripe if self._may_go(usage, name)}
        wasteful = self._wasteful(usage)
        self._count(usage, garbage & known - ripe, condemned)
        self._check_limit(usage, fresh, wasteful)
        self.result.spared_packs = len((known & usage.packs.keys()) - garbage)
        if self.lease is None:
            self._count_removed(ripe, usage)
            self._count_condemned(fresh, usage)
            return self.result
        removal = Removal(self.vault, self.lease, self.told, self.result.note)
        gone = removal.remove_packs(ripe)
        self.result.locked_packs = len(ripe - gone)
        self._count_removed(gone, usage)
        self.result.removed_snapshots, self.result.locked_snapshots = removal.remove_snapshots(
            going, now
        )
        rewritten = rewrite_packs(usage, wasteful, removal)
        self.result.rewritten_packs = len(rewritten)
        self._condemn(fresh | rewritten, usage, self.lease)
        stale = renew_index(self.vault, usage, gone, self.lease)
        # Lists outlive their packs by a day: a writer that was held up just before it wrote down
        # what it refers to looks at them afterwards.
        before = self.vault.clock.now() - self.request.grace - GRACE
        removal.end_condemned(condemned, before, garbage, staying=(ripe - gone) | stale)
        return self.result

    def _count(self, usage: Usage, waiting: set[bytes], condemned: list[Condemned]) -> None:
        result = self.result
        result.packs = len(usage.packs)
        result.stored_bytes = usage.size
        result.needed_bytes = sum(one.needed for one in usage.packs.values())
        result.waste_bytes = sum(one.blobs - one.needed for one in usage.packs.values())
        result.waiting_packs = len(waiting)
        result.waiting_bytes = usage.size_of(waiting)
        times = [one.condemned_at + self.request.grace for one in condemned if one.packs & waiting]
        result.waiting_until = min(times, default=None)

    def _count_removed(self, names: set[bytes], usage: Usage) -> None:
        self.result.removed_packs = len(names)
        self.result.removed_bytes = usage.size_of(names)

    def _count_condemned(self, names: set[bytes], usage: Usage) -> None:
        self.result.condemned_packs = len(names)
        self.result.condemned_bytes = usage.size_of(names)

    # What is needed

    def _needed(self) -> tuple[VaultState, list[Link], set[BlobName]]:
        """Return the present state, forgotten snapshots that may go, and needed blobs."""
        references = References(self.vault)
        now = references.add_present()
        # Listed afterwards: one that came meanwhile is looked at, too.
        links = self.vault.links()
        forgotten = now.forgotten.snapshots
        self._check_chain(links, forgotten)
        heads = {head.name for head in now.links}
        for link in links:
            if link.name not in forgotten and link.name not in heads:
                references.add_snapshot(link, now)
        held = now.holds()
        going: list[Link] = []
        for link in links:
            if link.name in forgotten and not (held and references.add_held(link, now, held)):
                going.append(link)
        return now, going, references.blobs

    def _check_chain(self, links: Iterable[Link], forgotten: frozenset[str]) -> None:
        """Refuse while a snapshot is missing: what it alone leads to would be taken for garbage."""
        known = {link.name for link in links} | forgotten
        missing = {parent for link in links for parent in link.parents} - known
        if missing:
            raise VaultDamagedError(
                f"the snapshot {min(missing)} is missing; nothing was removed",
                hint="Run `dcmvault vault check`. Another copy of the vault may have it.",
            )

    def _may_go(self, usage: Usage, name: bytes) -> bool:
        if usage.can_do_without(name):
            return True
        self.result.note(
            f"the pack {name.hex()} stays: another one with the same content is damaged"
        )
        return False

    def _wasteful(self, usage: Usage) -> list[PackUsage]:
        """Choose packs that are mostly waste. Those of journals are put together by snapshots."""
        in_journals = {pack.name for one in self.vault.journals() for pack in one.packs}
        passed_over = in_journals | self.vault.ledger.condemned
        return [
            one
            for name, one in usage.packs.items()
            if 0 < one.needed < one.blobs * (1 - _WASTE)
            and one.listed
            and name not in passed_over
            and one.entry.size > _LEAST_REWRITTEN_BYTES
        ]

    def _check_limit(self, usage: Usage, fresh: set[bytes], wasteful: list[PackUsage]) -> None:
        """Refuse to drop too much. What was condemned before was allowed then."""
        total, result = usage.size, self.result
        result.dropped_bytes = usage.size_of(fresh)
        result.dropped_bytes += sum(one.blobs - one.needed for one in wasteful)
        if not total or result.dropped_bytes <= total * self.request.most_dropped:
            return
        if self.lease is None:
            result.is_refused = True
            return
        share = 100 * result.dropped_bytes / total
        raise PruneRefusedError(
            f"this prune would drop {share:.0f} % of what is stored"
            f" ({result.dropped_bytes:,} of {total:,} bytes), more than"
            f" {100 * self.request.most_dropped:.0f} %",
            hint="Look at `dcmvault snapshots` first. If it is right, allow it with"
            f" --max-drop {min(int(share) + 1, 100)}.",
        )

    # What was condemned before

    def _condemned(self) -> list[Condemned]:
        found: list[Condemned] = []
        for key in self.vault.objects.keys("condemned/"):
            body = self.vault.sealing.get(b"C", key)
            at = read_time_text(unpack_json(body)["condemned_at"])
            found.append(Condemned(key, at, condemned_packs(body)))
        return found

    def _ripe(self, condemned: list[Condemned]) -> set[bytes]:
        """Return packs whose grace time is over."""
        before = self.vault.clock.now() - self.request.grace
        return {name for one in condemned if one.condemned_at <= before for name in one.packs}

    # What is no longer needed

    def _condemn(self, names: set[bytes], usage: Usage, lease: Lease) -> None:
        self._count_condemned(names, usage)
        if not names:
            return
        document = {
            "condemned_at": time_text(self.vault.clock.now()),
            "packs": sorted(name.hex() for name in names),
        }
        lease.renew()
        self.vault.sealing.put("condemned", b"C", pack_json(document))
        self.vault.ledger.look_at_condemned()
