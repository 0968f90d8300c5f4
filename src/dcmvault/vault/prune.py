"""Pruning: space of what nothing refers to comes back, in two phases (format page, 12).

First packs are condemned: from then on no writer refers to them. After a grace time, and only if
still nothing refers to them, they are removed. So writers need no lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    ObjectMissingError,
    PruneRefusedError,
    VaultDamagedError,
)
from dcmvault.vault.blob import BlobType
from dcmvault.vault.blob_packs import BlobPacks
from dcmvault.vault.codec import decode
from dcmvault.vault.index import Place
from dcmvault.vault.initialise import BALLAST_KEY
from dcmvault.vault.lease import Lease, hold_lease
from dcmvault.vault.pack import PackEntry, blob_rows, pack_key
from dcmvault.vault.profile import DEFAULT_PROFILE
from dcmvault.vault.records import pack_json, time_text, unpack_json
from dcmvault.vault.references import needed_blobs
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link
from dcmvault.vault.state import VaultState

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
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """How a prune is to be done."""

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
    #: Removed now: what was condemned before, its grace time over.
    removed_packs: int = 0
    removed_bytes: int = 0
    #: Condemned now: removed by a prune after the grace time.
    condemned_packs: int = 0
    condemned_bytes: int = 0
    #: Condemned before, and waiting.
    waiting_packs: int = 0
    spared_packs: int = 0
    rewritten_packs: int = 0
    removed_snapshots: int = 0
    notes: list[str] = field(default_factory=list)


class _Usage(NamedTuple):
    """One pack and how much of it is needed."""

    entry: PackEntry
    needed: int  #: sealed bytes
    blobs: int  #: sealed bytes of all its blobs
    listed: bool  #: whether an index or a journal names it


class _Condemned(NamedTuple):
    """One object of kind C."""

    key: str
    condemned_at: datetime
    packs: frozenset[bytes]


def prune(
    vault: Vault, request: PruneRequest, said: Callable[[str], None] = lambda _text: None
) -> PruneResult:
    """Prune under the lease. Without a grace time, what is condemned goes at once.

    Raises VaultBusyError, PruneRefusedError when too much would go, and VaultDamagedError when
    something that is needed cannot be read: then nothing is removed.
    """
    try:
        return _prune(vault, request, said)
    except DestinationStoppedError:
        # A full disk: what was kept for this day makes room for what must be written first.
        if request.dry_run or not _give_up_ballast(vault):
            raise
    result = _prune(vault, request, said)
    _restore_ballast(vault, result)
    return result


def _prune(vault: Vault, request: PruneRequest, said: Callable[[str], None]) -> PruneResult:
    with hold_lease(vault.store, vault.clock, "prune") as lease:
        result = _Prune(vault, request, lease, said).run()
        if not request.grace and not request.dry_run and result.condemned_packs:
            second = _Prune(vault, request, lease, said).run()
            result.removed_packs += second.removed_packs
            result.removed_bytes += second.removed_bytes
    return result


def _give_up_ballast(vault: Vault) -> bool:
    try:
        vault.store.delete(BALLAST_KEY)
    except ObjectMissingError:
        return False
    return True


def _restore_ballast(vault: Vault, result: PruneResult) -> None:
    try:
        vault.store.put(BALLAST_KEY, [bytes(vault.config.ballast)])
    except DestinationStoppedError:
        result.notes.append("the disk is still too full for the ballast; free space on it")


@dataclass(slots=True)
class _Prune:
    vault: Vault
    request: PruneRequest
    lease: Lease
    said: Callable[[str], None]
    result: PruneResult = field(default_factory=PruneResult)

    def run(self) -> PruneResult:
        """Look first, then remove, then condemn."""
        links = self.vault.links()
        self.said("looking at what is needed")
        now, needed, kept = self._needed(links)
        usage = self._usage(needed)
        result = self.result
        result.packs = len(usage)
        result.stored_bytes = sum(one.entry.size for one in usage.values())
        result.needed_bytes = sum(one.needed for one in usage.values())
        garbage = {name for name, one in usage.items() if not one.needed}
        self._check_limit(usage, garbage)
        condemned = self._condemned()
        ripe = self._ripe(condemned, garbage)
        waiting = frozenset().union(*(one.packs for one in condemned)) & garbage - ripe
        result.waiting_packs = len(waiting)
        result.removed_packs = len(ripe)
        result.removed_bytes = sum(usage[name].entry.size for name in ripe)
        if self.request.dry_run:
            fresh = garbage - ripe - waiting
            result.condemned_packs = len(fresh)
            result.condemned_bytes = sum(usage[name].entry.size for name in fresh)
            return result
        self._remove(ripe, condemned, garbage)
        self._remove_snapshots(links, now, kept)
        rewritten = self._rewrite(usage, needed)
        self._condemn((garbage - ripe - waiting) | rewritten, usage)
        self._renew_index(ripe)
        return result

    # What is needed

    def _needed(
        self, links: list[Link]
    ) -> tuple[VaultState, set[tuple[str, bytes]], frozenset[str]]:
        """Return the present state, needed blobs, and forgotten snapshots that a hold keeps."""
        from_present, _ = needed_blobs(self.vault, [])
        forgotten = from_present.forgotten.snapshots
        alive = [link for link in links if link.name not in forgotten]
        now, needed = needed_blobs(self.vault, alive)
        held = now.holds()
        kept: set[str] = set()
        for link in links:
            if link.name in forgotten and held:
                kept |= self._kept_by_hold(link, now, held, needed)
        return now, needed, frozenset(kept)

    def _kept_by_hold(
        self, link: Link, now: VaultState, held: Iterable[str], needed: set[tuple[str, bytes]]
    ) -> set[str]:
        """Keep a forgotten snapshot that alone has some version of a study under legal hold."""
        _now, all_of_it = needed_blobs(self.vault, [link])
        state = VaultState(self.vault, [link], [self.vault.state(link)], (), now.forgotten)
        for uid in held:
            if any((BlobType.RECORDS, ref.id) not in needed for ref in state.refs(uid)):
                needed |= all_of_it
                return {link.name}
        return set()

    def _usage(self, needed: set[tuple[str, bytes]]) -> dict[bytes, _Usage]:
        """Say of every pack how much is needed; a blob in several packs counts in the fullest.

        A pack that no index names comes last: readers do not find what is in it.
        """
        listed = self.vault.index.packs
        present: dict[bytes, PackEntry] = {}
        for key in self.vault.store.keys("packs/"):
            name = bytes.fromhex(key.rpartition("/")[2])
            entry = listed.get(name) or self._unlisted(name)
            if entry is not None:
                present[name] = entry
        sizes = {
            name: sum(row.length for row in blob_rows(entry.rows) if (row.type, row.id) in needed)
            for name, entry in present.items()
        }
        counted: set[tuple[str, bytes]] = set()
        usage: dict[bytes, _Usage] = {}
        condemned = self.vault.ledger.condemned
        for name in sorted(
            present, key=lambda one: (one not in listed, one in condemned, -sizes[one])
        ):
            total, every = 0, 0
            for row in blob_rows(present[name].rows):
                blob = (row.type, row.id)
                every += row.length
                if blob in needed and blob not in counted:
                    counted.add(blob)
                    total += row.length
            usage[name] = _Usage(present[name], total, every, name in listed)
        if missing := needed - counted:
            raise VaultDamagedError(
                f"{len(missing)} parts that snapshots need are in no pack; nothing was removed",
                hint="Run `dcmvault vault check`, then `dcmvault vault repair`.",
            )
        return usage

    def _unlisted(self, name: bytes) -> PackEntry | None:
        """Read the footer of a pack that no index names: of a writer that died, or works now."""
        try:
            return self.vault.packs.entry(name)
        except (VaultDamagedError, ObjectMissingError):
            self.result.notes.append(f"the pack {name.hex()} is damaged, and left alone")
            return None

    def _check_limit(self, usage: dict[bytes, _Usage], garbage: set[bytes]) -> None:
        total = sum(one.entry.size for one in usage.values())
        dropped = sum(usage[name].entry.size for name in garbage)
        if total and dropped > total * self.request.most_dropped:
            share = 100 * dropped / total
            raise PruneRefusedError(
                f"this prune would drop {share:.0f} % of what is stored"
                f" ({dropped:,} of {total:,} bytes), more than"
                f" {100 * self.request.most_dropped:.0f} %",
                hint="Look at `dcmvault snapshots` first. If it is right, allow it with"
                f" --max-drop {min(int(share) + 1, 100)}.",
            )

    # What was condemned before

    def _condemned(self) -> list[_Condemned]:
        found: list[_Condemned] = []
        for key in self.vault.objects.keys("condemned/"):
            document = unpack_json(self.vault.sealing.get(b"C", key))
            at = datetime.strptime(document["condemned_at"], _TIME).replace(tzinfo=UTC)
            packs = frozenset(bytes.fromhex(name) for name in document["packs"])
            found.append(_Condemned(key, at, packs))
        return found

    def _ripe(self, condemned: list[_Condemned], garbage: set[bytes]) -> set[bytes]:
        """Return packs whose grace time is over and which still nothing needs."""
        before = self.vault.clock.now() - self.request.grace
        ripe: set[bytes] = set()
        for one in condemned:
            if one.condemned_at <= before:
                ripe |= one.packs & garbage
            self.result.spared_packs += len(one.packs & set(self.vault.index.packs) - garbage)
        return ripe

    def _remove(self, ripe: set[bytes], condemned: list[_Condemned], garbage: set[bytes]) -> None:
        self.lease.renew()
        for name in sorted(ripe):
            self._delete(pack_key(name))
            for key in self.vault.packs.parity_keys(name):
                self._delete(key)
        self.vault.index.drop(ripe)
        before = self.vault.clock.now() - self.request.grace
        for one in condemned:
            # What was spared is needed again: it may be referred to from now on.
            if one.condemned_at <= before or not one.packs & garbage:
                self.vault.objects.delete(one.key)

    def _remove_snapshots(self, links: list[Link], now: VaultState, kept: frozenset[str]) -> None:
        for link in links:
            if link.name in now.forgotten.snapshots and link.name not in kept:
                self.vault.objects.delete(link.key)
                self.result.removed_snapshots += 1

    def _delete(self, key: str) -> None:
        try:
            self.vault.store.delete(key)
        except ObjectMissingError:
            return
        except DestinationError as error:
            self.result.notes.append(f"{key} cannot be removed yet: {error.message}")

    # What is no longer needed

    def _rewrite(self, usage: dict[bytes, _Usage], needed: set[tuple[str, bytes]]) -> set[bytes]:
        """Copy what is needed out of packs that are mostly waste; return those packs."""
        wasteful = [
            one
            for one in usage.values()
            if 0 < one.needed < one.blobs * (1 - _WASTE)
            and one.listed
            and one.entry.name not in self.vault.ledger.condemned
            and one.entry.size > _LEAST_REWRITTEN_BYTES
        ]
        if not wasteful:
            return set()
        blobs = BlobPacks(self.vault, DEFAULT_PROFILE)
        for one in wasteful:
            self.said(f"rewriting {len(wasteful)} packs")
            self._copy_needed(one.entry, needed, blobs)
        blobs.close()
        self.lease.renew()
        self.vault.ledger.add_index(blobs.packs, self.vault.now())
        self.result.rewritten_packs = len(wasteful)
        return {one.entry.name for one in wasteful}

    def _copy_needed(
        self, entry: PackEntry, needed: set[tuple[str, bytes]], blobs: BlobPacks
    ) -> None:
        for number, row in enumerate(blob_rows(entry.rows)):
            if (row.type, row.id) not in needed or blobs.has(row.id):
                continue
            place = Place(entry.name, number, row.offset, row.length, row.content_length)
            encoding = self.vault.packs.read(place, row.type, row.id)
            content = decode(encoding, row.content_length)
            if self.vault.blob_id(row.type, content) != row.id:  # never carry damage on
                raise VaultDamagedError(f"the pack {entry.name.hex()} is damaged")
            blobs.add(row.type, row.id, encoding, row.content_length)

    def _condemn(self, names: set[bytes], usage: dict[bytes, _Usage]) -> None:
        self.result.condemned_packs = len(names)
        self.result.condemned_bytes = sum(usage[name].entry.size for name in names)
        if not names:
            return
        document = {
            "condemned_at": time_text(self.vault.clock.now()),
            "packs": sorted(name.hex() for name in names),
        }
        self.lease.renew()
        self.vault.sealing.put("condemned", b"C", pack_json(document))
        self.vault.ledger.look_at_condemned()

    def _renew_index(self, removed: set[bytes]) -> None:
        """Write one index in place of all, when they name packs that are gone."""
        # Only what this prune read: a writer may have added another one since.
        keys = self.vault.ledger.index_keys()
        if not removed and len(keys) < _MANY_INDEXES:
            return
        in_journals = {pack.name for one in self.vault.journals() for pack in one.packs}
        packs = [entry for name, entry in self.vault.index.packs.items() if name not in in_journals]
        self.lease.renew()
        new = self.vault.ledger.add_index(packs, self.vault.now())
        for key in keys:
            if key != new:
                self.vault.ledger.remove_index(key)
