"""Restored files: what is to be written where, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum

#: A path below the place that is restored into: its parts, all of them safe names.
Parts = tuple[str, ...]


class Restored(Enum):
    """What became of a file."""

    WRITTEN = "written"
    #: The same content was there already, under the same name.
    ALREADY_THERE = "already_there"


class Layout(StrEnum):
    """Which names restored files get."""

    #: Those that they had below their source.
    ORIGINAL = "original"
    #: Numbered file IDs of a DICOM File-set (PS3.10 section 8.2), with a DICOMDIR.
    DICOM = "dicom"
    #: Those of an OsiriX or Horos library, which the folder is again at the end.
    LIBRARY = "library"


@dataclass(frozen=True, slots=True)
class FileToRestore:
    """One file to be restored: where it goes, and what it must be when it is there."""

    parts: Parts
    size: int
    file_sha256: bytes
    mtime_ns: int = 0  #: 0 where the file had no time
    #: Empty for a file that is no instance, as are the other UIDs.
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    sop_instance_uid: str = ""
    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""
    #: The source that it was backed up from, by its address, and its own name there.
    source: str = ""
    locator: str = ""
    #: It belongs to a library as a whole, not to a study; `locator` is its name in the sidecar.
    of_library: bool = False
    #: Another file of this name may be replaced if these bytes stand in its first kibibyte.
    replaces: bytes = b""


@dataclass(frozen=True, slots=True)
class RestoreScope:
    """What a restore is about to bring: known when it was planned."""

    #: Addresses of the sources that the files were backed up from.
    sources: frozenset[str]
    #: Whether nothing was left out by a selection.
    is_whole: bool
    #: When the newest of it was put down in a snapshot; None where nothing was.
    known_at: datetime | None
    #: Attributes of a study, by the names of StudyAttributes.
    about: Callable[[str], Mapping[str, str]]
