"""Instances on their way: what planning knows before reading, and what reading finds.

What listing and scanning make of every file are named tuples: frozen dataclasses take four times
as long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class Fingerprint(NamedTuple):
    """What tells whether a file is the same without reading it.

    A source that has no files makes up `mtime_ns` and `inode` of what it does know (a digest, a
    revision): they need only differ when the content does.
    """

    size: int  #: bytes; 0 where the source learns it only when it fetches the file
    mtime_ns: int
    inode: int  #: 0 where the source has none; below 2**63


class Claim(StrEnum):
    """What an entry says it is, before anybody parsed it."""

    #: Is or claims to be DICOM (by the `DICM` prefix, name or index): it must be backed up.
    DICOM = "dicom"
    #: Anything else: counted, and left unless asked for.
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class StudyRef:
    """A study (or, where a source has no index, one place that may hold any) to list entries of.

    `locator` is the source's own name of it. `study_instance_uid` is empty when not known yet.
    """

    locator: str
    study_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class InstanceEntry:
    """One file of a source, known without reading it: (locator, fingerprint).

    `locator` is unique and stable within the source, valid Unicode, and opaque to everybody else.
    `expected_sop_instance_uid` is what an index says; the file has the last word.
    `indexed` is set by a source whose index (a library's database, a PACS's answers) names the
    three UIDs: what it says is enough to plan by, so that nothing is read or fetched before it is
    delivered. Fields that the index does not know are empty. `file_sha256` is set only by a source
    that made sure of it (a vault's records). Two entries with the same fingerprint are equal
    whatever their index says.
    """

    locator: str
    fingerprint: Fingerprint
    claim: Claim = Claim.DICOM
    expected_sop_instance_uid: str = ""
    indexed: InstanceHeader | None = field(default=None, compare=False)
    file_sha256: bytes = field(default=b"", compare=False, repr=False)


class StudyAttributes(NamedTuple):
    """Study-level attributes as text, decoded by the Specific Character Set, padding stripped.

    Patient data: goes into the catalogue, never into logs or metrics.
    """

    patient_name: str = ""
    patient_id: str = ""
    patient_birth_date: str = ""  #: DA as it stands, e.g. 19700131
    patient_sex: str = ""
    study_date: str = ""  #: DA
    study_time: str = ""  #: TM
    study_description: str = ""
    accession_number: str = ""
    institution_name: str = ""


class SeriesAttributes(NamedTuple):
    """Series-level attributes as text."""

    modality: str = ""
    series_number: str = ""
    series_description: str = ""
    body_part_examined: str = ""


class InstanceHeader(NamedTuple):
    """What the Part 10 scanner found: identity, attributes, and where things lie in the file.

    Offsets are bytes from the start of the file. A deflated data set has no offsets inside it.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    study: StudyAttributes
    series: SeriesAttributes
    instance_number: str
    #: Both are 0 in a header that an index told: only who scanned a file knows where things lie.
    data_set_start: int
    data_set_end: int
    #: Where the value of (7FE0,0010), (7FE0,0008) or (7FE0,0009) lies; -1 when there is none.
    pixel_data_start: int = -1
    pixel_data_end: int = -1
    has_preamble: bool = True
    has_file_meta: bool = True
    #: Sentences about what is wrong though it parses (truncated pixel data, odd lengths, UIDs
    #: that differ between file meta and data set ...). Empty for a sound file.
    flaws: tuple[str, ...] = ()
    #: Who sent it (0002,0016), and the machine that made it (0008,1010).
    source_ae_title: str = ""
    station_name: str = ""

    @property
    def was_scanned(self) -> bool:
        """Whether this was read from the file, and not told by an index."""
        return self.data_set_end > 0

    @property
    def identity(self) -> InstanceIdentity:
        """The three UIDs that name this instance."""
        return InstanceIdentity(
            self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid
        )

    @property
    def kind(self) -> InstanceKind:
        """What an association must have negotiated to carry it."""
        return InstanceKind(self.sop_class_uid, self.transfer_syntax_uid)


@dataclass(frozen=True, slots=True, order=True)
class InstanceIdentity:
    """Study, Series and SOP Instance UID; all empty for an opaque file."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True, order=True)
class InstanceKind:
    """(SOP Class UID, Transfer Syntax UID): what one presentation context is proposed for."""

    sop_class_uid: str
    transfer_syntax_uid: str

    @property
    def is_known(self) -> bool:
        """Whether both are known; an index may name neither, and an opaque file has none."""
        return bool(self.sop_class_uid and self.transfer_syntax_uid)


@dataclass(frozen=True, slots=True)
class InstanceFile:
    """An entry that can be read now: `path` holds exactly the source's bytes while it is in hand.

    `header` is None until scanned, and stays None for an opaque file. `fetched` is set by a source
    that fetches files: what the file at `path` shows, which the entry could not tell.
    """

    entry: InstanceEntry
    path: Path
    header: InstanceHeader | None = None
    fetched: Fingerprint | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        """What the file at `path` shows for as long as it is in hand."""
        return self.fetched or self.entry.fingerprint


@dataclass(frozen=True, slots=True)
class UnreadableEntry:
    """An entry that could not be read: `code` as in the error tree, `message` for people."""

    entry: InstanceEntry
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ScannedEntry:
    """What the scan learned about one new or changed entry.

    Exactly one holds: `header` (an instance), `opaque_reason` (claims to be DICOM, does not
    parse), `unreadable` (could not be read), or none of them with claim OTHER (not DICOM).
    `header` may be what an index told (`InstanceHeader.was_scanned`), until the file is read.
    `file_sha256` is set only when another instance of the same identity had to be compared.
    """

    entry: InstanceEntry
    header: InstanceHeader | None = None
    opaque_reason: str = ""
    unreadable: UnreadableEntry | None = None
    file_sha256: bytes = field(default=b"", repr=False)
