"""Every object store passes the shipped suite."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dcmvault.object_stores.local import LocalStore
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.ports.object_store import CompareAndSwap, ObjectStore, Staging
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.faulty import FaultyStore
from dcmvault.testing.object_store_suite import ObjectStoreSuite


class TestMemoryStore(ObjectStoreSuite):
    def store(self) -> ObjectStore:
        return MemoryStore()

    def test_capabilities(self) -> None:
        assert isinstance(self.store(), Staging)
        assert isinstance(self.store(), CompareAndSwap)


class TestFaultyStore(ObjectStoreSuite):
    """Without a fault the wrapper is a store like any other."""

    def store(self) -> ObjectStore:
        return FaultyStore(MemoryStore())


class TestLocalStore(ObjectStoreSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.root = tmp_path / "objects"
        self.root.mkdir()

    def store(self) -> ObjectStore:
        return LocalStore(self.root, FakeClock())

    def reopened(self, store: ObjectStore) -> ObjectStore:
        return self.store()

    def test_capabilities(self) -> None:
        assert isinstance(self.store(), Staging)
        assert isinstance(self.store(), CompareAndSwap)


class TestLocalStoreWithoutHardLinks(TestLocalStore):
    """As on exFAT, where link(2) answers EPERM."""

    @pytest.fixture(autouse=True)
    def _no_links(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*arguments: object, **options: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
