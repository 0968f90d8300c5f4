"""The tools that are measured: each makes a repository, backs up into it and restores from it."""

from __future__ import annotations

import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from bench.vault_figures.children import Measured, run

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.object_stores.local import LocalStore
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.slots import Passphrase

PASSPHRASE = "correct horse battery staple"
_VERSION = re.compile(r"\d+(?:\.\d+)+")


class Contender(Protocol):
    """One tool with one repository. Its state and caches lie beside the repository."""

    name: str

    def make(self) -> None:
        """Make an empty repository, in the place of any earlier one."""
        ...

    def backup(self, source: Path, *, watch_memory: bool = False) -> Measured:
        """Back up a folder."""
        ...

    def restore(self, target: Path, *, watch_memory: bool = False) -> Measured:
        """Restore the newest snapshot into an empty folder."""
        ...

    def size(self) -> int:
        """Return the bytes of the repository."""
        ...


class Dcmvault:
    """This product, as a user starts it."""

    def __init__(self, folder: Path, profile: str, *, redundant: bool = True) -> None:
        self.name = f"dcmvault {profile}" + ("" if redundant else ", no parity")
        self._folder = folder
        self._profile = profile
        self._redundant = redundant
        self._vault = folder / "vault"
        self._environment = {
            "DCMVAULT_HOME": str(folder / "state"),
            "DCMVAULT_PASSPHRASE": PASSPHRASE,
        }
        self._program = Path(sys.executable).with_name("dcmvault")

    def make(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._vault.mkdir(parents=True)
        state = self._folder / "state"
        state.mkdir(0o700)
        (state / "config.toml").write_text(
            f'[destinations.vault]\naddress = "vault:{self._vault}"\nprofile = "{self._profile}"\n'
        )
        clock = SystemClock()
        secret = (Passphrase(PASSPHRASE), "bench")
        init_vault(LocalStore(self._vault, clock), [secret], clock, redundant=self._redundant)

    def backup(self, source: Path, *, watch_memory: bool = False) -> Measured:
        command = (self._program, "backup", source, "--to", "vault", "--json")
        return run(command, self._environment, watch_memory=watch_memory)

    def restore(self, target: Path, *, watch_memory: bool = False) -> Measured:
        command = (self._program, "restore", f"vault:{self._vault}", target, "--json")
        return run(command, self._environment, watch_memory=watch_memory)

    def size(self) -> int:
        return _size(self._vault)

    def ballast(self) -> int:
        """Return the bytes that are kept for a full disk, whatever the vault holds."""
        ballast = self._vault / "ballast"
        return ballast.stat().st_size if ballast.exists() else 0


class Restic:
    """restic, compression auto (its default)."""

    name = "restic"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._repository = folder / "repository"
        self._environment = {
            "RESTIC_PASSWORD": PASSPHRASE,
            "RESTIC_REPOSITORY": str(self._repository),
            "RESTIC_CACHE_DIR": str(folder / "cache"),
        }

    def make(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        run(("restic", "init", "--quiet"), self._environment)

    def backup(self, source: Path, *, watch_memory: bool = False) -> Measured:
        command = ("restic", "backup", "--quiet", source)
        return run(command, self._environment, watch_memory=watch_memory)

    def restore(self, target: Path, *, watch_memory: bool = False) -> Measured:
        command = ("restic", "restore", "latest", "--quiet", "--target", target)
        return run(command, self._environment, watch_memory=watch_memory)

    def size(self) -> int:
        return _size(self._repository)


class Borg:
    """borg, zstd 3 (what its users choose; its default is lz4)."""

    name = "borg"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._repository = folder / "repository"
        self._environment = {
            "BORG_PASSPHRASE": PASSPHRASE,
            "BORG_BASE_DIR": str(folder / "state"),
            "BORG_REPO": str(self._repository),
        }
        self._archives = 0

    def make(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        (self._folder / "state").mkdir(parents=True)
        self._archives = 0
        run(("borg", "init", "--encryption", "repokey-blake2"), self._environment)

    def backup(self, source: Path, *, watch_memory: bool = False) -> Measured:
        self._archives += 1
        command = ("borg", "create", "--compression", "zstd,3", f"::{self._archives}", source)
        return run(command, self._environment, watch_memory=watch_memory)

    def restore(self, target: Path, *, watch_memory: bool = False) -> Measured:
        target.mkdir()
        command = ("borg", "extract", f"::{self._archives}")
        return run(command, self._environment, folder=target, watch_memory=watch_memory)

    def size(self) -> int:
        return _size(self._repository)


def require_peers() -> None:
    """Exit with status 2, and the line that installs them, unless the peers are there."""
    missing = [name for name in ("restic", "borg", "dcmcjpls") if shutil.which(name) is None]
    if missing:
        print(f"Not installed: {', '.join(missing)}. On Debian and Ubuntu:", file=sys.stderr)
        print("    sudo apt-get install -y restic borgbackup dcmtk", file=sys.stderr)
        raise SystemExit(2)


def versions() -> str:
    """Return the versions of everything that is measured."""
    found = [f"dcmvault {version('dcmvault')}"]
    for name, option in (("restic", "version"), ("borg", "--version"), ("dcmcjpls", "--version")):
        text = run((name, option), {}).output
        number = _VERSION.search(text)
        found.append(f"{name} {number[0] if number else '?'}")
    found += [f"{name} {version(name)}" for name in ("imagecodecs", "pyjpegls")]
    return ", ".join(found)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
