"""Care of a vault: it is checked and repaired, and the catalogue says what it should have."""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from dcmvault.app.vault_access import vault_section
from dcmvault.app.vault_secrets import vault_secrets
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.stores import open_vault_store
from dcmvault.app.wiring.workplace import known_catalogue
from dcmvault.config.sections import VaultSection
from dcmvault.config.settings import Settings
from dcmvault.errors import RunInterruptedError, StateError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Finding as Refuted
from dcmvault.model.snapshot import SnapshotRef
from dcmvault.ports.object_store import ObjectStore
from dcmvault.vault.chain import KnownSnapshot, Witness
from dcmvault.vault.check import CheckRequest, Subset, check, open_keyless
from dcmvault.vault.check_objects import KeylessVault
from dcmvault.vault.findings import CheckResult, Finding, Trouble
from dcmvault.vault.phases import Phase, Told, to_nobody
from dcmvault.vault.repair import RepairRequest, RepairResult, repair
from dcmvault.vault.repository import Vault, open_vault
from dcmvault.vault.retention import created_at

_log = logging.getLogger(__name__)

#: A snapshot as reports name it, its digest, or the first digits of that.
_SNAPSHOT_NAME = re.compile(r"(?:[0-9]{8,}-)?[0-9a-f]{8,64}")
_WHOLE_NAME = re.compile(r"[0-9]{8,}-[0-9a-f]{64}")
#: Requests to a distant store wait for each other's answers less when there are more.
_DISTANT_THREADS = 8
_THREADS = 2


@dataclass(frozen=True, slots=True)
class CareRequest:
    """What is asked of a check."""

    vault: str
    read_data: bool = False
    #: With `read_data`: only these packs.
    subset: Subset | None = None
    keyless: bool = False
    #: A snapshot that the vault must have, as somebody wrote it down.
    head: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found, and who was asked about the vault's past."""

    address: str
    result: CheckResult
    #: Snapshots that the catalogue knows of; None if there was no catalogue to ask.
    known_snapshots: int | None
    duration_s: float
    #: Why the catalogue, which is there, could not be asked.
    catalogue_trouble: str = ""
    #: Copies in which the catalogue does not believe any longer.
    refuted: int = 0

    @property
    def exit_status(self) -> int:
        """0 for a sound vault, else 3."""
        return 0 if self.result.is_sound else 3


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did."""

    address: str
    result: RepairResult
    duration_s: float
    catalogue_trouble: str = ""

    @property
    def exit_status(self) -> int:
        """0 for a vault that is sound now, else 3."""
        return 0 if self.result.after.is_sound else 3


@dataclass(slots=True)
class _Watch:
    """Tells how far the reading is, and ends it where somebody asked for that."""

    told: Told
    stop: threading.Event

    def __call__(self, done: int, total: int) -> None:
        self.told(Phase.READING, done, total)
        if self.stop.is_set():
            raise RunInterruptedError(
                _("The check of the vault was stopped."), hint=_("It changed nothing.")
            )


def check_vault(
    settings: Settings,
    home: Path,
    request: CareRequest,
    told: Told = to_nobody,
    stop: threading.Event | None = None,
) -> Checked:
    """Check a vault; damage is never raised, but what opening it raises is.

    The catalogue of the state folder `home` is asked if there is one, and told of what is damaged.
    """
    began = time.monotonic()
    if request.head and not _SNAPSHOT_NAME.fullmatch(request.head.lower()):
        raise UsageError(
            _("“%s” is no name of a snapshot.") % request.head,
            hint=_("Write the id as `dcmvault snapshots` shows it."),
        )
    section = vault_section(settings, request.vault)
    store = _store(section, settings)
    # Asked before the vault is looked at: what it knows by then must be there.
    memory = _remembered(settings, home, section.address)
    vault = open_keyless(store) if request.keyless else _opened(section, store)
    head = _whole_name(vault, request.head.lower())
    asked = CheckRequest(
        read_data=request.read_data or request.subset is not None,
        subset=request.subset,
        threads=_THREADS if section.path is not None else _DISTANT_THREADS,
    )
    witness = Witness(memory.known, head if _WHOLE_NAME.fullmatch(head) else "")
    result = check(vault, asked, witness, _Watch(told, stop or threading.Event()))
    if head and not witness.head:
        message = f"the snapshot {head} is gone, unless it was forgotten on purpose"
        gone = Finding(Trouble.SNAPSHOT_GONE, f"snapshots/{head}", message)
        result = replace(result, findings=(*result.findings, gone))
    known = len(memory.known) if memory.is_there else None
    refuted, trouble = 0, memory.trouble
    if memory.is_there and result.errors:
        try:
            refuted = _refute(settings, home, section.address, result)
        except StateError as error:
            trouble = error.message
    return Checked(section.address, result, known, time.monotonic() - began, trouble, refuted)


def repair_vault(
    settings: Settings,
    home: Path,
    name_or_address: str,
    request: RepairRequest,
    told: Told = to_nobody,
    stop: threading.Event | None = None,
) -> Repaired:
    """Repair a vault; raises VaultBusyError, and what opening it raises.

    What it gives up is due again in the next backup of this state folder.
    """
    began = time.monotonic()
    section = vault_section(settings, name_or_address)
    store = _store(section, settings)
    memory = _remembered(settings, home, section.address)
    vault = _opened(section, store)
    watch = _Watch(told, stop or threading.Event())
    result = repair(vault, request, Witness(memory.known), watch)
    trouble = memory.trouble
    if not trouble:
        try:
            if result.snapshot is not None:
                _tell_catalogue(settings, home, section.address, result)
            _refute(settings, home, section.address, result.after)
        except StateError as error:
            trouble = error.message
    return Repaired(section.address, result, time.monotonic() - began, trouble)


def _store(section: VaultSection, settings: Settings) -> ObjectStore:
    """Make the store without a cache: what the place itself holds is looked at."""
    return open_vault_store(section, SystemClock(), settings.retry, cached=False)


def _opened(section: VaultSection, store: ObjectStore) -> Vault:
    return open_vault(store, vault_secrets(section), SystemClock())


def _whole_name(vault: Vault | KeylessVault, text: str) -> str:
    """Return the whole name of the snapshot that is meant, or the text if none is there."""
    if not text:
        return ""
    names = [key.removeprefix("snapshots/") for key in vault.objects.keys("snapshots/")]
    for name in names:
        if name.startswith(text) or name.rpartition("-")[2].startswith(text):
            return name
    return text


# The outside witness


@dataclass(frozen=True, slots=True)
class _Memory:
    """What the catalogue remembers of a vault."""

    is_there: bool = False
    known: list[KnownSnapshot] = field(default_factory=list)
    trouble: str = ""


def _remembered(settings: Settings, home: Path, address: str) -> _Memory:
    try:
        with known_catalogue(home, settings) as catalogue:
            if catalogue is None:
                return _Memory()
            known = [
                KnownSnapshot(ref.snapshot_id, ref.generation)
                for destination_id, name in catalogue.status.destinations().items()
                if name == address
                for ref in catalogue.snapshots.known_snapshots(destination_id)
            ]
            return _Memory(True, known)
    except StateError as error:
        # The vault can be checked all the same.
        _log.warning("the catalogue cannot be asked: %s", error.code)
        return _Memory(trouble=error.message)


def _tell_catalogue(settings: Settings, home: Path, address: str, result: RepairResult) -> None:
    """Let the catalogue witness the repair's snapshot, and believe no longer in what it gave up."""
    link = result.snapshot
    assert link is not None
    ref = SnapshotRef(link.name, link.generation, created_at(link))
    with known_catalogue(home, settings) as catalogue:
        if catalogue is None:
            return
        for destination_id, name in catalogue.status.destinations().items():
            if name == address:
                catalogue.snapshots.record_snapshot(destination_id, ref)
                for study_instance_uid in result.given_up:
                    catalogue.plans.forget_copies(destination_id, study_instance_uid)


def _refute(settings: Settings, home: Path, address: str, result: CheckResult) -> int:
    """Let the catalogue believe no longer in what needs damaged parts; return how many copies.

    Only evidence raises them again, also after a repair: a backup reads them back first, and sends
    what does not come back.
    """
    refuted = 0
    with known_catalogue(home, settings) as catalogue:
        if catalogue is None:
            return 0
        now = SystemClock().now()
        for destination_id, name in catalogue.status.destinations().items():
            if name != address:
                continue
            for finding in result.errors:
                # What is gone anybody sees; what is damaged only who reads it.
                is_gone = finding.trouble in (Trouble.MISSING, Trouble.LOST)
                kind = Refuted.MISSING if is_gone else Refuted.DAMAGED
                refuted += catalogue.holdings.refute_copies(
                    destination_id, finding.studies, kind, now, files=finding.files
                )
    return refuted
