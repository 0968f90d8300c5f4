"""Build hook: compiles the gettext catalogues, for wheels and for editable installs alike.

What a vault has in itself for the day without dcmvault is in the repository two symbolic links.
A wheel gets what they lead to without help; for a source distribution this hook copies it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_KIT = "src/dcmvault/vault/kit"


class CompileCatalogues(BuildHookInterface[Any]):
    """Turns every `locale/*/LC_MESSAGES/*.po` into the `.mo` that gettext reads."""

    _copies: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files are collected."""
        for source in Path(self.root, "src/dcmvault/locale").glob("*/LC_MESSAGES/*.po"):
            with source.open("rb") as text:
                catalogue = read_po(text)
            with source.with_suffix(".mo").open("wb") as compiled:
                write_mo(compiled, catalogue)
        if self.target_name == "sdist":
            self._copies = Path(tempfile.mkdtemp())
            for link in Path(self.root, _KIT).iterdir():
                copy = shutil.copy(link, self._copies)
                build_data["force_include"][copy] = f"{_KIT}/{link.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the copies."""
        if self._copies is not None:
            shutil.rmtree(self._copies)
