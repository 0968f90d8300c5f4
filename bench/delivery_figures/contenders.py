"""Who sends: ours, DCMTK's dcmsend, pynetdicom's storescu, and plain TCP that hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_NO_DELAY = {"TCP_NODELAY": "1"}
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """Where a peer of a measurement listens."""

    port: int
    ae_title: str = "ANY-SCP"


@dataclass(frozen=True, slots=True)
class Took:
    """What a sender took; of ours without the start of its interpreter."""

    wall_s: float
    cpu_s: float = 0.0
    associations: int = 1
    peak_bytes: int = 0


def ours(
    target: Target, folder: Path, *, associations: int = 0, most: int = 4, window: int = 1
) -> Took:
    """Send by our own path; with no fixed number of associations the controller chooses."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.delivery_figures.sender", str(target.port), str(folder)),
            *("--ae-title", target.ae_title, "--most", str(most)),
            *("--associations", str(associations), "--window", str(window)),
        ],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return Took(**json.loads(done.stdout))


def dcmsend(target: Target, *folders: Path, tuned: bool) -> Took:
    """Send each folder by a dcmsend of its own, all at once; `tuned` is TCP_NODELAY=1."""
    commands = [
        ("dcmsend", "-aec", target.ae_title, "127.0.0.1", str(target.port), "+sd", str(folder))
        for folder in folders
    ]
    return _run(commands, _NO_DELAY if tuned else {})


def storescu(target: Target, folder: Path) -> Took:
    """Send a folder by pynetdicom's storescu."""
    command = (
        *(sys.executable, "-W", "ignore", "-m", "pynetdicom", "storescu", "-q"),
        *("-aec", target.ae_title, "127.0.0.1", str(target.port), "-r", str(folder)),
    )
    return _run([command], {})


def raw_tcp(target: Target, folder: Path) -> Took:
    """Read, hash and send every file over one plain connection, and wait for the last byte."""
    buffer = memoryview(bytearray(_PIECE))
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", target.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for path in sorted(folder.iterdir()):
            digest = hashlib.sha256()
            with path.open("rb", buffering=0) as stream:
                while length := stream.readinto(buffer):
                    digest.update(buffer[:length])
                    connection.sendall(buffer[:length])
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    return Took(time.perf_counter() - began)


def _run(commands: Sequence[Sequence[str]], environment: dict[str, str]) -> Took:
    began = time.perf_counter()
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        for command in commands
    ]
    for process in processes:
        _out, errors = process.communicate()
        if process.returncode:
            words = errors.decode(errors="replace")[-2000:]
            raise SystemExit(f"{process.args!r} ended with {process.returncode}:\n{words}")
    return Took(time.perf_counter() - began)


@contextmanager
def helper(module: str, *options: str) -> Iterator[Target]:
    """Run a process of this bench that says its port and ends with its standard input."""
    command = [sys.executable, "-m", f"bench.delivery_figures.{module}", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Target(int(process.stdout.readline()))
        finally:
            process.stdin.close()
            process.wait(10)


def require_peers() -> None:
    """Exit with status 2, and the line that installs them, unless the peers are there."""
    missing = [name for name in ("dcmsend", "Orthanc", "unshare", "ip") if not shutil.which(name)]
    if missing:
        print(f"Not installed: {', '.join(missing)}. On Debian and Ubuntu:", file=sys.stderr)
        print("    sudo apt-get install -y dcmtk orthanc util-linux iproute2", file=sys.stderr)
        raise SystemExit(2)


def versions() -> str:
    """Return the versions of everything that is measured."""
    found = [f"dcmvault {version('dcmvault')}", f"pynetdicom {version('pynetdicom')}"]
    for name in ("dcmsend", "Orthanc"):
        said = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
        words = (said.stdout or said.stderr).replace("$", "").split()
        number = next((word for word in words if word.strip("v")[:1].isdigit()), "?")
        found.append(f"{name} {number}")
    return ", ".join(found)
