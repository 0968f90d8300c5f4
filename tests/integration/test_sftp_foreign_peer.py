"""The SFTP store at a peer that is not OpenSSH: a login by password, folders that do not open."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Awaitable, Iterator
from pathlib import Path

import asyncssh
import pytest

from dcmvault.errors import DestinationStoppedError, ObjectExistsError
from dcmvault.object_stores.sftp import SftpStore

_PASSWORD = "a password of this test"  # not of anything else


class _Login(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("backup", _PASSWORD)


class _Files(asyncssh.SFTPServer):
    """asyncssh's own: it refuses to open folders. `full` lets it have no space left."""

    root = b""
    full = False

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        super().__init__(channel, chroot=self.root)

    def write(self, file_obj: object, offset: int, data: bytes) -> int | Awaitable[int]:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(file_obj, offset, data)

    def statvfs(self, path: bytes) -> asyncssh.SFTPVFSAttrs:
        return asyncssh.SFTPVFSAttrs(bsize=4096, frsize=4096, bavail=0 if self.full else 10**6)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SftpStore]:
    objects = tmp_path / "objects"
    objects.mkdir()
    monkeypatch.setattr(_Files, "root", os.fsencode(objects))
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1", 0, server_factory=_Login, server_host_keys=[host_key], sftp_factory=_Files
        )

    acceptor = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    port = acceptor.get_port()
    known = tmp_path / "known_hosts"
    public = host_key.export_public_key().decode()
    known.write_text(f"[127.0.0.1]:{port} {public}", encoding="ascii")
    store = SftpStore(
        "127.0.0.1", "/vault", port=port, user="backup", password=_PASSWORD, known_hosts=known
    )
    yield store
    store.close()

    async def end() -> None:
        acceptor.close()
        await acceptor.wait_closed()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_objects_come_and_go(store: SftpStore) -> None:
    content = os.urandom(3 << 20)
    assert store.put("packs/ab/one", [content]) == len(content)
    assert store.put("packs/ab/one", [content]) == len(content)
    with pytest.raises(ObjectExistsError):
        store.put("packs/ab/one", [b"other"])
    assert store.get("packs/ab/one") == content
    assert store.get("packs/ab/one", 5, 7) == content[5:12]
    assert store.swap("lease", None, b"mine")
    assert not store.swap("lease", None, b"theirs")
    assert list(store.keys()) == ["lease", "packs/ab/one"]
    store.delete("packs/ab/one")
    store.delete("lease")
    assert list(store.keys()) == []


def test_a_full_disk(store: SftpStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("kept", [b"kept"])
    monkeypatch.setattr(_Files, "full", True)
    for size in (10, 5 << 20):
        with pytest.raises(DestinationStoppedError, match="disk on the SFTP host is full"):
            store.put("packs/lost", [bytes(size)])
    assert list(store.keys()) == ["kept"]
    store.delete("kept")
    monkeypatch.setattr(_Files, "full", False)
    assert store.put("packs/lost", [b"found"]) == 5
    assert list(store.keys()) == ["packs/lost"]
