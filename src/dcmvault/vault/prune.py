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
from typing import NamedTuple

from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    ObjectLockedError,
    ObjectMissingError,
    PruneRefusedError,
    VaultDamagedError,
)
from dcmvault.ports.object_store import Retention
from dcmvault.vault.ballast import restore_ballast, with_ballast
from dcmvault.vault.blob_packs import BlobPacks
from dcmvault.vault.index import Place
from dcmvault.vault.key_changes import drop_superseded
from dcmvault.vault.lease import Lease, hold_lease
from dcmvault.vault.ledger import condemned_packs
from dcmvault.vault.locking import ObjectLocks
from dcmvault.vault.pack import PackEntry, blob_rows, pack_key
from dcmvault.vault.phases import Phase, Told, to_nobody
from dcmvault.vault.profile import DEFAULT_PROFILE
from dcmvault.vault.records import pack_json, read_time_text, time_text, unpack_json
from dcmvault.vault.references import References
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link
from dcmvault.vault.state import VaultState, forgotten_of
from dcmvault.vault.usage import BlobName, PackUsage, Usage, look_at_usage, read_encoding

_log = logging.getLogger(__name__)

#: Longer than any batch of a writer takes: what it refers to is written down by then.
GRACE = timedelta(hours=24)
#: Share of the stored bytes that may be dropped at once without being told to.
MOST_DROPPED = 0.20
#: A pack is written anew when at least this share of it is no longer needed.
_WASTE = 0.30
#: Smaller packs are not worth it; taking snapshots puts them together.
_LEAST_REWRITTEN_BYTES = 64 << 10
_MANY_INDEXES = 64
#: Packs that are rewritten before an index names the new ones.
_REWRITTEN_AT_ONCE = 16
#: Blobs that one index object names at most.
_INDEX_ROWS = 500_000
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


class _Condemned(NamedTuple):
    """One object of kind C."""

    key: str
    condemned_at: datetime
    packs: frozenset[bytes]


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
        gone = self._remove(ripe, self.lease)
        self._count_removed(gone, usage)
        self._remove_snapshots(going, now)
        rewritten = self._rewrite(usage, wasteful, self.lease)
        self._condemn(fresh | rewritten, usage, self.lease)
        stale = self._renew_index(usage, gone, self.lease)
        self._end_condemned(condemned, garbage, staying=(ripe - gone) | stale, lease=self.lease)
        return self.result

    def _count(self, usage: Usage, waiting: set[bytes], condemned: list[_Condemned]) -> None:
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

    def _condemned(self) -> list[_Condemned]:
        found: list[_Condemned] = []
        for key in self.vault.objects.keys("condemned/"):
            body = self.vault.sealing.get(b"C", key)
            at = read_time_text(unpack_json(body)["condemned_at"])
            found.append(_Condemned(key, at, condemned_packs(body)))
        return found

    def _ripe(self, condemned: list[_Condemned]) -> set[bytes]:
        """Return packs whose grace time is over."""
        before = self.vault.clock.now() - self.request.grace
        return {name for one in condemned if one.condemned_at <= before for name in one.packs}

    def _remove(self, ripe: set[bytes], lease: Lease) -> set[bytes]:
        """Remove packs; return which are gone."""
        lease.renew()
        gone: set[bytes] = set()
        for number, name in enumerate(sorted(ripe)):
            self.told(Phase.REMOVING, number, len(ripe))
            lease.keep()
            # Parity first: a pack that stays without it is none the worse for being garbage.
            removed = [self._delete(key) for key in self.vault.packs.parity_keys(name)]
            if all([*removed, self._delete(pack_key(name))]):
                gone.add(name)
        self.result.locked_packs = len(ripe - gone)
        self.vault.index.drop(gone)
        return gone

    def _remove_snapshots(self, going: list[Link], now: VaultState) -> None:
        """Remove forgotten snapshots of which every head says that they were forgotten.

        Another one would look for a snapshot that is missing. It goes when heads are united.
        """
        known = [forgotten_of(self.vault, [state]).snapshots for state in now.states]
        agreed = frozenset.intersection(*known) if known else frozenset()
        for link in going:
            if link.name not in agreed:
                continue
            try:
                self.vault.objects.delete(link.key)
            except ObjectLockedError:
                self.result.locked_snapshots += 1
            else:
                self.result.removed_snapshots += 1

    def _delete(self, key: str) -> bool:
        try:
            self.vault.store.delete(key)
        except ObjectMissingError:
            return True
        except ObjectLockedError:
            return False
        except (DestinationUnreachableError, DestinationStoppedError):
            raise
        except DestinationError as error:
            self.result.note(f"{key} cannot be removed yet: {error.message}")
            return False
        return True

    def _end_condemned(
        self,
        condemned: list[_Condemned],
        garbage: set[bytes],
        staying: set[bytes],
        lease: Lease,
    ) -> None:
        """Remove what is over; not what names packs that stay, or that some index still names.

        They outlive their packs by a day: a writer that was held up just before it wrote down what
        it refers to looks here afterwards.
        """
        lease.renew()
        before = self.vault.clock.now() - self.request.grace - GRACE
        for one in condemned:
            # What was spared is needed again: it may be referred to from now on.
            is_over = one.condemned_at <= before and not one.packs & staying
            if is_over or (one.packs and not one.packs & (garbage | staying) and self._all(one)):
                self.vault.objects.delete(one.key)

    def _all(self, one: _Condemned) -> bool:
        """Say whether all packs of a list are there."""
        return one.packs <= self.vault.index.packs.keys()

    # What is no longer needed

    def _rewrite(self, usage: Usage, wasteful: list[PackUsage], lease: Lease) -> set[bytes]:
        """Copy what is needed out of packs that are mostly waste; return those packs."""
        done: set[bytes] = set()
        for start in range(0, len(wasteful), _REWRITTEN_AT_ONCE):
            self.told(Phase.REWRITING, len(done), len(wasteful))
            part = wasteful[start : start + _REWRITTEN_AT_ONCE]
            blobs = BlobPacks(self.vault, DEFAULT_PROFILE)
            try:
                copied = {one.entry.name for one in part if self._copy(one.entry, usage, blobs)}
                lease.keep()
                blobs.close()
                lease.renew()
                ObjectLocks(self.vault).keep_packs(blobs.packs)
                self.vault.ledger.add_index(blobs.packs, self.vault.now())
            except DestinationStoppedError:
                # A full disk: what needs no room is done first; a later prune does this.
                self.result.note("there is no room to rewrite packs that are mostly waste")
                for entry in blobs.packs:
                    self._delete_pack(entry)
                break
            done |= copied
        self.result.rewritten_packs = len(done)
        return done

    def _delete_pack(self, entry: PackEntry) -> None:
        for key in (*self.vault.packs.parity_keys(entry.name), pack_key(entry.name)):
            self._delete(key)

    def _copy(self, entry: PackEntry, usage: Usage, blobs: BlobPacks) -> bool:
        """Copy what is counted in a pack; False if it cannot be read, and must stay."""
        for number, row in enumerate(blob_rows(entry.rows)):
            if not usage.is_home_to(entry.name, (row.type, row.id)) or blobs.has(row.id):
                continue
            place = Place(entry.name, number, row.offset, row.length, row.content_length)
            try:
                encoding = read_encoding(self.vault, place, row.type, row.id)
            except (ObjectMissingError, VaultDamagedError):
                self.result.note(f"the pack {entry.name.hex()} is damaged, and left alone")
                return False
            blobs.add(row.type, row.id, encoding, row.content_length)
        return True

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

    def _renew_index(self, usage: Usage, gone: set[bytes], lease: Lease) -> set[bytes]:
        """Let no index name packs that are gone; return those that one names nevertheless.

        Only indexes that were read here are replaced, and all that they name and is there stands
        in the new ones: a writer may add others at any time.
        """
        indexes = self.vault.ledger.index_objects()
        entries = {**self.vault.index.packs, **{n: u.entry for n, u in usage.packs.items()}}
        named = _united(indexes.values())
        unlisted = {name for name, one in usage.packs.items() if one.needed and not one.listed}
        missing = {name for name in named if name in gone or not self._is_there(name, usage)}
        stale = {key for key, packs in indexes.items() if packs & missing}
        if len(indexes) >= _MANY_INDEXES and not isinstance(self.vault.store, Retention):
            stale = set(indexes)
        staying = _united(indexes[key] for key in indexes.keys() - stale)
        wanted = (unlisted | _united(indexes[key] for key in stale)) - missing - staying
        lease.renew()
        self._write_indexes([entries[name] for name in sorted(wanted) if name in entries])
        locked = [key for key in sorted(stale) if not self._remove_index(key)]
        return _united(indexes[key] & missing for key in locked)

    def _is_there(self, name: bytes, usage: Usage) -> bool:
        return name in usage.packs or self.vault.packs.size(name) is not None

    def _write_indexes(self, entries: list[PackEntry]) -> None:
        part: list[PackEntry] = []
        rows = 0
        for entry in entries:
            part.append(entry)
            rows += len(entry.rows)
            if rows >= _INDEX_ROWS:
                self.vault.ledger.add_index(part, self.vault.now())
                part, rows = [], 0
        if part:
            self.vault.ledger.add_index(part, self.vault.now())

    def _remove_index(self, key: str) -> bool:
        try:
            self.vault.ledger.remove_index(key)
        except ObjectLockedError:
            return False
        return True


def _united(every: Iterable[frozenset[bytes]]) -> set[bytes]:
    return {name for one in every for name in one}
