"""What is worth a word about a library as a whole: rescue, orphans, missing files, imports."""

from __future__ import annotations

import os
from dataclasses import dataclass

from dcmvault.model.remarks import SourceRemarks
from dcmvault.sources.local_files import NOT_ALL_LISTED

#: What the viewer was given and has not imported yet.
INCOMING_FOLDER = "INCOMING.noindex"
#: There from the viewer's start until its database is open; left behind by a crash.
_STARTING_FILE = "Loading"
#: Files that are counted one by one; of more it is enough to know that.
_MANY = 25_000
#: A file whose content a cloud service took away: `st_flags` of macOS (SF_DATALESS).
_DATALESS = 0x4000_0000
#: What stood for such a file before macOS had that flag: `.NAME.icloud`.
_PLACEHOLDER = ".icloud"


def is_in_cloud_only(status: os.stat_result) -> bool:
    """Say whether reading the file would first fetch it from a cloud service (macOS)."""
    return bool(getattr(status, "st_flags", 0) & _DATALESS)


def is_placeholder(name: str) -> bool:
    """Say whether a file stands for another one that is in the cloud only."""
    return name.startswith(".") and name.endswith(_PLACEHOLDER)


@dataclass(slots=True)
class LibraryCounts:
    """What listing a library counted."""

    #: Why the index cannot be used; empty where it can.
    without_index: str = ""
    #: Files that the index does not name.
    orphans: int = 0
    #: Files that the index names, and that are not there.
    missing: int = 0
    #: Files that are in the cloud only.
    in_cloud: int = 0
    #: Folders that could not be listed to their end.
    unlisted: int = 0

    def remarks(self, base: str, data: str) -> SourceRemarks:
        """Say what was counted, and what goes on in the library's folders."""
        found: list[str] = []
        if self.without_index:
            found.append(self.without_index)
            found.append(
                "Every file in DATABASE.noindex was looked at instead; files that the library only"
                " links to were not."
            )
        elif self.orphans:
            found.append(
                f"{self.orphans:,} files lie in the library that its index does not name. They are"
                " backed up, too."
            )
        if self.missing:
            found.append(f"{self.missing:,} files that the library's index names are not there.")
        if self.in_cloud:
            found.append(
                f"{self.in_cloud:,} files of the library are in the cloud only. Have the system"
                " keep the library on this machine."
            )
        waiting = _count_files(os.path.join(data, INCOMING_FOLDER))  # noqa: PTH118
        if waiting > _MANY:
            found.append(
                f"More than {_MANY:,} files wait in INCOMING.noindex. They are backed up when the"
                " viewer has imported them."
            )
        elif waiting:
            found.append(
                f"{waiting:,} files wait in INCOMING.noindex. They are backed up when the viewer"
                " has imported them."
            )
        if os.path.lexists(os.path.join(base, _STARTING_FILE)):  # noqa: PTH118
            found.append("The viewer is starting, or crashed when it did (the file Loading).")
        if self.unlisted:
            found.append(NOT_ALL_LISTED)
        lists_all = not (self.without_index or self.unlisted)
        return SourceRemarks(tuple(found), lists_all=lists_all)


def _count_files(folder: str) -> int:
    """Count files that are not hidden, up to one more than many."""
    count = 0
    waiting = [folder]
    while waiting and count <= _MANY:
        try:
            with os.scandir(waiting.pop()) as listing:
                for entry in listing:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        count += 1
                    if count > _MANY:
                        break
        except OSError:
            continue
    return count
