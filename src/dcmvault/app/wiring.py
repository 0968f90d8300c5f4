"""Wiring: the only place that names concrete adapters and puts them behind their ports.

The engine, the catalogue and the DICOM adapters take a second to import, so they are imported
when they are needed: `dcmvault --help` and `dcmvault config` need none of them.
"""

from __future__ import annotations

import gc
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from dcmvault.config import secrets
from dcmvault.config.addresses import destination_section, source_section
from dcmvault.config.locations import sftp_place
from dcmvault.config.places import state_folder
from dcmvault.config.sections import (
    DestinationSection,
    DimseDestinationSection,
    FolderDestinationSection,
    HorosSourceSection,
    RetrySection,
    SourceSection,
    StowDestinationSection,
    VaultDestinationSection,
    VaultSection,
    VaultSourceSection,
)
from dcmvault.config.settings import Settings
from dcmvault.errors import ConfigurationError, StateError
from dcmvault.i18n import gettext as _
from dcmvault.model.plan import RunRequest
from dcmvault.pipeline.bandwidth import Bandwidth
from dcmvault.pipeline.bandwidth_leases import Leases
from dcmvault.pipeline.retry import RetryPolicy
from dcmvault.ports.clock import Clock
from dcmvault.ports.destination import Destination, TakesSeveral
from dcmvault.ports.object_store import ObjectStore
from dcmvault.ports.pacing import Pacing
from dcmvault.ports.queue import Worker, WorkQueue
from dcmvault.ports.source import Source

if TYPE_CHECKING:
    from types import TracebackType

    from dcmvault.app.stages import BackupStages
    from dcmvault.catalogue import Catalogue
    from dcmvault.engine.database import WorkDatabase
    from dcmvault.engine.ownership import Ownership
    from dcmvault.object_stores.s3_lock import LockingCloudStore
    from dcmvault.vault.repository import Vault

#: Waits for so many seconds, or until nobody wants to wait any more.
Sleep = Callable[[float], object]
#: Opens the vault of a section.
OpenVault = Callable[[VaultSection], "Vault"]
#: Jobs that run at once for one destination (the number of associations at first).
JOBS_PER_DESTINATION = 2
#: Inside the state folder: small objects of vaults that are elsewhere, kept by their SHA-256.
_CACHE = "cache"
#: An object store is waited for no longer than this at a time; jobs wait longer, and can be ended.
_LONGEST_STORE_WAIT_S = 60.0
#: For whoever wants to know at once.
NO_RETRY = RetrySection(attempts=1)


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present as an aware UTC datetime."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()


def build_source(section: SourceSection, open_vault: OpenVault | None = None) -> Source:
    """Make the adapter for a source's section.

    `open_vault` may give a vault again that it opened before.
    """
    if isinstance(section, HorosSourceSection):
        from dcmvault.sources.horos import HorosSource  # noqa: PLC0415 - imported when needed

        return HorosSource(section)
    if isinstance(section, VaultSourceSection):
        from dcmvault.sources.vault import VaultSource  # noqa: PLC0415 - imported when needed

        opened = open_vault or (lambda section: open_vault_at(section, SystemClock()))
        return VaultSource(section, lambda: opened(section))
    from dcmvault.sources.folder import FolderSource  # noqa: PLC0415 - imported when needed

    return FolderSource(section)


def build_destination(
    section: DestinationSection,
    clock: Clock,
    holds_copies: Callable[[], bool] | None = None,
    retry: RetrySection | None = None,
    known_snapshots: Callable[[], list[str]] = list,
    sleep: Sleep = time.sleep,
    pacing: Pacing | None = None,
) -> Destination:
    """Make the adapter for a destination's section.

    `holds_copies` tells what the catalogue knows: whether copies were stored there before;
    `known_snapshots` which snapshots should be there. `retry` and `sleep` are as for
    `open_vault_store`. `pacing` limits how fast it is sent to.
    """
    if isinstance(section, DimseDestinationSection):
        from dcmvault.destinations.dimse import DimseDestination  # noqa: PLC0415 - when needed

        return DimseDestination(section, clock, pacing)
    if isinstance(section, StowDestinationSection):
        from dcmvault.destinations.stow import StowDestination  # noqa: PLC0415 - when needed

        return StowDestination(section, clock, pacing)
    if isinstance(section, VaultDestinationSection):
        from dcmvault.destinations.vault import VaultDestination  # noqa: PLC0415 - when needed

        return VaultDestination(
            section,
            lambda: open_vault_at(section, clock, retry, sleep, pacing),
            clock,
            known_snapshots,
            pacing,
        )
    from dcmvault.destinations.folder import FolderDestination  # noqa: PLC0415 - when needed
    from dcmvault.object_stores.local import LocalStore  # noqa: PLC0415 - when needed

    store = LocalStore(section.path, clock)
    return FolderDestination(section, store, clock, holds_copies, pacing)


def open_vault_at(
    section: VaultSection,
    clock: Clock,
    retry: RetrySection | None = None,
    sleep: Sleep = time.sleep,
    pacing: Pacing | None = None,
) -> Vault:
    """Open the vault of a section with the secrets that it refers to.

    Raises VaultMissingError, VaultLockedError, VaultFormatError or VaultDamagedError, and
    ConfigurationError where a reference to a secret leads nowhere.
    """
    from dcmvault.app.vault_secrets import vault_secrets  # noqa: PLC0415 - when needed
    from dcmvault.vault.repository import open_vault  # noqa: PLC0415 - when needed

    store = open_vault_store(section, clock, retry, sleep, pacing=pacing)
    return open_vault(store, vault_secrets(section), clock)


def open_vault_store(
    section: VaultSection,
    clock: Clock,
    retry: RetrySection | None = None,
    sleep: Sleep = time.sleep,
    *,
    cached: bool = True,
    pacing: Pacing | None = None,
) -> ObjectStore:
    """Make the object store that a vault is kept in; nothing is touched or connected yet.

    What is reached over a network is tried again as `retry` says, after `sleep`, and small objects
    are cached in the state folder if `cached`. `pacing` limits how fast objects are written.
    """
    if section.path is not None:
        from dcmvault.object_stores.local import LocalStore  # noqa: PLC0415 - when needed

        return _throttled(LocalStore(section.path, clock), pacing)
    from dcmvault.object_stores.cached import CachedStore  # noqa: PLC0415 - when needed
    from dcmvault.object_stores.retrying import Backoff, RetryingStore  # noqa: PLC0415

    retry = retry or RetrySection()
    backoff = Backoff(
        retry.attempts,
        retry.wait_s,
        min(retry.longest_wait_s, _LONGEST_STORE_WAIT_S),
        retry.jitter,
    )
    store = _sftp_store(section) if section.scheme == "sftp" else _cloud_store(section, clock)
    patient = RetryingStore(_throttled(store, pacing), sleep, backoff)
    return CachedStore(patient, state_folder() / _CACHE) if cached else patient


def _throttled(store: ObjectStore, pacing: Pacing | None) -> ObjectStore:
    if pacing is None:
        return store
    from dcmvault.object_stores.throttled import ThrottledStore  # noqa: PLC0415 - when needed

    return ThrottledStore(store, pacing.joint_pacer())


def open_locking_store(section: VaultSection, clock: Clock) -> LockingCloudStore | None:
    """Make the store of a vault in a bucket with Object Lock as it is; None for all others."""
    if not section.object_lock:
        return None
    store = _cloud_store(section, clock)  # which says so, if the extra is not installed
    from dcmvault.object_stores.s3_lock import LockingCloudStore  # noqa: PLC0415 - an extra

    assert isinstance(store, LockingCloudStore)
    return store


def _cloud_store(section: VaultSection, clock: Clock) -> ObjectStore:
    from dcmvault.object_stores.cloud_open import CloudOptions, open_cloud_store  # noqa: PLC0415

    secret = {"s3": "secret_access_key", "az": "account_key", "gs": "service_account_key"}
    given = {
        "endpoint": section.endpoint,
        "region": section.region,
        "account_name": section.account,
        "access_key_id": _secret(section.access_key),
        secret[section.scheme]: _secret(section.secret_key),
        "checksums": section.checksums if section.scheme == "s3" else "",
        "object_lock": section.object_lock,
        "object_lock_days": section.object_lock_days,
    }
    options = cast("CloudOptions", {name: value for name, value in given.items() if value})
    return open_cloud_store(section.location, clock, **options)


def _sftp_store(section: VaultSection) -> ObjectStore:
    try:
        from dcmvault.object_stores.sftp import SftpStore  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            _("A part of dcmvault that SFTP needs is not installed."),
            hint="pip install 'dcmvault[sftp]'",
        ) from error

    place = sftp_place(section.location)
    key_file = Path(section.ssh_key_file).expanduser() if section.ssh_key_file else None
    password = _secret(section.ssh_password) or None
    return SftpStore(
        place.host,
        place.path,
        port=place.port,
        user=place.user or None,
        key_file=key_file,
        key_passphrase=password if key_file else None,
        password=None if key_file else password,
        known_hosts=Path(section.known_hosts).expanduser() if section.known_hosts else None,
    )


def _secret(reference: str) -> str:
    return secrets.resolve(reference) if reference else ""


@dataclass(slots=True)
class Workplace:
    """One opened state folder: its settings, catalogue and queue, and the right to work there.

    At most one process works in an embedded state folder at a time; others enqueue and follow.
    """

    home: Path
    settings: Settings
    clock: Clock
    catalogue: Catalogue
    queue: WorkQueue
    ownership: Ownership
    bandwidth: Bandwidth
    _work_database: WorkDatabase
    _worker: Worker | None = None
    _shared: dict[str, Destination] = field(default_factory=dict)
    #: Vaults that are read, by address: opening one takes a quarter of a second.
    _vaults: dict[str, Vault] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    #: Set while the work is being ended: then no store is waited for.
    _ending: threading.Event = field(default_factory=threading.Event)

    @property
    def working(self) -> bool:
        """Whether this process does the work."""
        return self._worker is not None

    def work(self) -> bool:
        """Begin to work here unless another process does; say whether this process works now.

        Raises StateError when the work cannot be written down any more.
        """
        if self._worker is not None and self._worker.is_broken:
            raise StateError(
                "the state of the work cannot be written down",
                hint="check free space and permissions of the state folder, or the database"
                " server; the same command continues where this one stopped",
            )
        if self._worker is None and self.ownership.try_acquire():
            from dcmvault.engine.worker import DurableWorker  # noqa: PLC0415 - when needed

            self._ending.clear()
            stages = self._stages()
            self._worker = DurableWorker(
                self._work_database,
                stages,
                concurrency=lambda _destination_id: JOBS_PER_DESTINATION,
                stopping=stages.stopping,
            )
            self._worker.start()
        return self.working

    def rest(self, grace_s: float = 5.0) -> None:
        """Stop working: instances in flight end within `grace_s` seconds, the rest stays queued."""
        if self._worker is not None:
            self._ending.set()
            self._worker.stop(grace_s)
            self.bandwidth.give_back()
            self._worker = None
            with self._lock:
                shared = list(self._shared.values())
            for destination in shared:
                if isinstance(destination, TakesSeveral):
                    destination.close_idle()
            self.ownership.release()

    def close(self) -> None:
        """Stop working and close what is open."""
        self.rest()
        self._work_database.dispose()
        self.catalogue.close()

    def destination(self, address: str) -> Destination:
        """Make the adapter for a destination by its canonical address, with configured options.

        A PACS has one adapter for all its jobs: it counts the associations that are open. So has
        a DICOMweb service, and a vault: it knows what is there.
        """
        with self._lock:
            if address in self._shared:
                return self._shared[address]
            section = self.destination_section(address)
            plans, witness = self.catalogue.plans, self.catalogue.snapshots

            def known_snapshots() -> list[str]:
                known = witness.known_snapshots(plans.destination(address))
                return [ref.snapshot_id for ref in known]

            destination = build_destination(
                section,
                self.clock,
                lambda: plans.holds_copies(plans.destination(address)),
                self.settings.retry,
                known_snapshots,
                self._ending.wait,
                self.bandwidth.pacing(address, section.bandwidth.table()),
            )
            if not isinstance(section, FolderDestinationSection):
                self._shared[address] = destination
            return destination

    def destination_section(self, address: str) -> DestinationSection:
        """Return the configured section with this canonical address, else what the address says."""
        for name in self.settings.destinations:
            section = self.settings.destination(name).section
            if section.address == address:
                return section
        return destination_section(address)

    def source(self, address: str) -> Source:
        """Make the adapter for a source by its canonical address, with configured options."""
        for name in self.settings.sources:
            section = self.settings.source(name)
            if section.address == address:
                return build_source(section, self._opened_vault)
        return build_source(source_section(address), self._opened_vault)

    def _opened_vault(self, section: VaultSection) -> Vault:
        with self._lock:
            if section.address not in self._vaults:
                vault = open_vault_at(section, self.clock, self.settings.retry, self._ending.wait)
                self._vaults[section.address] = vault
            return self._vaults[section.address]

    def _stages(self) -> BackupStages:
        from dcmvault.app.stages import BackupStages  # noqa: PLC0415 - imported when needed

        retry = self.settings.retry

        def source_of(request: RunRequest) -> Source:
            return self.source(request.source)

        return BackupStages(
            sources=self.catalogue.sources,
            plans=self.catalogue.plans,
            jobs=self.catalogue.jobs,
            runs=self.catalogue.runs,
            snapshots=self.catalogue.snapshots,
            open_source=source_of,
            open_destination=self.destination,
            policy=RetryPolicy(retry.attempts, retry.wait_s, retry.jitter, retry.longest_wait_s),
            clock=self.clock,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def known_catalogue(home: Path, settings: Settings) -> Iterator[Catalogue | None]:
    """Open the catalogue of a state folder; None if there is none, and none is made.

    Raises StateError when it cannot be used.
    """
    from dcmvault.catalogue import has_catalogue, open_catalogue  # noqa: PLC0415 - when needed

    place = _catalogue_place(home, settings)
    if not has_catalogue(place):
        yield None
        return
    catalogue = open_catalogue(place)
    try:
        yield catalogue
    finally:
        catalogue.close()


def _catalogue_place(home: Path, settings: Settings) -> str:
    return settings.database_url() or str(home / "catalogue.sqlite3")


def open_workplace(home: Path, settings: Settings) -> Workplace:
    """Open a state folder, made (mode 0700) if there is none.

    Raises StateError when it cannot be used.
    """
    # What is imported stays: looking through it for garbage, again and again, takes a tenth.
    gc.disable()
    try:
        from dcmvault.catalogue import open_catalogue  # noqa: PLC0415 - imported when needed
        from dcmvault.engine.client import DurableQueue  # noqa: PLC0415 - imported when needed
        from dcmvault.engine.database import WorkDatabase  # noqa: PLC0415 - imported when needed
        from dcmvault.engine.ownership import Ownership  # noqa: PLC0415 - imported when needed
    finally:
        gc.freeze()
        gc.enable()

    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"the state folder cannot be made: {error.strerror}",
            hint="Set DCMVAULT_HOME to a folder that you may write to.",
        ) from error
    database = settings.database_url()
    work = WorkDatabase(database or home / "engine.sqlite3")
    clock = SystemClock()
    catalogue = open_catalogue(_catalogue_place(home, settings))
    return Workplace(
        home,
        settings,
        clock,
        catalogue,
        DurableQueue(work),
        Ownership(home),
        _bandwidth(settings, clock, catalogue),
        work,
    )


def _bandwidth(settings: Settings, clock: Clock, catalogue: Catalogue) -> Bandwidth:
    """Make the limits of this process; workers on PostgreSQL share them."""
    leases = None
    if catalogue.bandwidth is not None:
        leases = Leases(catalogue.bandwidth, uuid.uuid4().hex, clock)
    return Bandwidth(settings.bandwidth.table(), clock, time.sleep, leases=leases)
