"""What is asked of a restore, how far it is, and what it did."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dcmvault.model.restored import FileToRestore, Layout
from dcmvault.model.selection import EVERYTHING, Selection
from dcmvault.vault.snapshot import Link


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """What is asked for: of the present, or of a vault's snapshot or an (aware) time."""

    #: A configured name or an address: of a vault, or of whatever else can be read.
    source: str
    #: A folder, a ZIP file, or a PACS or DICOMweb service by name or address.
    target: str
    selection: Selection = EVERYTHING
    snapshot: str = ""
    as_of: datetime | None = None
    #: None: original names, but for a ZIP file.
    layout: Layout | None = None
    #: Only what came from this source of a vault, by its address.
    only_source: str = ""


@dataclass(frozen=True, slots=True)
class RestoreFailure:
    """One file that was not restored, or a part of the source that names some, and why."""

    code: str
    message: str
    hint: str = ""
    study_instance_uid: str = ""
    sop_instance_uid: str = ""
    locator: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it is one file; else it is unknown which files are missing."""
        return bool(self.locator)


@dataclass(frozen=True, slots=True)
class RestoreProgress:
    """Where a restore stands: it plans, writes, and reads back what was written."""

    planned: bool = False
    reading_back: bool = False
    files: int = 0
    bytes: int = 0
    #: Files that reached an end, and bytes that were written (or read back), or found there.
    done: int = 0
    done_bytes: int = 0
    failed: int = 0


#: Takes where a restore stands, about five times a second.
WatchRestore = Callable[[RestoreProgress], None]


@dataclass(slots=True)
class Counted:
    """Files and their bytes."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one file."""
        self.files += 1
        self.bytes += size


@dataclass(frozen=True, slots=True)
class RestoredStudy:
    """One study of which every file that is counted was read back and had its SHA-256."""

    study_instance_uid: str  #: empty for files that are no instances
    files: int
    bytes: int
    digest: str  #: as `study_digest` makes it
    #: Seconds from its first file to its last, where studies were restored one by one.
    seconds: float = 0.0


@dataclass(slots=True)
class RestoreReport:
    """What a restore did."""

    source: str
    target: str
    layout: Layout
    selection: Selection
    #: The snapshots whose union was restored; of the present also what came after them.
    snapshots: tuple[Link, ...]
    as_of: datetime | None
    began_at: datetime
    snapshot_asked: bool = False
    studies: int = 0
    selected: Counted = field(default_factory=Counted)
    written: Counted = field(default_factory=Counted)
    already_there: Counted = field(default_factory=Counted)
    #: Files that were read back from the target at the end, and are what they should be.
    read_back: Counted = field(default_factory=Counted)
    restored: list[RestoredStudy] = field(default_factory=list)
    #: How many of them belong to a library as a whole.
    library_files: int = 0
    duration_s: float = 0.0
    failures: list[RestoreFailure] = field(default_factory=list)
    #: Sentences that the target says of itself as a whole.
    remarks: list[str] = field(default_factory=list)

    @property
    def is_present(self) -> bool:
        """Whether what came after the snapshots was restored, too."""
        return not (self.snapshot_asked or self.as_of is not None)

    @property
    def exit_status(self) -> int:
        """0 if everything selected is at the target and was read back from there, else 3."""
        return 3 if self.failures else 0


def study_digest(files: Sequence[FileToRestore]) -> str:
    """Return the digest of a study's files: the SHA-256 of a sorted list of theirs.

    A line for each file: its SHA-256 in hexadecimal, two spaces, its SOP Instance UID, a line feed.
    """
    lines = sorted(f"{file.file_sha256.hex()}  {file.sop_instance_uid}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
