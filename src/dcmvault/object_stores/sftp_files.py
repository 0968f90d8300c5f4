"""What an SFTP peer is asked to do so that names and bytes survive a crash and a power cut.

Coroutines on an `asyncssh.SFTPClient`; they raise `asyncssh.SFTPError`, and `LOST` errors when
the connection is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple, cast

import asyncssh
from asyncssh.constants import FILEXFER_TYPE_DIRECTORY, FILEXFER_TYPE_REGULAR, FXF_READ

from dcmvault.object_stores.sftp_errors import LOST, disk_full, root_missing

_NOT_THERE = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPNotADirectory)
_PRIVATE_FILE = asyncssh.SFTPAttrs(permissions=0o600)
_PRIVATE_FOLDER = asyncssh.SFTPAttrs(permissions=0o700)
#: What a disk without space answers is "failure"; less free space than this makes it clear.
_NO_SPACE_BYTES = 4 << 20


class Entry(NamedTuple):
    """A name in a folder."""

    name: str
    is_folder: bool
    is_file: bool  #: a regular one, no link
    modified: int  #: seconds since the epoch, by the peer's clock


async def attributes(client: asyncssh.SFTPClient, path: str) -> asyncssh.SFTPAttrs | None:
    """Return what is known of a path, of a link itself; None if there is nothing."""
    try:
        return await client.lstat(path)
    except _NOT_THERE:
        return None


def is_file(found: asyncssh.SFTPAttrs | None) -> bool:
    """Say whether a path is a regular file."""
    return found is not None and found.type == FILEXFER_TYPE_REGULAR


async def is_folder(client: asyncssh.SFTPClient, path: str) -> bool:
    """Say whether a path, or what a link there leads to, is a folder."""
    try:
        return (await client.stat(path)).type == FILEXFER_TYPE_DIRECTORY
    except _NOT_THERE:
        return False


async def entries(client: asyncssh.SFTPClient, folder: str) -> list[Entry] | None:
    """List a folder; None if there is none."""
    try:
        found = await client.readdir(folder)
    except _NOT_THERE:
        return None
    return [
        Entry(
            str(one.filename),
            one.attrs.type == FILEXFER_TYPE_DIRECTORY,
            one.attrs.type == FILEXFER_TYPE_REGULAR,
            int(one.attrs.mtime or 0),
        )
        for one in found
        if one.filename not in (".", "..")
    ]


async def create(client: asyncssh.SFTPClient, path: str) -> asyncssh.SFTPClientFile:
    """Create a file that nobody else has, for writing, readable by its owner alone."""
    return await client.open(path, "xb", _PRIVATE_FILE)


async def write(
    client: asyncssh.SFTPClient, file: asyncssh.SFTPClientFile, folder: str, data: bytes
) -> None:
    """Append bytes; DestinationStoppedError if the disk that `folder` is on is full."""
    try:
        await file.write(data)
    except asyncssh.SFTPFailure:
        with contextlib.suppress(asyncssh.SFTPError):
            space = await client.statvfs(folder)
            if space.bavail * space.frsize < _NO_SPACE_BYTES:
                raise disk_full() from None
        raise


async def read(file: asyncssh.SFTPClientFile, size: int, start: int) -> bytes:
    """Read bytes of a file; fewer at its end."""
    return cast("bytes", await file.read(size, start))


async def make_durable(file: asyncssh.SFTPClientFile) -> None:
    """Bring a file's bytes to the medium, where the peer lets that be asked."""
    with contextlib.suppress(asyncssh.SFTPOpUnsupported):
        await file.fsync()


async def make_names_durable(client: asyncssh.SFTPClient, folder: str) -> None:
    """Make the names in a folder durable, where the peer lets a folder be opened and synced.

    OpenSSH does: it opens what it is told to open, and calls fsync(2) on it.
    """
    try:
        opened = await client.open(folder, FXF_READ, encoding=None)
    except LOST:
        raise
    except _NOT_THERE:
        raise
    except asyncssh.SFTPError:
        return
    try:
        await make_durable(opened)
    except asyncssh.SFTPBadMessage:  # what EINVAL becomes: a file system that orders names itself
        return
    finally:
        await close(opened)


async def give_name(client: asyncssh.SFTPClient, staged: str, path: str) -> bool:
    """Name the staged file `path` unless something has that name; say whether it did.

    A hard link does both at once, on the peer's disk. Without hard links it is a rename, which
    the protocol forbids to replace anything (draft-ietf-secsh-filexfer-02, 6.5), but some peers
    do: there, of two writers of one key the later may win.
    """
    try:
        await client.link(staged, path)
    except LOST:
        raise
    except _NOT_THERE:
        raise
    except asyncssh.SFTPError:
        # Version 3 of the protocol has one code for all: that the name is taken, too.
        if await attributes(client, path) is not None:
            return False
    else:
        return True
    try:
        await client.rename(staged, path)
    except asyncssh.SFTPFailure:
        if await attributes(client, path) is None:
            raise
        return False
    return True


async def replace(client: asyncssh.SFTPClient, staged: str, path: str) -> None:
    """Give the staged file this name, whatever has it now: at once where the peer can do that."""
    try:
        await client.posix_rename(staged, path)
    except asyncssh.SFTPOpUnsupported:
        await remove(client, path)
        await client.rename(staged, path)


async def remove(client: asyncssh.SFTPClient, path: str) -> bool:
    """Remove a file; False if there is none."""
    try:
        await client.remove(path)
    except _NOT_THERE:
        return False
    return True


async def make_folder(client: asyncssh.SFTPClient, folder: str) -> None:
    """Make a folder that its owner alone can read, with a durable name, if it is not there."""
    try:
        await client.mkdir(folder, _PRIVATE_FOLDER)
    except (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists):
        if not await is_folder(client, folder):
            raise
    await make_names_durable(client, parent_of(folder))


async def make_root(client: asyncssh.SFTPClient, root: str) -> None:
    """Make the root folder if its parent exists; DestinationAbsentError if that does not."""
    if await is_folder(client, root):
        return
    if not await is_folder(client, parent_of(root)):
        raise root_missing()
    await make_folder(client, root)


async def sweep(client: asyncssh.SFTPClient, staging: str, own: str, stale_s: int) -> None:
    """Remove staged files last written `stale_s` before `own` was, by the peer's clock."""
    found = await entries(client, staging) or []
    now = max((one.modified for one in found if one.name == own), default=0)
    for one in found:
        if one.is_file and one.modified < now - stale_s:
            await remove(client, f"{staging}/{one.name}")


async def open_for_reading(
    client: asyncssh.SFTPClient, path: str
) -> tuple[asyncssh.SFTPClientFile, int]:
    """Open a regular file; return it and its size. SFTPNoSuchFile for a folder or a link, too."""
    found, opened = await asyncio.gather(
        attributes(client, path), client.open(path, FXF_READ, encoding=None), return_exceptions=True
    )
    if isinstance(opened, BaseException):
        raise opened
    if isinstance(found, BaseException) or found is None or not is_file(found):
        await close(opened)
        raise found if isinstance(found, BaseException) else asyncssh.SFTPNoSuchFile("")
    return opened, found.size or 0


async def read_whole(client: asyncssh.SFTPClient, path: str) -> bytes | None:
    """Return the bytes of a small file, None if there is none."""
    try:
        file, size = await open_for_reading(client, path)
    except _NOT_THERE:
        return None
    try:
        return await read(file, size, 0)
    finally:
        await close(file)


def parent_of(path: str) -> str:
    """Return the folder that a path lies in."""
    parent, slash, _ = path.rpartition("/")
    return parent or slash or "."


async def close(file: asyncssh.SFTPClientFile) -> None:
    """Close a file that was read: whatever the peer answers, nothing depends on it."""
    with contextlib.suppress(asyncssh.SFTPError):
        await file.close()
