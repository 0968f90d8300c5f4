"""Build hook: compiles the gettext catalogues, for wheels and for editable installs alike.

What is built for others carries what the dashboard needs in a browser; without it nothing is
built. What a vault has in itself for the day without dcmvault is in the repository two symbolic
links. A wheel gets what they lead to without help; for a source distribution this hook copies it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_KIT = "src/dcmvault/vault/kit"
_ASSETS = "src/dcmvault/web/assets"
_MANUAL = "man"
#: How hatchling calls the kind of wheel that leads to a working copy.
_EDITABLE = "editable"


class CompileCatalogues(BuildHookInterface[Any]):
    """Turns every `locale/*/LC_MESSAGES/*.po` into the `.mo` that gettext reads."""

    _copies: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files are collected."""
        if version != _EDITABLE:
            self._require_assets()
            self._add_manual(build_data)
        for source in Path(self.root, "src/dcmvault/locale").glob("*/LC_MESSAGES/*.po"):
            with source.open("rb") as text:
                catalogue = read_po(text)
            # Whole at once: somebody may be reading it.
            compiled = source.with_suffix(f".{os.getpid()}")
            with compiled.open("wb") as binary:
                write_mo(binary, catalogue)
            compiled.replace(source.with_suffix(".mo"))
        if self.target_name == "sdist":
            self._copies = Path(tempfile.mkdtemp())
            for link in Path(self.root, _KIT).iterdir():
                copy = shutil.copy(link, self._copies)
                build_data["force_include"][copy] = f"{_KIT}/{link.name}"

    def _require_assets(self) -> None:
        """Stop a build that would ship a dashboard without its scripts."""
        folder = Path(self.root, _ASSETS)
        table = tomllib.loads(folder.joinpath("vendor.toml").read_text(encoding="utf-8"))
        lacking = [
            Path(name).name
            for package in table["package"]
            if not package.get("dev")
            for name, digest in package["files"].items()
            if not _is_there(folder / "vendor" / _shipped_name(package["name"], name), digest)
        ]
        if lacking:
            raise SystemExit(
                "The dashboard's files from npm are missing or not what vendor.toml says: "
                f"{', '.join(lacking)}. Run `make assets` first; `make package` does both."
            )

    def _add_manual(self, build_data: dict[str, Any]) -> None:
        """Have the wheel install the manual pages where man(1) looks."""
        folder = Path(self.root, _MANUAL)
        pages = sorted(folder.rglob("*.1"))
        if not pages:
            raise SystemExit("The manual pages are missing. Run `make man`; `make package` does.")
        for page in pages if self.target_name == "wheel" else ():
            name = page.relative_to(folder).as_posix()
            build_data["shared_data"][str(page)] = f"share/man/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the copies."""
        if self._copies is not None:
            shutil.rmtree(self._copies)


def _shipped_name(package: str, path: str) -> str:
    """Name a file as scripts/assets does."""
    name = Path(path).name
    return f"{package}.LICENSE" if name == "LICENSE" else name


def _is_there(path: Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest
