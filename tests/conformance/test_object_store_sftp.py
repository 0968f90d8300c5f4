"""The SFTP store passes the shipped suite on a real OpenSSH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest
from scripts.peer_processes import Sshd

from dcmvault.object_stores.sftp import SftpStore
from dcmvault.ports.object_store import CompareAndSwap, ObjectStore, Staging
from dcmvault.testing.object_store_suite import ObjectStoreSuite

pytestmark = pytest.mark.peers


class TestSftpStore(ObjectStoreSuite):
    @pytest.fixture(autouse=True)
    def _peer(self, sshd: Sshd, tmp_path: Path) -> Iterator[None]:
        self.sshd = sshd
        self.root = tmp_path / "objects"
        self.root.mkdir()
        self.opened: list[SftpStore] = []
        yield
        for store in self.opened:
            store.close()

    def store(self) -> ObjectStore:
        store = SftpStore(
            self.sshd.host,
            str(self.root),
            port=self.sshd.port,
            user=self.sshd.user,
            key_file=self.sshd.private_key,
            known_hosts=self.sshd.known_hosts,
        )
        self.opened.append(store)
        return store

    def reopened(self, store: ObjectStore) -> ObjectStore:
        return self.store()

    def test_capabilities(self) -> None:
        assert isinstance(self.store(), Staging)
        assert isinstance(self.store(), CompareAndSwap)


class TestSftpStoreWithoutExtensions(TestSftpStore):
    """As on peers that know version 3 of the protocol and nothing more."""

    @pytest.fixture(autouse=True)
    def _plain(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def refuse(*arguments: object, **options: object) -> None:
            raise asyncssh.SFTPOpUnsupported("not supported")

        for name in ("link", "posix_rename"):
            monkeypatch.setattr(asyncssh.SFTPClient, name, refuse)
        monkeypatch.setattr(asyncssh.SFTPClientFile, "fsync", refuse)
