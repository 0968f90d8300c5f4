"""Repairing a vault: everything set right that can be, and a clear word about what cannot.

Objects come back from their copies, packs from their parity, indexes and journals from the packs.
Of what nothing gives back the studies are named; on demand it is given up, so that the next backup
stores it again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dcmvault.errors import (
    ObjectLockedError,
    ObjectMissingError,
    VaultDamagedError,
    VaultFormatError,
)
from dcmvault.vault.blob import BlobType
from dcmvault.vault.chain import Witness
from dcmvault.vault.check import CheckRequest, Progress, Subset, check, check_object
from dcmvault.vault.findings import CheckResult, Finding, Trouble
from dcmvault.vault.giving_up import give_up
from dcmvault.vault.index import Addition, RecordsRef
from dcmvault.vault.inventory import name_of
from dcmvault.vault.lease import Lease, hold_lease
from dcmvault.vault.mending import mend_object
from dcmvault.vault.pack import PackEntry, blob_rows
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link
from dcmvault.vault.state import read_records

_log = logging.getLogger(__name__)

_SEALED_LISTS = ("index/", "journal/")


@dataclass(frozen=True, slots=True)
class RepairRequest:
    """How a repair is to be done."""

    #: Read every byte first; without it only what the structure shows is repaired.
    read_data: bool = True
    subset: Subset | None = None
    #: Take a snapshot without the files that cannot be saved, so that a backup stores them again.
    drop_lost: bool = False


@dataclass(frozen=True, slots=True)
class RepairResult:
    """What a repair found, did, and had to leave."""

    before: CheckResult
    after: CheckResult
    #: Where something was written, made anew or removed.
    mended: tuple[str, ...]
    #: Taken without what was lost; None if nothing was given up.
    snapshot: Link | None = None
    #: What was lost and given up, by study, as `Finding.studies`.
    given_up: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def lost(self) -> dict[str, tuple[str, ...]]:
        """Studies and instances that cannot be brought back (an empty tuple: unknown which)."""
        return _touched(self.after.errors)


def repair(
    vault: Vault,
    request: RepairRequest | None = None,
    witness: Witness | None = None,
    progress: Progress = lambda _done, _total: None,
) -> RepairResult:
    """Repair a vault under its lease; may be interrupted and repeated at any time.

    Raises VaultBusyError while somebody else prunes, repairs or changes keys.
    """
    asked = request or RepairRequest()
    with hold_lease(vault.store, vault.clock, "repair") as lease:
        return _Repair(vault, asked, witness or Witness(), progress, lease).run()


@dataclass(slots=True)
class _Repair:
    vault: Vault
    request: RepairRequest
    witness: Witness
    progress: Progress
    lease: Lease
    mended: list[str] = field(default_factory=list)

    def run(self) -> RepairResult:
        """Check, mend, and look again."""
        asked = CheckRequest(read_data=self.request.read_data, subset=self.request.subset)
        before = check(self.vault, asked, self.witness, self.progress)
        wrong = {finding.key for finding in before.findings if finding.mendable}
        self.mend(wrong)
        self._rebuild_lists(before)
        keys = frozenset(finding.key for finding in before.findings)
        after = check(self.vault, CheckRequest(also=keys), self.witness)
        if not self.request.drop_lost or not after.errors:
            return RepairResult(before, after, tuple(self.mended))
        snapshot, notes = give_up(self.vault, after, self.lease)
        given_up = _touched(after.errors)
        final = check(self.vault, CheckRequest(also=keys), self.witness)
        return RepairResult(before, final, tuple(self.mended), snapshot, given_up, notes)

    def mend(self, keys: Iterable[str]) -> None:
        """Set objects right: packs first, because their parity is made from them."""
        for key in sorted(keys, key=lambda one: (not one.startswith("packs/"), one)):
            self.lease.renew()
            try:
                written = mend_object(self.vault, key)
            except ObjectLockedError:  # the check after it says that it is still wrong
                _log.warning("%s is locked, so it cannot be replaced yet", key)
                continue
            for place in written:
                _log.info("mended %s", place)
            self.mended += written

    def _rebuild_lists(self, before: CheckResult) -> None:
        """Write anew what indexes and journals said that are damaged in all copies, or gone."""
        damaged = {
            finding.key
            for finding in before.errors
            if finding.key.startswith(_SEALED_LISTS) and not self._is_right(finding.key)
        }
        if not damaged and not any(one.trouble is Trouble.UNLISTED for one in before.findings):
            return
        fresh = self.vault.unread()
        fresh.ledger.refresh(lambda _key, _error: None)
        packs = list(_unlisted(fresh))
        self.lease.renew()
        if packs:
            fresh.index.add(packs)
            if any(key.startswith("journal/") for key in damaged):
                refs = tuple(_records_in(fresh, packs))
                addition = Addition(tuple(packs), refs, written_at=fresh.now())
                fresh.ledger.add_journal(addition)
            else:
                fresh.ledger.add_index(packs, fresh.now())
        for key in sorted(damaged):
            try:
                self.vault.objects.delete(key)
            except (ObjectMissingError, ObjectLockedError):
                continue
            self.mended.append(key)

    def _is_right(self, key: str) -> bool:
        return not check_object(self.vault, key).findings


def _unlisted(vault: Vault) -> Iterable[PackEntry]:
    for key in vault.store.keys("packs/"):
        name = name_of(key)
        if vault.index.pack(name) is None:
            try:
                yield vault.packs.entry(name)
            except (ObjectMissingError, VaultDamagedError, VaultFormatError):
                continue


def _records_in(vault: Vault, packs: Iterable[PackEntry]) -> Iterable[RecordsRef]:
    for pack in packs:
        for row in blob_rows(pack.rows):
            if row.type is BlobType.RECORDS:
                try:
                    part = read_records(vault, row.id)
                except VaultDamagedError:
                    continue
                yield RecordsRef(part.study_instance_uid, row.id, len(part.instances))


def _touched(findings: Iterable[Finding]) -> dict[str, tuple[str, ...]]:
    studies: dict[str, set[str]] = {}
    for finding in findings:
        for uid, instances in finding.studies.items():
            studies.setdefault(uid, set()).update(instances)
    return {uid: tuple(sorted(instances)) for uid, instances in sorted(studies.items())}
