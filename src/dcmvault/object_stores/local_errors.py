"""What a disk's errors mean: stop, come back later, or this object only.

No message names a path: a folder's name may be a patient's.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from dcmvault.errors import (
    DestinationAbsentError,
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    InstanceRefusedError,
)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
#: A disk that was unplugged, a network mount whose server is away.
_AWAY = frozenset(
    {
        errno.EIO,
        errno.ENXIO,
        errno.ENODEV,
        errno.ESTALE,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
    }
)
#: What link(2) answers on file systems without hard links (exFAT, FAT, some network mounts).
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def says_no_hard_links(error: OSError) -> bool:
    """Say whether a failed link(2) may succeed as a rename."""
    return error.errno in _NO_HARD_LINKS


def root_missing() -> DestinationAbsentError:
    """Make the error for a folder that is not there."""
    return DestinationAbsentError(
        "The destination folder is not there.",
        hint="Is the disk mounted? If the path is right, create the folder.",
    )


def root_replaced() -> DestinationUnreachableError:
    """Make the error for a folder that is not the one any more that was written into."""
    return DestinationUnreachableError(
        "The destination folder went away while it was written into.",
        hint="Was the disk unmounted? Mount it, then run again.",
    )


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what the operating system says about the disk into errors of the tree."""
    try:
        yield
    except OSError as error:
        raise _meaning(error) from error


@contextlib.contextmanager
def reading_errors(key: str) -> Iterator[None]:
    """Turn errors met while reading one object into an error of that object, where it is one.

    A bad sector (EIO) or a forbidden file says nothing about the other objects.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EIO or error.errno in _FORBIDDEN:
            raise DestinationError(
                f"The object {key} cannot be read: {os.strerror(error.errno)}."
            ) from error
        raise _meaning(error) from error


def _meaning(error: OSError) -> DestinationError:
    number = error.errno or 0
    if number in (errno.ENOENT, errno.ENOTDIR):
        return root_missing()
    if number in _FULL:
        return DestinationStoppedError(
            "The destination's disk is full.", hint="Free space there, then run again."
        )
    if number == errno.EROFS:
        return DestinationStoppedError(
            "The destination's file system is read-only.", hint="Mount it for writing."
        )
    if number in _FORBIDDEN:
        return DestinationStoppedError(
            "No permission to write to the destination folder.",
            hint="Give the user who runs dcmvault the right to read and write it.",
        )
    if number == errno.EFBIG:
        return InstanceRefusedError(
            "The file is larger than the destination's file system allows.",
            hint="FAT cannot hold files of 4 GiB; use another file system.",
        )
    if number in _AWAY:
        return DestinationUnreachableError(
            f"The destination's disk does not answer: {os.strerror(number)}.",
            hint="Is the disk plugged in and the network mount alive?",
        )
    return DestinationStoppedError(
        f"The destination's disk cannot be used: {os.strerror(number)}.",
        hint="See the system's log for the disk.",
    )
