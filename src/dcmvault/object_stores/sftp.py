"""Objects as files under one folder of a host that is reached by SFTP.

Keys are paths under the root. A file gets its name only when its bytes are complete, so a
reader, a second process or a crash never meets half an object: bytes on their way lie in
`.staging/` inside the root (no valid key), and a hard link names them. What a crash leaves there
is swept a day later. Folders are made with mode 0700 and files with 0600.

How durable that is, is up to the peer. SFTP itself promises nothing. With OpenSSH (since 6.5)
bytes are brought to the medium by its extension fsync@openssh.com, and so are the names in a
folder, because it opens folders as it opens files. A peer without the extension, or one that
does not open folders, writes when it likes: there a power cut on the host may lose what was put
last, never what is older, and never a part of an object that was there.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import asyncssh

from dcmvault.errors import ObjectExistsError, ObjectMissingError
from dcmvault.object_stores import sftp_files as files
from dcmvault.object_stores import sftp_swap
from dcmvault.object_stores.keys import check_key, is_valid_key
from dcmvault.object_stores.sftp_connection import (
    PIECE_BYTES,
    SftpConnection,
    SftpLogin,
    SftpSession,
)
from dcmvault.object_stores.sftp_errors import (
    LOST,
    reading_errors,
    root_missing,
    root_replaced,
    writing_errors,
)

_STAGING = ".staging"
#: Seconds after which a staged file belongs to nobody any more.
_STALE_S = 24 * 3600


class SftpStore:
    """An object store, with staging and compare-and-swap, on a host that is reached by SFTP.

    `path` is absolute, or relative to where the login begins. The peer must show a key that
    `known_hosts` (by default `~/.ssh/known_hosts`) has for it; an unknown or another key is never
    accepted. The login is by `key_file` or `password` if given, else by the SSH agent and the
    user's own keys; the user's SSH configuration is not read.

    Nothing is touched before the first operation. The root is made by the first write if its
    parent exists; reading where there is no root raises DestinationAbsentError. A lost
    connection fails what was in flight (DestinationUnreachableError); the next operation makes
    a new one. Safe for several threads.
    """

    def __init__(
        self,
        host: str,
        path: str,
        *,
        port: int = 22,
        user: str | None = None,
        key_file: Path | None = None,
        key_passphrase: str | None = None,
        password: str | None = None,
        known_hosts: Path | None = None,
        connect_timeout_s: float = 30.0,
    ) -> None:
        login = SftpLogin(
            host, port, user, key_file, key_passphrase, password, known_hosts, connect_timeout_s
        )
        self._root = path.rstrip("/") or ("/" if path.startswith("/") else ".")
        self._connection = SftpConnection(login)
        self._folders = _Folders(self._root)

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store an object under a new key, or the same bytes again."""
        check_key(key)
        staged = self.stage()
        try:
            for chunk in chunks:
                staged.write(chunk)
            staged.commit(key)
        finally:
            staged.discard()
        return staged.size

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object; the whole of one that is swapped is never out of date."""
        path = self._path(key)
        session = self._connection.session()
        client = session.client
        with reading_errors(key):
            try:
                if start == 0 and length is None:
                    found = session.run(sftp_swap.look(client, self._root, key))
                    if isinstance(found, bytes):
                        return found
                else:
                    found = session.run(files.open_for_reading(client, path))
                return b"".join(_pieces(session, *found, start, length))
            except asyncssh.SFTPNoSuchFile:
                self._require_root(session)
                raise

    def head(self, key: str) -> int | None:
        """Return an object's size in bytes."""
        path = self._path(key)
        session = self._connection.session()
        with reading_errors(key):
            found = session.run(files.attributes(session.client, path))
            if found is None:
                self._require_root(session)
        return found.size if found is not None and files.is_file(found) else None

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List keys; files that are no objects of ours (other names, links) are left out."""
        with writing_errors():
            self._require_root(self._connection.session())
        return self._walk("", prefix)

    def delete(self, key: str) -> None:
        """Remove an object. Its folder stays."""
        if self.head(key) is None:
            raise ObjectMissingError(f"no object {key}")
        session = self._connection.session()
        with writing_errors():
            staging = self._folders.staging(session)
            if not session.run(sftp_swap.remove(session.client, self._root, staging, key)):
                raise ObjectMissingError(f"no object {key}")

    def swap(self, key: str, expected: bytes | None, new: bytes) -> bool:
        """Replace an object if it equals `expected`, for exactly one of all processes and hosts.

        `sftp_swap` says how. `head`, `keys` and ranges may be one value behind when a process
        died in the middle of a swap, until the next one.
        """
        path = self._path(key)
        session = self._connection.session()
        with writing_errors():
            staging = self._folders.staging(session)
            self._folders.ensure(session, files.parent_of(path))
            self._folders.ensure(session, sftp_swap.folder_of(self._root, key))
            return session.run(
                sftp_swap.swap(session.client, self._root, staging, key, expected=expected, new=new)
            )

    def stage(self) -> SftpStagedObject:
        """Begin an object."""
        session = self._connection.session()
        with writing_errors():
            path = f"{self._folders.staging(session)}/{secrets.token_hex(16)}"
            try:
                file = session.run(files.create(session.client, path))
            except asyncssh.SFTPNoSuchFile:
                raise root_replaced() from None
            self._folders.sweep(session, path)
        return SftpStagedObject(self, session, path, file)

    def adopt(self, session: SftpSession, staged: str, key: str, digest: bytes) -> bool:
        """Give a staged file its key; False when bytes of this SHA-256 were there already."""
        path = self._path(key)
        folder = files.parent_of(path)
        with writing_errors():
            self._folders.ensure(session, folder)
            try:
                new = session.run(files.give_name(session.client, staged, path))
            except asyncssh.SFTPNoSuchFile:
                # Somebody removed the folder between our making it and using it, or before.
                self._folders.forget()
                self._folders.ensure(session, folder)
                new = session.run(files.give_name(session.client, staged, path))
            if not new and not _has_digest(session, path, digest):
                raise ObjectExistsError(
                    f"other bytes are stored under {key}",
                    hint="The stored object is damaged, or was put there by something else.",
                )
            # Also when it was there: the other writer may not have come this far yet.
            session.run(files.make_names_durable(session.client, folder))
        return new

    def close(self) -> None:
        """End the connection; the next operation makes a new one."""
        self._connection.close()

    def _path(self, key: str) -> str:
        check_key(key)
        return f"{self._root}/{key}"

    def _require_root(self, session: SftpSession) -> None:
        if not session.run(files.is_folder(session.client, self._root)):
            raise root_missing()

    def _walk(self, folder: str, prefix: str) -> Iterator[str]:
        """List the keys under `folder` (empty, or with a slash at its end), sorted as keys."""
        session = self._connection.session()
        with writing_errors():
            path = f"{self._root}/{folder}".rstrip("/")
            found = session.run(files.entries(session.client, path)) or []
        # A folder sorts as its keys do: with the slash that follows its name.
        names = sorted(
            f"{folder}{one.name}{'/' * one.is_folder}"
            for one in found
            if one.is_folder or one.is_file
        )
        for name in names:
            if name.endswith("/"):
                if is_valid_key(name[:-1]) and (name.startswith(prefix) or prefix.startswith(name)):
                    yield from self._walk(name, prefix)
            elif is_valid_key(name) and name.startswith(prefix):
                yield name


class SftpStagedObject:
    """A file in the staging folder on its way to a key. Used by one thread."""

    def __init__(
        self, store: SftpStore, session: SftpSession, path: str, file: asyncssh.SFTPClientFile
    ) -> None:
        self._store = store
        self._session = session
        self._path = path
        self._file: asyncssh.SFTPClientFile | None = file
        self._digest = hashlib.sha256()
        self._waiting = bytearray()
        self._staged = True
        #: Bytes written so far.
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._digest.update(chunk)
        self.size += len(chunk)
        self._waiting += chunk
        while len(self._waiting) >= PIECE_BYTES:
            self._send(PIECE_BYTES)

    def commit(self, key: str) -> bool:
        """Give the bytes their key."""
        check_key(key)
        if self._file is not None:
            if self._waiting:
                self._send(len(self._waiting))
            file, self._file = self._file, None
            with writing_errors():
                self._session.run(files.make_durable(file))
                # A peer may tell only now what went wrong.
                self._session.run(file.close())
        return self._store.adopt(self._session, self._path, key, self._digest.digest())

    def discard(self) -> None:
        """Close the file and remove its staging name; the committed object stays."""
        if not self._staged:
            return
        self._staged = False
        file, self._file = self._file, None
        # What cannot be removed now (connection lost, read-only) is swept later.
        with contextlib.suppress(asyncssh.Error, OSError):
            if file is not None:
                self._session.run(files.close(file))
            self._session.run(files.remove(self._session.client, self._path))

    def _send(self, length: int) -> None:
        assert self._file is not None
        piece = bytes(memoryview(self._waiting)[:length])
        del self._waiting[:length]
        folder = files.parent_of(self._path)
        with writing_errors():
            self._session.run(files.write(self._session.client, self._file, folder, piece))


class _Folders:
    """The folders under the root: made when needed. Safe for several threads."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = threading.Lock()
        #: Folders that are there, with names as durable as the peer allows.
        self._made: set[str] = set()
        self._swept = False

    def staging(self, session: SftpSession) -> str:
        """Return the staging folder; the root is made too, if its parent exists."""
        staging = f"{self._root}/{_STAGING}"
        with self._lock:
            if staging not in self._made:
                session.run(files.make_root(session.client, self._root))
                session.run(files.make_folder(session.client, staging))
                self._made.add(staging)
        return staging

    def ensure(self, session: SftpSession, folder: str) -> None:
        """Make the folders down to `folder`."""
        if folder == self._root:
            return
        with self._lock:
            if folder in self._made:
                return
        self.ensure(session, files.parent_of(folder))
        session.run(files.make_folder(session.client, folder))
        with self._lock:
            self._made.add(folder)

    def forget(self) -> None:
        """Look again which folders are there; the staging folder holds what we write."""
        with self._lock:
            self._made &= {f"{self._root}/{_STAGING}"}

    def sweep(self, session: SftpSession, own: str) -> None:
        """Remove what crashes left in the staging folder, once in this store's life."""
        with self._lock:
            swept, self._swept = self._swept, True
        if not swept:
            folder, _, name = own.rpartition("/")
            session.run(files.sweep(session.client, folder, name, _STALE_S))


def _pieces(
    session: SftpSession,
    file: asyncssh.SFTPClientFile,
    size: int,
    start: int = 0,
    length: int | None = None,
) -> Iterator[bytes]:
    """Read a range piece by piece, each under a time limit of its own; close the file."""
    try:
        end = size if length is None else min(size, start + length)
        while start < end:
            piece = session.run(files.read(file, min(PIECE_BYTES, end - start), start))
            if not piece:  # cut short by somebody else meanwhile
                break
            yield piece
            start += len(piece)
    finally:
        session.run(files.close(file))


def _has_digest(session: SftpSession, path: str, digest: bytes) -> bool:
    """Compare what has a name with a SHA-256; what cannot be read is not the same."""
    found = hashlib.sha256()
    try:
        for piece in _pieces(session, *session.run(files.open_for_reading(session.client, path))):
            found.update(piece)
    except LOST:
        raise
    except asyncssh.SFTPError:
        return False
    return found.digest() == digest
