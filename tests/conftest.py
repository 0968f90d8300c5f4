"""Fixtures for every test: an isolated home, the command line as a process, and real peers.

A peer that is not installed fails the test with the line that installs it; nothing is skipped.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from scripts import peer_clouds, peer_processes
from scripts.peer_clouds import Azurite, GcsServer, S3Server
from scripts.peer_launch import Peer
from scripts.peer_packages import PeerMissingError
from scripts.peer_processes import DicomPeer, Orthanc, PostgreSQL, Sshd

# How long a case takes is not what tests are about: the machine may be busy.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


class RunDcmvault(Protocol):
    """Runs `dcmvault ARGUMENTS` to its end, whatever its exit status."""

    def __call__(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]: ...


class StartDcmvault(Protocol):
    """Starts `dcmvault ARGUMENTS` and returns at once; what still runs is killed after the test."""

    def __call__(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]: ...


#: Variables by which other programs than ours would find somebody's data.
_FOREIGN = ("DCMVAULT_", "DBOS_", "PG", "AWS_", "AZURE_", "GOOGLE_")


@pytest.fixture(autouse=True)
def _isolated_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Keep the developer's configuration, state and language out of the tests."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name in {"LANGUAGE", "LC_MESSAGES"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("NO_COLOR", "1")
    # A test that forgets to ask for `home` must not write into the developer's own.
    monkeypatch.setenv("DCMVAULT_HOME", str(tmp_path_factory.getbasetemp() / "home-not-asked-for"))


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh state folder, named by DCMVAULT_HOME for this process and what it starts."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DCMVAULT_HOME", str(folder))
    return folder


def _command(arguments: tuple[str | Path, ...]) -> list[str]:
    return [sys.executable, "-m", "dcmvault", *(str(argument) for argument in arguments)]


@pytest.fixture
def run_dcmvault(home: Path) -> RunDcmvault:
    """The command line as a user runs it: a process of its own, on this test's `home`."""

    def run(
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            _command(arguments),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, **(env or {})},
            timeout=timeout,
            cwd=cwd,
        )

    return run


@pytest.fixture
def start_dcmvault(home: Path) -> Iterator[StartDcmvault]:
    """The command line as a process that the test watches, interrupts or kills."""
    with ExitStack() as stack:

        def start(
            *arguments: str | Path, env: Mapping[str, str] | None = None
        ) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                _command(arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                env={**os.environ, **(env or {})},
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


class StartOrthanc(Protocol):
    """Starts one more Orthanc; keywords override keys of its configuration file."""

    def __call__(self, **settings: object) -> Orthanc: ...


PeerT = TypeVar("PeerT", bound=Peer)


@contextmanager
def _running(starter: Callable[[], AbstractContextManager[PeerT]]) -> Iterator[PeerT]:
    with ExitStack() as stack:
        try:
            peer = stack.enter_context(starter())
        except PeerMissingError as error:
            pytest.fail(str(error), pytrace=False)
        yield peer


@pytest.fixture
def start_orthanc() -> Iterator[StartOrthanc]:
    """A way to start Orthancs with settings of the test's own."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Orthanc:
            starter = partial(peer_processes.orthanc, **settings)
            return stack.enter_context(_running(starter))

        yield start


@pytest.fixture
def orthanc(start_orthanc: StartOrthanc) -> Orthanc:
    """A fresh, empty Orthanc (it starts in a tenth of a second)."""
    return start_orthanc()


@pytest.fixture
def storescp() -> Iterator[DicomPeer]:
    """A fresh storescp of DCMTK; what it received lies in `.storage`."""
    with _running(peer_processes.storescp) as peer:
        yield peer


@pytest.fixture
def dcmqrscp() -> Iterator[DicomPeer]:
    """A fresh dcmqrscp of DCMTK, which can be queried too."""
    with _running(peer_processes.dcmqrscp) as peer:
        yield peer


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL for the whole session."""
    with _running(peer_processes.postgresql) as peer:
        yield peer


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, empty database."""
    name = f"test_{secrets.token_hex(6)}"
    admin_url = postgresql.url().replace("+psycopg", "")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
    yield postgresql.url(name)
    with psycopg.connect(admin_url, autocommit=True) as admin:
        # FORCE: a worker that a test killed may have left connections behind.
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    """An OpenSSH with SFTP for the whole session."""
    with _running(peer_processes.sshd) as peer:
        yield peer


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server for the whole session; each test makes buckets of its own."""
    with _running(peer_clouds.s3_server) as peer:
        yield peer


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """An Azure Blob Storage for the whole session."""
    with _running(peer_clouds.azurite) as peer:
        yield peer


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GcsServer]:
    """A Google Cloud Storage for the whole session."""
    with _running(peer_clouds.gcs_server) as peer:
        yield peer
