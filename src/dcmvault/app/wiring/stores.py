"""Which object store a vault's section means, and the vault in it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dcmvault.app.wiring.clock import Sleep
from dcmvault.config import secrets
from dcmvault.config.locations import sftp_place
from dcmvault.config.places import state_folder
from dcmvault.config.plugins import PluginGroup, plugin, plugin_store
from dcmvault.config.sections import VAULT_SCHEMES, RetrySection, VaultSection
from dcmvault.errors import ConfigurationError
from dcmvault.i18n import gettext as _
from dcmvault.ports.clock import Clock
from dcmvault.ports.object_store import ObjectStore
from dcmvault.ports.pacing import Pacing
from dcmvault.ports.surroundings import Surroundings

if TYPE_CHECKING:
    from dcmvault.object_stores.s3_lock import LockingCloudStore
    from dcmvault.vault.repository import Vault

#: Inside the state folder: small objects of vaults that are elsewhere, kept by their SHA-256.
_CACHE = "cache"
#: An object store is waited for no longer than this at a time; jobs wait longer, and can be ended.
_LONGEST_STORE_WAIT_S = 60.0


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
    if section.scheme not in VAULT_SCHEMES:
        store = _plugin_store(section, clock)
    else:
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


def _plugin_store(section: VaultSection, clock: Clock) -> ObjectStore:
    found = plugin(PluginGroup.OBJECT_STORES, section.scheme)
    options = plugin_store(section.location, section.store)
    if found is None or options is None:
        raise ConfigurationError(
            _("A vault cannot be at “%(scheme)s://”.") % {"scheme": section.scheme},
            hint=_("Install the plug-in that reaches it."),
        )
    store: ObjectStore = found.build(options, Surroundings(clock, secrets.resolve))
    return store


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
