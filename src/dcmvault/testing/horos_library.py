"""A faithful OsiriX/Horos library on disk, with the cases that readers get wrong."""

from __future__ import annotations

import hashlib
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dcmvault.model.instance import Claim
from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.testing.horos_schema import create_index, insert_row, pack_uid, timestamp

_FOLDER_SIZE = 10_000
_STUDY_DATE = datetime(2020, 1, 2, 10, 11, 12, tzinfo=UTC)
_ADDED = datetime(2020, 1, 3, 8, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LibraryFile:
    """One file of the library: where it is, what is in it, and what the index says."""

    #: Relative to the data folder, or absolute for a linked file.
    locator: str
    path: Path
    #: In the file; empty when it is not DICOM.
    study_instance_uid: str = ""
    sop_instance_uid: str = ""
    #: In the index: empty for an orphan and for a NULL.
    indexed_study_instance_uid: str = ""
    indexed_sop_instance_uid: str = ""
    claim: Claim = Claim.DICOM


@dataclass(slots=True)
class LibraryFacts:
    """What a reader of the library should find."""

    base: Path
    data: Path
    #: Every file, by locator: indexed ones and orphans.
    files: dict[str, LibraryFile] = field(default_factory=dict)
    #: Locators of rows whose file does not exist.
    missing: list[str] = field(default_factory=list)
    #: Study Instance UIDs of the index, with and without files.
    studies: set[str] = field(default_factory=set)

    @property
    def orphans(self) -> set[str]:
        """Locators of the files without a row."""
        return {x.locator for x in self.files.values() if not x.indexed_study_instance_uid}

    def of_study(self, study_instance_uid: str) -> set[str]:
        """Locators of the files that the index gives to a study."""
        return {
            x.locator
            for x in self.files.values()
            if x.indexed_study_instance_uid == study_instance_uid
        }


def uid_of_length(key: str, length: int) -> str:
    """Make a UID of exactly `length` characters (16 to 64)."""
    digits = str(int.from_bytes(hashlib.sha512(key.encode()).digest(), "big"))
    return ("1.2.826.0.1.1" + digits)[:length]


def build_library(
    base: Path,
    *,
    journal_mode: str = "delete",
    ct_instances: int = 3,
    data: Path | None = None,
) -> LibraryFacts:
    """Build a library in `base`, the same one for the same arguments.

    `journal_mode` is `delete` (Horos) or `wal` (OsiriX). `data` puts the files elsewhere, behind
    DBFOLDER_LOCATION. Linked files lie beside `base`.
    """
    facts = LibraryFacts(base, data or base)
    base.mkdir(parents=True)
    (base / "DB_VERSION").write_text("2.5")
    if data is not None:
        (base / "DBFOLDER_LOCATION").write_text(f"{data}\n")
    for folder in ("DATABASE.noindex/10000", "DATABASE.noindex/20000", "INCOMING.noindex"):
        (facts.data / folder).mkdir(parents=True)
    for folder in ("REPORTS", "ROIs", "TEMP.noindex"):
        (facts.data / folder).mkdir()
    with _index(base) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        create_index(connection, str(uuid.uuid5(uuid.NAMESPACE_OID, "library")).upper())
        connection.execute("BEGIN")
        _add_ct(connection, facts, ct_instances)
        _add_number_crossing(connection, facts)
        _add_multi_frame(connection, facts)
        _add_linked(connection, facts)
        _add_not_dicom(connection, facts)
        _add_split_series(connection, facts)
        _add_merged_series(connection, facts)
        _add_shared_uid(connection, facts)
        _add_placeholder(connection, facts)
        _add_damage(connection, facts)
        connection.execute("COMMIT")
    _add_orphans(facts)
    return facts


def add_study(
    facts: LibraryFacts, key: str, *, instances: int = 2, first_number: int = 500
) -> set[str]:
    """Import one more CT study as the application would; answer the new locators.

    `facts` is brought up to date. Numbers from `first_number` on must be free.
    """
    before = set(facts.files)
    with _index(facts.base) as connection:
        connection.execute("BEGIN")
        add_study_rows(connection, facts, key, instances=instances, first_number=first_number)
        connection.execute("COMMIT")
    return set(facts.files) - before


def add_study_rows(
    connection: sqlite3.Connection,
    facts: LibraryFacts,
    key: str,
    *,
    instances: int = 2,
    first_number: int = 500,
) -> None:
    """Write the files and, in the caller's transaction, the rows of one more CT study."""
    study_uid = make_uid("library", key)
    study = _study_row(connection, facts, study_uid, images=instances)
    series = _series_row(connection, study, study_uid, images=instances)
    for index in range(instances):
        _add_instance(
            connection, facts, series, study_uid, make_uid(study_uid, index), first_number + index
        )


@contextmanager
def _index(base: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(base / "Database.sql", isolation_level=None)) as connection:
        yield connection


def _study_row(
    connection: sqlite3.Connection, facts: LibraryFacts, study_uid: str, **columns: object
) -> int:
    facts.studies.add(study_uid)
    images = columns.pop("images", 0)
    values: dict[str, object] = {
        "hasDICOM": 1,
        "expanded": 0,
        "lockedStudy": 0,
        "stateText": 0,
        "numberOfImages": images,
        "date": timestamp(_STUDY_DATE),
        "dateAdded": timestamp(_ADDED),
        "accessionNumber": "A-1",
        "modality": "CT",
        "name": "Doe Jane",
        "patientID": "TEST-0001",
        "patientUID": "DOE JANE-TEST-0001-19700131",
        "patientSex": "O",
        "studyName": "Synthetic study",
        "id": "1",
        "studyInstanceUID": study_uid,
    }
    return insert_row(connection, "Study", **(values | columns))


def _series_row(
    connection: sqlite3.Connection,
    study: int,
    study_uid: str,
    *,
    number: int = 1,
    images: int = 0,
    modality: str = "CT",
    suffix: str = "",
) -> int:
    series_uid = make_uid(study_uid, "series", number)
    return insert_row(
        connection,
        "Series",
        study=study,
        id=number,
        numberOfImages=images,
        stateText=0,
        modality=modality,
        name=f"{modality} series {number}",
        seriesDICOMUID=series_uid,
        seriesInstanceUID=f"{number:08d} {series_uid}{suffix}",
        date=timestamp(_STUDY_DATE),
        dateAdded=timestamp(_ADDED),
    )


def _place(number: int, name: str = "") -> str:
    folder = (number // _FOLDER_SIZE + 1) * _FOLDER_SIZE
    return f"DATABASE.noindex/{folder}/{name or f'{number}.dcm'}"


def _add_instance(
    connection: sqlite3.Connection,
    facts: LibraryFacts,
    series: int,
    study_uid: str,
    sop_uid: str,
    number: int,
    *,
    series_number: int = 1,
    instance_number: int = 1,
    sop_uid_in_file: str = "",
    indexed: bool = True,
) -> None:
    """Write one file in the library and its row (columns that have a default stay NULL)."""
    locator = _place(number)
    made = make_instance(
        facts.data / locator,
        study_uid,
        make_uid(study_uid, "series", series_number),
        sop_uid_in_file or sop_uid,
        series_number=series_number,
        instance_number=instance_number,
    )
    insert_row(
        connection,
        "Image",
        series=series,
        pathNumber=number,
        instanceNumber=instance_number,
        frameID=0,
        date=timestamp(_STUDY_DATE),
        compressedSopInstanceUID=pack_uid(sop_uid) if indexed else None,
    )
    facts.files[locator] = LibraryFile(
        locator,
        made.path,
        study_uid,
        made.sop_instance_uid,
        study_uid,
        sop_uid if indexed else "",
    )


def _add_ct(connection: sqlite3.Connection, facts: LibraryFacts, instances: int) -> None:
    """Add a plain series with UIDs of odd, even and greatest length."""
    study_uid = make_uid("library", "ct")
    study = _study_row(connection, facts, study_uid, images=instances)
    series = _series_row(connection, study, study_uid, images=instances)
    lengths = (41, 42, 64)
    for index in range(instances):
        sop_uid = uid_of_length(f"ct/{index}", lengths[index % len(lengths)])
        _add_instance(
            connection, facts, series, study_uid, sop_uid, index + 1, instance_number=index + 1
        )


def _add_number_crossing(connection: sqlite3.Connection, facts: LibraryFacts) -> None:
    """Add one series in two sub-folders: 9999.dcm and 10000.dcm."""
    add_study_rows(connection, facts, "crossing", instances=2, first_number=_FOLDER_SIZE - 1)


def _add_multi_frame(connection: sqlite3.Connection, facts: LibraryFacts) -> None:
    """Add one file of five frames: five rows, and a negative number of images."""
    frames = 5
    study_uid = make_uid("library", "us")
    sop_uid = make_uid(study_uid, "cine")
    study = _study_row(connection, facts, study_uid, images=-frames, modality="US")
    series = _series_row(connection, study, study_uid, images=-frames, modality="US")
    locator = _place(100)
    make_instance(
        facts.data / locator,
        study_uid,
        make_uid(study_uid, "series", 1),
        sop_uid,
        modality="US",
        frames=frames,
    )
    for frame in range(frames):
        insert_row(
            connection,
            "Image",
            series=series,
            pathNumber=100,
            frameID=frame,
            instanceNumber=1 + frame,
            storedNumberOfFrames=frames,
            storedHeight=16,
            storedWidth=16,
            storedModality="US",
            compressedSopInstanceUID=pack_uid(sop_uid),
        )
    facts.files[locator] = LibraryFile(
        locator, facts.data / locator, study_uid, sop_uid, study_uid, sop_uid
    )


def _add_linked(connection: sqlite3.Connection, facts: LibraryFacts) -> None:
    """Add a series that was left in place: absolute paths, not in the database folder."""
    study_uid = make_uid("library", "linked")
    study = _study_row(connection, facts, study_uid, images=2, modality="MR")
    series = _series_row(connection, study, study_uid, images=2, modality="MR")
    for index in range(2):
        path = facts.base.parent.resolve() / f"{facts.base.name} linked" / f"IM{index}"
        sop_uid = make_uid(study_uid, index)
        make_instance(path, study_uid, make_uid(study_uid, "series", 1), sop_uid, modality="MR")
        insert_row(
            connection,
            "Image",
            series=series,
            pathString=str(path),
            storedInDatabaseFolder=0,
            storedModality="MR",
            storedFileType="DICOM",
            frameID=0,
            instanceNumber=1 + index,
            compressedSopInstanceUID=pack_uid(sop_uid),
        )
        facts.files[str(path)] = LibraryFile(
            str(path), path, study_uid, sop_uid, study_uid, sop_uid
        )


def _add_not_dicom(connection: sqlite3.Connection, facts: LibraryFacts) -> None:
    """Add an imported photograph: a study whose "UID" is a file name."""
    study = _study_row(connection, facts, "photograph", images=1, hasDICOM=0, modality="OT")
    series = _series_row(connection, study, "photograph", images=1, modality="OT")
    insert_row(
        connection,
        "Image",
        series=series,
        pathString="1234.jpg",
        storedExtension="jpg",
        storedFileType="IMAGE",
        storedModality="OT",
        frameID=0,
    )
    locator = _place(1234, "1234.jpg")
    (facts.data / locator).write_bytes(b"\xff\xd8\xff\xe0 a photograph, more or less")
    facts.files[locator] = LibraryFile(
        locator,
        facts.data / locator,
        indexed_study_instance_uid="photograph",
        claim=Claim.OTHER,
    )


def _add_split_series(connection: sqlite3.Connection, facts: LibraryFacts) -> None:
    """Add one DICOM series that the application shows as two, by echo time."""
    study_uid = make_uid("library", "split")
    study = _study_row(connection, facts, study_uid, images=2, modality="MR")
    for index, suffix in enumerate((" TE-10", " TE-20")):
        series = _series_row(connection, study, study_uid, images=1, modality="MR", suffix=suffix)
        _add_instance(connection, facts, series, study_uid, make_uid(study_uid, index), 200 + index)


def _add_merged_series(connection: sqlite3.Connection, facts: LibraryFacts) -> None:
    """Add two series of radiographs that the application shows as one, named by their study."""
    study_uid = make_uid("library", "merged")
    study = _study_row(connection, facts, study_uid, images=2, modality="DX")
    first = _series_row(connection, study, study_uid, images=2, modality="DX")
    connection.execute(
        "UPDATE ZSERIES SET ZSERIESINSTANCEUID = ? WHERE Z_PK = ?", (f"{1:08d} {study_uid}", first)
    )
    for index in range(2):
        _add_instance(
            connection,
            facts,
            first,
            study_uid,
            make_uid(study_uid, index),
            250 + index,
            series_number=1 + index,
        )


def _add_shared_uid(connection: sqlite3.Connection, facts: LibraryFacts) -> None:
    """Add two study rows with one Study Instance UID and other demographics."""
    study_uid = make_uid("library", "shared")
    for index, patient in enumerate(("DOE JANE-TEST-0001-19700131", "DOE J-TEST-0001-19700131")):
        study = _study_row(connection, facts, study_uid, images=1, patientUID=patient)
        series = _series_row(connection, study, study_uid, number=1 + index, images=1)
        _add_instance(
            connection,
            facts,
            series,
            study_uid,
            make_uid(study_uid, index),
            300 + index,
            series_number=1 + index,
        )


def _add_placeholder(connection: sqlite3.Connection, facts: LibraryFacts) -> None:
    """Add a study without images: an album was imported before its study."""
    study_uid = make_uid("library", "placeholder")
    study = _study_row(connection, facts, study_uid)
    _series_row(connection, study, study_uid, number=5005)


def _add_damage(connection: sqlite3.Connection, facts: LibraryFacts) -> None:
    """Add a row without its file, a number that was used again, and a row without UID."""
    study_uid = make_uid("library", "damage")
    study = _study_row(connection, facts, study_uid, images=3)
    series = _series_row(connection, study, study_uid, images=3)
    insert_row(
        connection,
        "Image",
        series=series,
        pathNumber=400,
        frameID=0,
        compressedSopInstanceUID=pack_uid(make_uid(study_uid, "missing")),
    )
    facts.missing.append(_place(400))
    _add_instance(
        connection,
        facts,
        series,
        study_uid,
        make_uid(study_uid, "deleted"),
        401,
        sop_uid_in_file=make_uid(study_uid, "came later"),
    )
    _add_instance(
        connection, facts, series, study_uid, make_uid(study_uid, "null"), 402, indexed=False
    )


def _add_orphans(facts: LibraryFacts) -> None:
    """Add a file that no row names, in a folder of its own too."""
    study_uid = make_uid("library", "orphan")
    for number in (10_005, 31_000):
        locator = _place(number)
        sop_uid = make_uid(study_uid, number)
        path = facts.data / locator
        make_instance(path, study_uid, make_uid(study_uid, "series", 1), sop_uid)
        facts.files[locator] = LibraryFile(locator, path, study_uid, sop_uid)
