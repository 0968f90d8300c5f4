"""Restore certificates: what was asked, what came back, and by what that was proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dcmvault.model.evidence import Level
from dcmvault.model.report import Failure
from dcmvault.model.selection import Selection


@dataclass(frozen=True, slots=True)
class CertifiedStudy:
    """One study at the target: what is counted was proven there at the certificate's level."""

    study_instance_uid: str  #: empty for files that are no instances
    files: int
    bytes: int
    #: SHA-256 of a sorted list with a line for each file: its SHA-256 in hexadecimal, two spaces,
    #: its SOP Instance UID, a line feed. Empty where a file's SHA-256 is not known.
    digest: str


@dataclass(frozen=True, slots=True)
class RestoreCertificate:
    """Everything that a restore certificate says."""

    source: str
    target: str
    #: Snapshots (name, time taken) whose union was restored; none of what has no snapshots.
    snapshots: tuple[tuple[str, str], ...]
    #: Whether what came after these snapshots was restored, too: the present.
    is_present: bool
    selection: Selection
    layout: str  #: original, dicom, or empty for a PACS
    #: The durable run that did it; empty where there was none.
    run: str
    level: Level
    began_at: datetime
    ended_at: datetime
    #: Files selected, written or sent, there already, proven at the target, and failed.
    selected: int
    delivered: int
    already_there: int
    proven: int
    failed: int
    #: Bytes of what was proven.
    bytes: int
    studies: tuple[CertifiedStudy, ...]
    failures: tuple[Failure, ...]
    #: Sentences that the target said of itself as a whole.
    remarks: tuple[str, ...]
    #: Versions of what did the work, by name.
    versions: Mapping[str, str]
    exit_status: int

    @property
    def is_complete(self) -> bool:
        """Whether everything selected is at the target, proven at the level."""
        return self.exit_status == 0 and not self.failed and self.level > Level.SENT

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended_at - self.began_at).total_seconds()
