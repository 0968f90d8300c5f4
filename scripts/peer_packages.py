"""Real peers for the tests: which programs they are, whether they are here, how to get them.

Standard library only: it runs before the virtual environment exists.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Daemons live where an ordinary user's PATH does not look.
_DAEMON_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin")
#: Debian asks this program before it starts or restarts a service (invoke-rc.d(8)).
_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = "#!/bin/sh\n# Written by dcmvault's scripts/peers; safe to remove.\nexit 101\n"


class PeerMissingError(Exception):
    """A peer is not installed; the message says the one line that installs it."""


@dataclass(frozen=True)
class PeerPackage:
    """A Debian package, and how to see that what we need of it is there."""

    package: str
    find: Callable[[], Path | None]


def find_program(name: str) -> Path | None:
    """Find a program on PATH or among the daemons."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_DAEMON_FOLDERS])
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def find_postgresql_folder() -> Path | None:
    """Find the folder of initdb and postgres: Debian's newest first, then whatever PATH offers."""
    candidates = [
        folder
        for folder in Path("/usr/lib/postgresql").glob("*/bin")
        if (folder / "initdb").exists() and (folder / "postgres").exists()
    ]
    if candidates:
        return max(candidates, key=lambda folder: int(folder.parent.name))
    initdb = find_program("initdb")
    return initdb.resolve().parent if initdb else None


def find_orthanc_plugin(name: str) -> Path | None:
    """Find an Orthanc plug-in such as `OrthancDicomWeb`."""
    for folder in ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/lib/orthanc"):
        for library in sorted(Path(folder).glob(f"lib{name}.*")):
            return library
    return None


def _program(name: str) -> Callable[[], Path | None]:
    return lambda: find_program(name)


PACKAGES = (
    PeerPackage("orthanc", _program("Orthanc")),
    PeerPackage("orthanc-dicomweb", lambda: find_orthanc_plugin("OrthancDicomWeb")),
    PeerPackage("dcmtk", _program("storescp")),
    PeerPackage("postgresql", find_postgresql_folder),
    PeerPackage("openssh-server", _program("sshd")),
    PeerPackage("strace", _program("strace")),
)


def missing_packages() -> list[str]:
    """List the packages whose programs are not here."""
    return [peer.package for peer in PACKAGES if peer.find() is None]


def install_line(packages: list[str]) -> str:
    """Return the one line that a person types to install these packages."""
    return f"sudo apt-get update && sudo apt-get install -y {' '.join(packages)}"


def require(found: Path | None, package: str) -> Path:
    """Return what was found, or raise PeerMissingError with the line to install the package."""
    if found is None:
        raise PeerMissingError(f"{package} is not installed. Install it: {install_line([package])}")
    return found


def install(packages: list[str]) -> None:
    """Install packages with apt as root, so that none of their services starts.

    Raises PeerMissingError where that cannot be done from here, and CalledProcessError when
    apt fails.
    """
    apt = find_program("apt-get")
    if apt is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise PeerMissingError(
            f"missing: {', '.join(packages)}. Install once: {install_line(packages)}"
        )
    with _services_kept_down():
        if not _all_have_candidates(packages):
            _apt(apt, "update")
        try:
            _apt(apt, "install", "-y", "--no-install-recommends", *packages)
        except subprocess.CalledProcessError:
            # Package lists that are out of date name files that the mirror no longer has.
            _apt(apt, "update")
            _apt(apt, "install", "-y", "--no-install-recommends", *packages)


def _apt(apt: Path, *arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(
        [str(apt), "-q", *arguments], check=True, stdin=subprocess.DEVNULL, env=environment
    )


def _all_have_candidates(packages: list[str]) -> bool:
    answer = subprocess.run(
        ["apt-cache", "policy", *packages],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout
    candidates = [line for line in answer.splitlines() if line.strip().startswith("Candidate:")]
    return len(candidates) == len(packages) and not any("(none)" in line for line in candidates)


@contextmanager
def _services_kept_down() -> Iterator[None]:
    """Tell Debian's packages not to start services; a policy that exists already is respected."""
    if _POLICY.exists() or _POLICY.is_symlink():
        print(f"{_POLICY} exists and stays in force", file=sys.stderr)
        yield
        return
    try:
        _POLICY.write_text(_POLICY_TEXT, encoding="ascii")
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
