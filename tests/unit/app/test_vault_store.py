"""The section of a vault becomes the object store that it is kept in; nothing is connected."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.destinations import build_destination
from dcmvault.app.wiring.stores import open_vault_store
from dcmvault.config.sections import VaultDestinationSection, VaultSection
from dcmvault.destinations.vault import VaultDestination
from dcmvault.errors import ConfigurationError, VaultMissingError
from dcmvault.object_stores.cached import CachedStore
from dcmvault.object_stores.cloud import CloudStore
from dcmvault.object_stores.local import LocalStore
from dcmvault.object_stores.retrying import RetryingStore
from dcmvault.object_stores.s3_checksums import S3Store
from dcmvault.object_stores.s3_lock import LockingCloudStore
from dcmvault.object_stores.sftp import SftpStore
from dcmvault.testing.destination_suite import ORIGIN


def test_every_kind_of_place_has_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "c2VjcmV0")
    for section, kind in (
        (VaultSection(location=str(tmp_path)), LocalStore),
        (VaultSection(location="s3://bucket/x"), S3Store),
        (
            VaultSection(
                location="s3://bucket/x",
                region="eu-central-1",
                access_key="env:SECRET",
                secret_key="env:SECRET",
                object_lock="governance",
            ),
            LockingCloudStore,
        ),
        (VaultSection(location="az://box/x", account="me", secret_key="env:SECRET"), CloudStore),
        (VaultSection(location="sftp://me@nas:2222/vault", ssh_password="env:SECRET"), SftpStore),
    ):
        store = open_vault_store(section, SystemClock())
        if kind is not LocalStore:
            assert type(store) is CachedStore
            assert type(store.inner) is RetryingStore
            store = store.inner.inner
        assert type(store) is kind


def test_a_secret_that_leads_nowhere_is_said() -> None:
    section = VaultSection(location="sftp://nas/vault", ssh_password="env:DCMVAULT_SURELY_NOT_SET")
    with pytest.raises(ConfigurationError, match="is not set"):
        open_vault_store(section, SystemClock())


def test_a_vault_is_opened_when_it_is_needed(tmp_path: Path) -> None:
    section = VaultDestinationSection(location=str(tmp_path))
    destination = build_destination(section, SystemClock())
    assert isinstance(destination, VaultDestination)
    with pytest.raises(VaultMissingError):
        destination.open([], ORIGIN)
