"""A daemon over an archive, and what asking it takes, seen from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

_CONFIGURATION = """\
database = "{database}"
[sources.library]
address = "{folder}/library"
[sources.modality]
address = "{folder}/modality"
[destinations.first]
address = "{folder}/first"
[destinations.second]
address = "{folder}/second"
[destinations.third]
address = "{folder}/third"
[plans.nightly]
sources = ["library", "modality"]
destinations = ["first", "second", "third"]
[schedules.nightly]
plan = "nightly"
cron = "0 2 1 1 *"
"""
SOURCES, DESTINATIONS = ("library", "modality"), ("first", "second", "third")


@dataclass(frozen=True, slots=True)
class Answered:
    """What one request took, until its last byte had come, and how large the answer was."""

    ms: float
    size: int
    body: bytes


class Daemon:
    """A daemon that answers."""

    def __init__(self, address: str, token: str) -> None:
        self._place = urlsplit(address)
        self._headers = {"Authorization": f"Bearer {token}", "Accept-Language": "en"}
        self._connection = HTTPConnection(str(self._place.hostname), self._place.port, timeout=300)

    def get(self, path: str) -> Answered:
        """Ask for a path; AssertionError where the answer is another than 200."""
        # One that was kept too long may be closed already.
        self._connection.close()
        self._connection.connect()
        began = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        spent = (time.perf_counter() - began) * 1000
        assert answer.status == 200, f"{path}: {answer.status}"
        return Answered(spent, len(body), body)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def make_home(folder: Path, database: str) -> Path:
    """Write a configuration with two sources and three folders as destinations.

    The address of a database has a password in it: that lies in a file beside.
    """
    home = folder / "home"
    home.mkdir()
    if database:
        secret = home / "database"
        secret.touch(0o600)
        secret.write_text(database, encoding="ascii")
        database = f"file:{secret}"
    for name in (*SOURCES, *DESTINATIONS):
        (folder / name).mkdir()
    text = _CONFIGURATION.format(folder=folder, database=database)
    (home / "config.toml").write_text(text, encoding="utf-8")
    (home / "config.toml").chmod(0o600)
    return home


def environment(home: Path) -> dict[str, str]:
    """Return the environment of commands on a state folder."""
    return {**os.environ, "DCMVAULT_HOME": str(home), "DCMVAULT_LANG": "en", "NO_COLOR": "1"}


@contextmanager
def serving(home: Path) -> Iterator[Daemon]:
    """Run a daemon."""
    with subprocess.Popen(
        [sys.executable, "-m", "dcmvault", "serve", "--web-port", "0", "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(home),
    ) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            daemon = Daemon(str(told["address"]), str(told["token"]))
            try:
                yield daemon
            finally:
                daemon.close()
        finally:
            process.terminate()
            process.wait(60)
