"""A restored library, read back as a library: whether all is there that its index knew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcmvault.app.library_places import REPORT_FOLDER, is_left_behind
from dcmvault.model.sidecar import SidecarFile, UnreadableSidecar

_DESCRIPTION = "library.json"
_INDEX = "index/Database.sql"
_LINKED = "linked-reports/"
#: Parts of a description that are compared, each a list of rows or a value.
_MEMBERS = ("library_uuid", "albums", "studies", "series", "instances", "values_left_out")


@dataclass(frozen=True, slots=True)
class LibraryCheck:
    """What was found when the restored library was read.

    `differences` are names in the sidecar, or members of `library.json`; none says that albums,
    comments, states, reports and the rest are what they were, value by value.
    """

    files: int = 0
    #: Rows of the index that lead to files where they are now; all else in it is as it was.
    repointed: int = 0
    #: Whether the vault had an index to restore.
    has_index: bool = True
    differences: tuple[str, ...] = ()
    #: Files that the index names and that are not there: the vault had none of them.
    missing: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether the library has all that the index knew."""
        return self.has_index and not self.differences


def new_report_path(report: object) -> str | None:
    """Return a report's path in the restored library; None where it need not change."""
    if not isinstance(report, dict):
        return None
    location, name = report.get("location"), report.get("name")
    if not isinstance(location, str) or not isinstance(name, str) or not location.startswith("/"):
        return None
    return f"{REPORT_FOLDER}/{name.partition('/')[2]}"


def compare_sidecars(
    stored: Mapping[str, bytes],
    found: Iterable[SidecarFile | UnreadableSidecar],
    description: Path,
    repointed: int,
) -> LibraryCheck:
    """Compare the sidecar that the vault has (SHA-256 by name) with that of the restored library.

    `description` is the `library.json` from the vault.
    """
    expected = {
        name.replace(_LINKED, "reports/", 1) if name.startswith(_LINKED) else name: sha256
        for name, sha256 in stored.items()
        if not is_left_behind(name)
    }
    differences, files = set[str](), 0
    for file in found:
        files += 1
        if isinstance(file, UnreadableSidecar):
            differences.add(file.name)
            continue
        sha256 = expected.pop(file.name, None)
        with file.path.open("rb") as opened:
            is_same = hashlib.file_digest(opened, "sha256").digest() == sha256
        if is_same or (file.name == _INDEX and sha256 is not None and repointed):
            continue
        if file.name == _DESCRIPTION and sha256 is not None:
            differences |= _differing(description, file.path)
        else:
            differences.add(file.name)
    return LibraryCheck(
        files, repointed, _INDEX in stored, tuple(sorted(differences | expected.keys()))
    )


def _differing(stored: Path, found: Path) -> set[str]:
    """Name the members of two descriptions that differ, but for where reports are now."""
    try:
        old, new = (json.loads(path.read_bytes()) for path in (stored, found))
        for study in old["studies"]:
            if (path := new_report_path(study.get("report"))) is not None:
                study["report"] = {
                    "kind": "library",
                    "location": path,
                    "name": f"reports/{path.partition('/')[2]}",
                }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {_DESCRIPTION}
    return {f"{_DESCRIPTION}: {name}" for name in _MEMBERS if _of(old, name) != _of(new, name)}


def _of(document: Any, name: str) -> object:
    return document.get(name) if isinstance(document, dict) else None
