"""Stores in the cloud pass the shipped suite, each against a server on loopback."""

from __future__ import annotations

import secrets

import pytest
from scripts.peer_clouds import Azurite, GcsServer, S3Server

from dcmvault.object_stores.cloud_open import open_cloud_store
from dcmvault.ports.object_store import CompareAndSwap, ObjectStore, Retention, Staging
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.object_store_suite import ObjectStoreSuite

pytestmark = pytest.mark.peers


class _CloudSuite(ObjectStoreSuite):
    """Each store has a prefix of its own in a bucket of the class."""

    address = ""

    def opened(self, address: str) -> ObjectStore:
        raise NotImplementedError

    def store(self) -> ObjectStore:
        return self.opened(f"{self.address}/{secrets.token_hex(4)}/vault")

    def reopened(self, store: ObjectStore) -> ObjectStore:
        return store

    def test_capabilities(self) -> None:
        store = self.store()
        assert isinstance(store, CompareAndSwap)
        assert not isinstance(store, Retention)
        assert not isinstance(store, Staging)

    def test_another_prefix_is_another_store(self) -> None:
        name = secrets.token_hex(4)
        one, other = self.opened(f"{self.address}/{name}"), self.opened(f"{self.address}/{name}2")
        whole = self.opened(self.address)
        one.put("key", [b"one"])
        other.put("key", [b"other"])
        assert list(one.keys()) == ["key"]
        assert other.get("key") == b"other"
        assert {f"{name}/key", f"{name}2/key"} <= set(whole.keys())


class TestS3(_CloudSuite):
    @pytest.fixture(autouse=True)
    def _bucket(self, s3_server: S3Server) -> None:
        self.server = s3_server
        name = f"bucket-{secrets.token_hex(4)}"
        s3_server.make_bucket(name)
        self.address = f"s3://{name}"

    def opened(self, address: str) -> ObjectStore:
        return open_cloud_store(
            address,
            FakeClock(),
            endpoint=self.server.address,
            region="eu-central-1",
            access_key_id=self.server.access_key_id,
            secret_access_key=self.server.secret_access_key,
        )


class TestS3WithObjectLock(TestS3):
    @pytest.fixture(autouse=True)
    def _bucket(self, s3_server: S3Server) -> None:
        self.server = s3_server
        name = f"bucket-{secrets.token_hex(4)}"
        s3_server.make_bucket(name, object_lock=True)
        self.address = f"s3://{name}"

    def opened(self, address: str) -> ObjectStore:
        return open_cloud_store(
            address,
            FakeClock(),
            endpoint=self.server.address,
            access_key_id=self.server.access_key_id,
            secret_access_key=self.server.secret_access_key,
            object_lock="compliance",
        )

    def test_capabilities(self) -> None:
        store = self.store()
        assert isinstance(store, CompareAndSwap)
        assert isinstance(store, Retention)


class TestAzure(_CloudSuite):
    @pytest.fixture(autouse=True)
    def _container(self, azurite: Azurite) -> None:
        self.server = azurite
        name = f"container-{secrets.token_hex(4)}"
        azurite.make_container(name)
        self.address = f"az://{name}"

    def opened(self, address: str) -> ObjectStore:
        return open_cloud_store(
            address,
            FakeClock(),
            endpoint=self.server.address,
            account_name=self.server.account_name,
            account_key=self.server.account_key,
        )


class TestGcs(_CloudSuite):
    @pytest.fixture(autouse=True)
    def _bucket(self, gcs_server: GcsServer) -> None:
        self.server = gcs_server
        name = f"bucket-{secrets.token_hex(4)}"
        gcs_server.make_bucket(name)
        self.address = f"gs://{name}"

    def opened(self, address: str) -> ObjectStore:
        return open_cloud_store(
            address,
            FakeClock(),
            endpoint=self.server.address,
            bearer_token=self.server.bearer_token,
        )
