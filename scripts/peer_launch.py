"""How peers are launched: fresh folder, free port, wait until it answers, stop by process id.

Standard library only.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
_START_S = 60.0
_STOP_S = 10.0
#: A free port may be taken by another process before the peer binds it.
_START_ATTEMPTS = 3
#: Below those that Linux, BSD and Windows give to connections by themselves.
_PORTS = range(18_000, 32_000)
_claimed: set[int] = set()
#: The file of claims, once it is open.
_shared: list[int] = []


class PeerFailedError(Exception):
    """A peer did not start; the message ends with the tail of its log."""


@dataclass(frozen=True)
class Peer:
    """A running peer. `folder` holds its storage, configuration and log, and goes with it."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int
    host: str = HOST

    @property
    def address(self) -> str:
        """How a client names it."""
        return f"{self.host}:{self.port}"

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")


def free_port() -> int:
    """Return a TCP port that nobody listens on now.

    Nobody else who asks this function gets it while this process lives, and the system does not
    give it to a connection: tests that run beside each other do not take each other's ports.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        if _claim(port):
            return port
    raise PeerFailedError("all ports for peers are taken")


def _claim(port: int) -> bool:
    """Tell whether the port is ours from now until this process ends.

    A claim is a lock on a byte of a file that all share (fcntl(2)): it goes with its process,
    however that ends, and a process with hundreds of claims has one file open.
    """
    if port in _claimed:
        return False
    if not _shared:
        name = f"dcmvault-peer-ports-{os.geteuid()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        _shared.append(os.open(Path(tempfile.gettempdir(), name), flags, 0o600))
    try:
        fcntl.lockf(_shared[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _claimed.add(port)
    return True


#: Writes a peer's configuration for a port into its folder, and returns its command.
Prepare = Callable[[Path, int], Sequence[str]]


@contextmanager
def run_peer(
    name: str,
    prepare: Prepare,
    *,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[tuple[subprocess.Popen[bytes], Path, int]]:
    """Start a peer in a fresh folder on a port that answers; stop it and remove the folder."""
    folder = Path(tempfile.mkdtemp(prefix=f"dcmvault-{name}-"))
    try:
        process, port = _start(name, prepare, folder, user, environment or {})
        try:
            yield process, folder, port
        finally:
            _stop(process, stop_signal)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(
    name: str,
    prepare: Prepare,
    folder: Path,
    user: str | None,
    environment: Mapping[str, str],
) -> tuple[subprocess.Popen[bytes], int]:
    for _ in range(_START_ATTEMPTS):
        port = free_port()
        command = [*_die_with_parent(), *prepare(folder, port)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(folder), **environment},
                start_new_session=True,
                **_as_user(user),
            )
        try:
            wait_until(name, Peer(process, folder, port), partial(_answers, port))
        except PeerFailedError:
            ended = process.poll() is not None
            _stop(process, signal.SIGKILL)
            if not ended:
                raise
            continue
        return process, port
    log_tail = (folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:]
    raise PeerFailedError(f"{name} ended at once, {_START_ATTEMPTS} times: {log_tail}")


@contextmanager
def run_again(peer: Peer, user: str | None = None) -> Iterator[Peer]:
    """Run a peer that ended once more, on its port and in its folder, as the user as before."""
    with (peer.folder / "log").open("ab") as log:
        process = subprocess.Popen(
            peer.process.args,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=peer.folder,
            env={**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(peer.folder)},
            start_new_session=True,
            **_as_user(user),
        )
    try:
        again = replace(peer, process=process)
        wait_until("the peer", again, partial(_answers, peer.port))
        yield again
    finally:
        _stop(process, signal.SIGKILL)


def _stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    """Ask the peer to end, insist after a while, and end what it forked."""
    if process.poll() is None:
        process.send_signal(stop_signal)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    with suppress(ProcessLookupError):
        # The peer was made the leader of its own group: nobody else is in it.
        os.killpg(process.pid, signal.SIGKILL)


def wait_until(name: str, peer: Peer, ready: Callable[[], bool]) -> None:
    """Return when `ready` says so; PeerFailedError when the peer ends first or takes too long."""
    deadline = time.monotonic() + _START_S
    while not ready():
        if peer.process.poll() is not None:
            raise PeerFailedError(f"{name} ended while starting: {peer.log[-2000:]}")
        if time.monotonic() > deadline:
            raise PeerFailedError(f"{name} does not answer: {peer.log[-2000:]}")
        time.sleep(0.02)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def _die_with_parent() -> list[str]:
    """Let the kernel end the peer when the tests die, even by kill -9 (prctl(2), Linux)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def unprivileged_user() -> str | None:
    """Name a user to step down to when we are root; None when we are nobody special already."""
    if os.geteuid() != 0:
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"


def _as_user(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def hand_over(folder: Path, user: str | None) -> None:
    """Give the folder and the files in it to `user`, if there is one to step down to."""
    if user is not None:
        entry = pwd.getpwnam(user)
        for path in (folder, *folder.iterdir()):
            os.chown(path, entry.pw_uid, entry.pw_gid)


def run_command(command: Sequence[str], *, folder: Path, user: str | None = None) -> None:
    """Run a preparation to its end in `folder`; PeerFailedError with its output if it fails."""
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        **_as_user(user),
    )
    if done.returncode != 0:
        output = done.stdout.decode(errors="replace")
        raise PeerFailedError(f"{Path(command[0]).name} failed: {output[-2000:]}")
