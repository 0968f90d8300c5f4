"""What an SFTP peer's answers mean: stop, come back later, or this object only.

No message names a path: a folder's name may be a patient's.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import asyncssh

from dcmvault.errors import (
    DestinationAbsentError,
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    InstanceRefusedError,
    ObjectMissingError,
)

#: The connection is of no use any more.
LOST = (
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.DisconnectError,
    asyncssh.ChannelOpenError,
    OSError,  # also of asyncio's and the socket's time limits
)
_FULL = (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)
_NOT_THERE = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPNotADirectory)


def root_missing() -> DestinationAbsentError:
    """Make the error for a folder that is not there."""
    return DestinationAbsentError(
        "The destination folder is not there on the SFTP host.",
        hint="Is its disk mounted there? If the path is right, create the folder.",
    )


def root_replaced() -> DestinationUnreachableError:
    """Make the error for a folder that is not the one any more that was written into."""
    return DestinationUnreachableError(
        "The destination folder on the SFTP host went away while it was written into.",
        hint="Was its disk unmounted there? Mount it, then run again.",
    )


def connection_lost() -> DestinationUnreachableError:
    """Make the error for a connection that ended, or does not answer, while work was in flight."""
    return DestinationUnreachableError(
        "The connection to the SFTP host was lost.",
        hint="Run again when the host can be reached; what was stored stays stored.",
    )


def disk_full() -> DestinationStoppedError:
    """Make the error for a disk without space."""
    return DestinationStoppedError(
        "The destination's disk on the SFTP host is full.",
        hint="Free space there, then run again.",
    )


@contextlib.contextmanager
def writing_errors() -> Iterator[None]:
    """Turn what the peer answers to changes into errors of the tree."""
    try:
        yield
    except LOST as error:
        raise connection_lost() from error
    except asyncssh.SFTPError as error:
        raise _meaning(error) from error


@contextlib.contextmanager
def reading_errors(key: str) -> Iterator[None]:
    """Turn what the peer answers to the reading of one object into errors of the tree.

    A bad sector or a forbidden file says nothing about the other objects.
    """
    try:
        yield
    except LOST as error:
        raise connection_lost() from error
    except _NOT_THERE as error:
        raise ObjectMissingError(f"no object {key}") from error
    except asyncssh.SFTPError as error:
        raise DestinationError(
            f"The object {key} cannot be read on the SFTP host: {_reason(error)}."
        ) from error


@contextlib.contextmanager
def connecting_errors(host: str, port: int) -> Iterator[None]:
    """Turn what prevents a connection, but for host keys, into errors of the tree."""
    name = f"{host}:{port}"
    try:
        yield
    except asyncssh.PermissionDenied as error:
        raise DestinationStoppedError(
            f"The SFTP host {name} does not accept the login: user, key or password are wrong.",
            hint="Try the same user and key with the program sftp.",
        ) from error
    except asyncssh.KeyExchangeFailed as error:
        raise DestinationStoppedError(
            f"The SFTP host {name} and this computer agree on no way to prove or encrypt.",
            hint="If the host was set up anew, compare its key with the one in known_hosts.",
        ) from error
    except socket.gaierror as error:
        raise DestinationUnreachableError(
            f"The name of the SFTP host {host} is not known.", hint="Is it spelt correctly?"
        ) from error
    except ConnectionRefusedError as error:
        raise DestinationUnreachableError(
            f"The SFTP host refuses connections at {name}.",
            hint="Does an SSH service listen there? Is the port right?",
        ) from error
    except TimeoutError as error:
        raise DestinationUnreachableError(
            f"The SFTP host {name} does not answer.", hint="Does a firewall stand between?"
        ) from error
    except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection) as error:
        raise DestinationUnreachableError(
            f"The SFTP host {name} ended the connection as soon as it began."
        ) from error
    except (asyncssh.SFTPError, asyncssh.ChannelOpenError) as error:
        raise DestinationStoppedError(
            f"The host {name} offers no SFTP to this user.",
            hint="Ask who runs the host to allow it.",
        ) from error
    except (asyncssh.Error, OSError) as error:
        raise DestinationUnreachableError(
            f"No connection to the SFTP host {name}: {_reason(error)}."
        ) from error


def _meaning(error: asyncssh.SFTPError) -> DestinationError:
    if isinstance(error, _NOT_THERE):
        return root_missing()
    if isinstance(error, _FULL):
        return disk_full()
    if isinstance(error, asyncssh.SFTPWriteProtect):
        return DestinationStoppedError(
            "The destination's file system on the SFTP host is read-only.",
            hint="Mount it for writing.",
        )
    if isinstance(error, asyncssh.SFTPPermissionDenied):
        return DestinationStoppedError(
            "No permission to write to the destination folder on the SFTP host.",
            hint="Give the user who logs in the right to read and write it.",
        )
    if isinstance(error, asyncssh.SFTPInvalidFilename):
        return InstanceRefusedError("The SFTP host does not take the name of an object.")
    return DestinationStoppedError(
        f"The SFTP host does not do what was asked: {_reason(error)}.",
        hint="See the host's log.",
    )


def _reason(error: Exception) -> str:
    """Name an error without what the peer says about it: that may hold a path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__.removeprefix("SFTP")
