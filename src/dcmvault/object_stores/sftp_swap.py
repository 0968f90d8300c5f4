"""Compare and swap on an SFTP peer, which has nothing but names that can be taken once.

Every value that a swapped object has had is a file `.swap/KEY/GENERATION`, numbered from 1. To
swap is to take the next number: a hard link does that for exactly one of all who try, on the
peer's own disk. So there is no lock that a dead process could leave behind, nothing expires, and
no two clocks are compared. The highest number is the object's value; the object under its own
key follows it, for whoever reads the folder without us. A process that dies between the two
leaves the object one value behind, until the next swap; `get` returns the value all the same.
A removed object has an empty generation, and from there on is what lies under its key again.

Generations that are older than a day, by the peer's clock, and far from the newest are removed,
the lowest first. A process that slept through all that between looking and linking might take a
number that is free again: it finds the generation before it gone, and gives up.
"""

from __future__ import annotations

import asyncio
import secrets

import asyncssh

from dcmvault.object_stores import sftp_files as files

SWAP = ".swap"
_KEPT_GENERATIONS = 8
_KEPT_S = 24 * 3600
#: What a generation begins with when the object is there; else it is empty.
_THERE = b"\1"


async def look(
    client: asyncssh.SFTPClient, root: str, key: str
) -> bytes | tuple[asyncssh.SFTPClientFile, int]:
    """Return the value of an object that is swapped; else its opened file and size.

    Both are asked at once, so that objects that never were do not wait longer.
    """
    swapped, opened = await asyncio.gather(
        _current(client, root, key),
        files.open_for_reading(client, f"{root}/{key}"),
        return_exceptions=True,
    )
    if isinstance(opened, tuple):
        if not isinstance(swapped, BaseException) and swapped[1] is None:
            return opened
        await files.close(opened[0])
    if isinstance(swapped, BaseException):
        raise swapped
    if swapped[1] is not None:
        return swapped[1]
    assert isinstance(opened, BaseException)
    raise opened


async def swap(
    client: asyncssh.SFTPClient,
    root: str,
    staging: str,
    key: str,
    *,
    expected: bytes | None,
    new: bytes,
) -> bool:
    """Replace an object if it equals `expected`; its folder and `.swap/KEY` are there."""
    generation, value = await _current(client, root, key)
    if value is None:
        value = await files.read_whole(client, f"{root}/{key}")
    if value != expected:
        return False
    return await _advance(client, root, staging, key, generation, new)


async def remove(client: asyncssh.SFTPClient, root: str, staging: str, key: str) -> bool:
    """Remove an object that may have been swapped; False if it was not there."""
    while True:
        generation, value = await _current(client, root, key)
        if value is None:
            return await _show(client, root, staging, key, None)
        if await _advance(client, root, staging, key, generation, None):
            return True


async def _current(client: asyncssh.SFTPClient, root: str, key: str) -> tuple[int, bytes | None]:
    """Return the newest generation (0: none) and its value (None: what lies under the key)."""
    while True:
        numbers = [number for number, _ in await _generations(client, root, key)]
        if not numbers:
            return 0, None
        content = await files.read_whole(client, _path(root, key, numbers[-1]))
        if content is not None:
            return numbers[-1], content[1:] if content[:1] == _THERE else None
        # Removed since we looked: there are newer ones.


async def _advance(
    client: asyncssh.SFTPClient,
    root: str,
    staging: str,
    key: str,
    generation: int,
    new: bytes | None,
) -> bool:
    """Make `new` the next generation after this one; False if somebody else was first."""
    path = _path(root, key, generation + 1)
    staged = await _stage(client, staging, b"" if new is None else _THERE + new)
    try:
        if not await files.give_name(client, staged, path):
            return False
    finally:
        await files.remove(client, staged)
    await files.make_names_durable(client, files.parent_of(path))
    found = await _generations(client, root, key)
    numbers = {number for number, _ in found}
    if max(numbers) > generation + 1 and generation not in numbers:
        await files.remove(client, path)
        return False
    await _show(client, root, staging, key, new)
    await _tidy(client, root, key, found)
    return True


async def _show(
    client: asyncssh.SFTPClient, root: str, staging: str, key: str, value: bytes | None
) -> bool:
    """Let the object under its key have this value; False if there was none to remove."""
    path = f"{root}/{key}"
    if value is None:
        if not await files.remove(client, path):
            return False
    else:
        staged = await _stage(client, staging, value)
        await files.replace(client, staged, path)
    await files.make_names_durable(client, files.parent_of(path))
    return True


async def _stage(client: asyncssh.SFTPClient, staging: str, content: bytes) -> str:
    staged = f"{staging}/{secrets.token_hex(16)}"
    file = await files.create(client, staged)
    try:
        await files.write(client, file, staging, content)
        await files.make_durable(file)
    finally:
        await files.close(file)
    return staged


async def _generations(client: asyncssh.SFTPClient, root: str, key: str) -> list[tuple[int, int]]:
    """Return number and time of each generation, ascending."""
    found = await files.entries(client, folder_of(root, key)) or []
    return sorted((int(one.name), one.modified) for one in found if one.name.isdecimal())


async def _tidy(
    client: asyncssh.SFTPClient, root: str, key: str, found: list[tuple[int, int]]
) -> None:
    newest = found[-1][1]
    for number, modified in found[:-_KEPT_GENERATIONS]:
        if modified >= newest - _KEPT_S:
            break
        await files.remove(client, _path(root, key, number))


def folder_of(root: str, key: str) -> str:
    """Return where the generations of an object lie."""
    # No key has a plus: a key's folders need none of their own here.
    return f"{root}/{SWAP}/{key.replace('/', '+')}"


def _path(root: str, key: str, generation: int) -> str:
    return f"{folder_of(root, key)}/{generation:012d}"
