"""One SSH connection with some SFTP sessions on it, used by many threads.

asyncssh lives on an event loop; a thread of its own runs it, and callers wait for its answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from dcmvault.errors import ConfigurationError, DestinationStoppedError
from dcmvault.object_stores.sftp_errors import LOST, connecting_errors

_T = TypeVar("_T")

#: An OpenSSH host works on one request of a session after the other: while one session waits for
#: an fsync, the others go on. It allows 10 (MaxSessions).
_SESSIONS = 4
#: Seconds within which any one request (at most `PIECE_BYTES` of content) is answered.
_ANSWER_S = 120.0
#: Bytes that are written or read under one such limit.
PIECE_BYTES = 2 << 20
#: Seconds without use after which a connection is asked whether it still works.
_IDLE_S = 30.0
_PROBE_S = 10.0
_KEEPALIVE_S = 15.0
_SETTLE_S = 0.5
_SSH_PORT = 22
#: These need no MAC of their own and are fast where the processor helps; the others follow.
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"

#: Kinds of host keys. A host that shows another kind than known_hosts has must be told as one
#: with another key, so all are offered, and those that are known first.
_HOST_KEY_KINDS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)

# The library's lower levels name paths.
logging.getLogger("asyncssh").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class SftpLogin:
    """Where to connect, as whom, and how the peer proves itself."""

    host: str
    port: int = _SSH_PORT
    user: str | None = None  #: None: who runs this process
    key_file: Path | None = None
    key_passphrase: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    known_hosts: Path | None = None  #: None: `~/.ssh/known_hosts`
    connect_timeout_s: float = 30.0


class SftpSession:
    """One SFTP session. Safe for several threads, which take turns at the peer."""

    def __init__(self, link: SftpConnection, client: asyncssh.SFTPClient) -> None:
        self._link = link
        self._lock = threading.Lock()
        self.client = client
        #: Actions under way.
        self.busy = 0

    def run(self, action: Coroutine[Any, Any, _T]) -> _T:
        """Do something with `client` on its event loop and return the result.

        Raises what the action raises; whatever means that the connection is lost, drops it.
        """
        with self._lock:
            self.busy += 1
        try:
            return self._link.run(action)
        except LOST:
            self._link.drop(self)
            raise
        finally:
            with self._lock:
                self.busy -= 1


class SftpConnection:
    """A connection that is made when needed, and again after it was lost.

    What was in flight then has failed; nothing is repeated here.
    """

    def __init__(self, login: SftpLogin) -> None:
        self._login = login
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: asyncssh.SSHClientConnection | None = None
        self._sessions: list[SftpSession] = []
        #: As many as the peer allows.
        self._most = _SESSIONS
        self._used = 0.0
        #: What the event loop still has to end: the connection, if there is one.
        self._open: list[asyncssh.SSHClientConnection] = []
        self._stop = contextlib.ExitStack()
        weakref.finalize(self, self._stop.close)

    def session(self) -> SftpSession:
        """Return a session that works, as far as can be known; connect if there is none."""
        with self._lock:
            connection = self._working()
            if connection is None:
                connection = self._connect()
            elif len(self._sessions) < self._most and all(one.busy for one in self._sessions):
                try:
                    self._open_session(connection)
                except (asyncssh.Error, OSError):
                    # Not every peer allows so many; one is enough.
                    self._most = len(self._sessions)
            self._used = time.monotonic()
            return min(self._sessions, key=lambda one: one.busy)

    def run(self, action: Coroutine[Any, Any, _T]) -> _T:
        """Run something on the event loop, for at most `_ANSWER_S`."""
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(action, _ANSWER_S), self._loop)
        try:
            return future.result()
        except BaseException:  # an interrupt, too: nobody waits for the answer any more
            future.cancel()
            raise
        finally:
            self._used = time.monotonic()

    def drop(self, session: SftpSession) -> None:
        """Give up the connection that this session is on; the next session has a new one."""
        with self._lock:
            if session in self._sessions:
                self._abort()

    def close(self) -> None:
        """End the connection and its thread; another use begins anew."""
        with self._lock:
            self._connection = None
            self._sessions = []
            self._loop = None
            self._stop.close()

    def _working(self) -> asyncssh.SSHClientConnection | None:
        """Return the connection if it is alive; a firewall may have forgotten an idle one."""
        connection = self._connection
        if connection is None:
            return None
        if not connection.is_closed():
            if time.monotonic() - self._used < _IDLE_S:
                return connection
            with contextlib.suppress(asyncssh.Error, OSError):
                self.run(asyncio.wait_for(self._sessions[0].client.stat("."), _PROBE_S))
                return connection
        self._abort()
        return None

    def _abort(self) -> None:
        if self._connection is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._connection.abort)
        self._connection = None
        self._sessions = []

    def _connect(self) -> asyncssh.SSHClientConnection:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            thread = threading.Thread(target=self._loop.run_forever, name="sftp", daemon=True)
            thread.start()
            self._stop.callback(_stop, self._loop, thread, self._open)
        login = self._login
        known = _known_hosts(login)
        options = asyncssh.SSHClientConnectionOptions(
            **_credentials(login),
            config=None,
            known_hosts=known,
            server_host_key_algs=_host_key_kinds(login, known),
            connect_timeout=login.connect_timeout_s,
            login_timeout=login.connect_timeout_s,
            keepalive_interval=_KEEPALIVE_S,
            compression_algs=["none"],
            encryption_algs=_CIPHERS,
        )
        with connecting_errors(login.host, login.port):
            try:
                connection = self.run(_connected(login, options))
            except asyncssh.HostKeyNotVerifiable as error:
                raise _distrust(login, known) from error
            self._connection = connection
            self._open[:] = [connection]
            self._most = _SESSIONS
            try:
                self._open_session(connection)
            except BaseException:
                self._abort()
                raise
        return connection

    def _open_session(self, connection: asyncssh.SSHClientConnection) -> None:
        client = self.run(_opened(connection))
        self._sessions.append(SftpSession(self, client))


async def _connected(
    login: SftpLogin, options: asyncssh.SSHClientConnectionOptions
) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(login.host, login.port, options=options)


async def _opened(connection: asyncssh.SSHClientConnection) -> asyncssh.SFTPClient:
    try:
        return await connection.start_sftp_client(path_encoding="utf-8")
    except asyncssh.ChannelOpenError:
        # A connection that ends just now refuses sessions, too. It knows in a moment.
        await asyncio.sleep(_SETTLE_S)
        if connection.is_closed():
            raise ConnectionResetError from None
        raise


def _stop(
    loop: asyncio.AbstractEventLoop,
    thread: threading.Thread,
    connections: list[asyncssh.SSHClientConnection],
) -> None:
    """End the event loop with what is left on it."""
    asyncio.run_coroutine_threadsafe(_wind_up(connections), loop).add_done_callback(
        lambda _: loop.call_soon_threadsafe(loop.stop)
    )
    thread.join(_PROBE_S)
    if not thread.is_alive():
        loop.close()


async def _wind_up(connections: list[asyncssh.SSHClientConnection]) -> None:
    for connection in connections:
        connection.abort()
        await connection.wait_closed()
    connections.clear()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()


def _credentials(login: SftpLogin) -> dict[str, Any]:
    """Return what is offered as proof of who we are: exactly what was given, else the agent's."""
    given: dict[str, Any] = {}
    if login.user is not None:
        given["username"] = login.user
    if login.password is not None:
        given["password"] = login.password
    if login.key_file is not None:
        given["client_keys"] = [_private_key(login.key_file, login.key_passphrase)]
        given["agent_path"] = None
    elif login.password is not None:
        given |= {"client_keys": None, "agent_path": None}
    return given


def _private_key(path: Path, passphrase: str | None) -> asyncssh.SSHKey:
    try:
        return asyncssh.read_private_key(path, passphrase)
    except asyncssh.KeyEncryptionError as error:
        raise ConfigurationError(
            "The key file of the SFTP login does not open with this passphrase."
        ) from error
    except (OSError, asyncssh.KeyImportError) as error:
        raise ConfigurationError(
            "The key file of the SFTP login cannot be read.",
            hint="It is a private key as ssh-keygen makes it, readable by who runs dcmvault.",
        ) from error


def _known_hosts(login: SftpLogin) -> asyncssh.SSHKnownHosts:
    path = login.known_hosts or Path("~/.ssh/known_hosts").expanduser()
    try:
        return asyncssh.import_known_hosts(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return asyncssh.import_known_hosts("")
    except (OSError, ValueError) as error:
        raise ConfigurationError("The known_hosts file for SFTP cannot be read.") from error


def _trusted(
    login: SftpLogin, known: asyncssh.SSHKnownHosts
) -> tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey]]:
    """Return the keys that known_hosts has for the host, and those of authorities."""
    port = login.port if login.port != _SSH_PORT else None
    host_keys, authorities, *_ = asyncssh.match_known_hosts(known, login.host, "", port)
    return list(host_keys), list(authorities)


def _host_key_kinds(login: SftpLogin, known: asyncssh.SSHKnownHosts) -> list[str] | tuple[()]:
    host_keys, authorities = _trusted(login, known)
    if authorities:
        return ()  # the library's own choice, with certificates
    kinds = {key.get_algorithm() for key in host_keys}
    if "ssh-rsa" in kinds:
        kinds |= {"rsa-sha2-512", "rsa-sha2-256"}
    return sorted(_HOST_KEY_KINDS, key=lambda kind: kind not in kinds)


def _distrust(login: SftpLogin, known: asyncssh.SSHKnownHosts) -> DestinationStoppedError:
    """Say why the key that the peer showed is not trusted: it is new, or it is another one."""
    name = f"{login.host}:{login.port}"
    if any(_trusted(login, known)):
        return DestinationStoppedError(
            f"The SFTP host {name} shows ANOTHER KEY than known_hosts has for it: "
            "somebody may stand between.",
            hint="Ask who runs the host. Only if its key was changed on purpose, replace its line.",
        )
    return DestinationStoppedError(
        f"The key of the SFTP host {name} is not in known_hosts.",
        hint="Compare the key with who runs the host, and log in once with the program ssh.",
    )
