"""DICOMDIR: the directory of a DICOM File-set (PS3.3 Annex F, PS3.10 section 8), record by record.

Memory grows with the number of patients only: a record is written at once, and the offsets that
lead to later ones (all in fields of a fixed size) are filled in when those come.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from pydicom import dcmread
from pydicom.config import IGNORE, settings
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.fileset import DIRECTORY_RECORDERS
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from dcmvault.dicom.association import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dcmvault.model.instance import InstanceIdentity, InstanceKind

#: The name of the directory in its file-set (PS3.10 section 8.6).
DIRECTORY_NAME = "DICOMDIR"
#: Who made it, in its first kibibyte: such a directory is written anew by the next restore.
DIRECTORY_MARK = "DCMVAULT"
_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
#: What pydicom is told of warnings and validation holds for a whole process.
_quiet = threading.Lock()
_STORAGE = "1.2.840.10008.5.1.4.1.1."
#: Types of the records of a series' instances by SOP class, where it is not IMAGE (PS3.3 F.4):
#: the longest beginning counts.
_RECORD_TYPES = {
    "4.2": "SPECTROSCOPY",
    "9.": "WAVEFORM",
    "11.": "PRESENTATION",
    "66": "RAW DATA",
    "66.1": "REGISTRATION",
    "66.2": "FIDUCIAL",
    "66.3": "REGISTRATION",
    "66.4": "IMAGE",
    "66.5": "SURFACE",
    "66.6": "TRACT",
    "67": "VALUE MAP",
    "68.": "SURFACE SCAN",
    "77.1.5.3": "STEREOMETRIC",
    "78.": "MEASUREMENT",
    "88.": "SR DOCUMENT",
    "88.59": "KEY OBJECT DOC",
    "90.": "ASSESSMENT",
    "104.": "ENCAP DOC",
    "481.2": "RT DOSE",
    "481.3": "RT STRUCTURE SET",
    "481.4": "RT TREAT RECORD",
    "481.5": "RT PLAN",
    "481.6": "RT TREAT RECORD",
    "481.7": "RT TREAT RECORD",
    "481.8": "RT PLAN",
    "481.9": "RT TREAT RECORD",
}
_OF_STUDY = ("StudyDate", "StudyTime", "AccessionNumber", "StudyDescription", "StudyID")
#: What the records of patients, studies and series are made of.
_ABOVE = ("PatientName", "PatientID", *_OF_STUDY, "Modality", "SeriesNumber")
#: Where the value of (0004,1400) and of (0004,1420) lies in an item, from the item's tag on: they
#: are the first and the third element.
_NEXT_AT, _LOWER_AT = 16, 38


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """One instance for a directory: its own record, and what those above it need."""

    file_id: tuple[str, ...]
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    about: Dataset
    record: bytes


def directory_entry(
    file_id: tuple[str, ...],
    identity: InstanceIdentity,
    kind: InstanceKind,
    head: bytes,
) -> DirectoryEntry:
    """Make an entry of a file's ID, its UIDs, and its beginning: at best up to the pixel data.

    What the beginning does not say stays empty.
    """
    with _as_it_stands():
        said = _read(head)
        record = _encoded(_of_instance(file_id, identity, kind, said))
        about = _record(said, _ABOVE)
    return DirectoryEntry(
        file_id,
        identity.study_instance_uid,
        identity.series_instance_uid,
        identity.sop_instance_uid,
        about,
        record,
    )


@contextmanager
def _as_it_stands() -> Iterator[None]:
    """Take values as files have them, whatever is wrong with them, without a word of them."""
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = settings.reading_validation_mode, settings.writing_validation_mode
        settings.reading_validation_mode = settings.writing_validation_mode = IGNORE
        try:
            yield
        finally:
            settings.reading_validation_mode, settings.writing_validation_mode = before


class _Open(NamedTuple):
    """A record under which others come: where it is, and the last one below it."""

    at: int
    last: int


class DirectoryWriter:
    """Writes a DICOMDIR into an empty file that can be read, written and sought in."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._patients: dict[str, _Open] = {}
        self._root = _Open(0, 0)
        self._write_head()

    def add_study(self, patient: str, entries: Iterable[DirectoryEntry]) -> None:
        """Add all instances of one study; those of a series follow each other.

        `patient` tells patients apart. An instance that comes again is left out: a file-set has
        one of each (PS3.10 section 8.1).
        """
        study: _Open | None = None
        series: _Open | None = None
        series_uid = None
        seen: set[str] = set()
        for entry in entries:
            if entry.sop_instance_uid in seen:
                continue
            seen.add(entry.sop_instance_uid)
            if study is None:
                study = self._add_study(patient, entry)
            if series is None or entry.series_instance_uid != series_uid:
                series_uid = entry.series_instance_uid
                at = self._append(_above(_of_series, entry), study)
                study, series = _Open(study.at, at), _Open(at, 0)
            series = _Open(series.at, self._append(entry.record, series))

    def close(self) -> None:
        """Write the end; the directory is whole then, and the file still open."""
        self._file.seek(0, io.SEEK_END)
        self._file.write(b"\xfe\xff\xdd\xe0\0\0\0\0")
        if not self._root.last:
            return
        first = min(patient.at for patient in self._patients.values())
        self._patch(self._first_at, first)
        self._patch(self._last_at, self._root.last)

    def _write_head(self) -> None:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UID(_MEDIA_STORAGE_DIRECTORY)
        meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
        meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        head = Dataset()
        head.FileSetID = DIRECTORY_MARK
        head.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
        head.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
        head.FileSetConsistencyFlag = 0
        encoded = _encoded(head)
        about = DicomBytesIO()
        about.is_little_endian, about.is_implicit_VR = True, False
        write_file_meta_info(about, meta)
        self._file.write(b"\0" * 128 + b"DICM" + about.getvalue() + encoded)
        # (0004,1200), (0004,1202) and (0004,1212) are the last, 12, 12 and 10 bytes long.
        end = self._file.tell()
        self._first_at, self._last_at = end - 10 - 12 - 4, end - 10 - 4
        self._file.write(b"\x04\x00\x20\x12SQ\0\0\xff\xff\xff\xff")  # (0004,1220)

    def _add_study(self, patient: str, entry: DirectoryEntry) -> _Open:
        above = self._patients.get(patient)
        if above is None:
            at = self._append(_above(_of_patient, entry), self._root)
            self._root = _Open(0, at)
            above = _Open(at, 0)
        at = self._append(_above(_of_study, entry), above)
        self._patients[patient] = _Open(above.at, at)
        return _Open(at, 0)

    def _append(self, content: bytes, above: _Open) -> int:
        """Write a record and have the one before it, or above it, point there."""
        at = self._file.seek(0, io.SEEK_END)
        length = len(content).to_bytes(4, "little")
        self._file.write(b"\xfe\xff\x00\xe0" + length + content)
        if above.last:
            self._patch(above.last + _NEXT_AT, at)
        elif above.at:
            self._patch(above.at + _LOWER_AT, at)
        return at

    def _patch(self, at: int, value: int) -> None:
        self._file.seek(at)
        self._file.write(value.to_bytes(4, "little"))


def _encoded(record: Dataset) -> bytes:
    into = DicomBytesIO()
    into.is_little_endian, into.is_implicit_VR = True, False
    write_dataset(into, record)
    return into.getvalue()


def _above(make: Callable[[DirectoryEntry], Dataset], entry: DirectoryEntry) -> bytes:
    with _as_it_stands():
        return _encoded(make(entry))


def _read(head: bytes) -> Dataset:
    """Read what a file says, as far as it goes."""
    try:
        return dcmread(io.BytesIO(head), stop_before_pixels=True, force=True)
    except (InvalidDicomError, EOFError, ValueError, OSError, KeyError, NotImplementedError):
        return Dataset()


def _record(said: Dataset, keywords: Iterable[str], kind: str = "") -> Dataset:
    """Make a record of some attributes; those that nobody can read stay empty."""
    record = Dataset()
    if kind:
        record.OffsetOfTheNextDirectoryRecord = 0
        record.RecordInUseFlag = 0xFFFF
        record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
        record.DirectoryRecordType = kind
    for keyword in ("SpecificCharacterSet", *keywords):
        try:
            value = said.get(keyword)
        except (ValueError, TypeError, NotImplementedError):
            value = None
        if value is not None or keyword != "SpecificCharacterSet":
            setattr(record, keyword, "" if value is None else value)
    return record


# Where a file has none of what a record must have, the file ID stands for it: it is nobody's own.


def _of_patient(entry: DirectoryEntry) -> Dataset:
    record = _record(entry.about, ("PatientName", "PatientID"), "PATIENT")
    record.PatientID = record.PatientID or entry.file_id[0]
    return record


def _of_study(entry: DirectoryEntry) -> Dataset:
    record = _record(entry.about, _OF_STUDY, "STUDY")
    record.StudyInstanceUID = entry.study_instance_uid
    record.StudyID = record.StudyID or entry.file_id[1]
    return record


def _of_series(entry: DirectoryEntry) -> Dataset:
    record = _record(entry.about, ("Modality", "SeriesNumber"), "SERIES")
    record.SeriesInstanceUID = entry.series_instance_uid
    record.Modality = record.Modality or "OT"
    return record


def _of_instance(
    file_id: tuple[str, ...], identity: InstanceIdentity, kind: InstanceKind, said: Dataset
) -> Dataset:
    type_ = _record_type(kind.sop_class_uid)
    try:
        own = DIRECTORY_RECORDERS[type_](said)
        _encoded(own)
    except (ValueError, AttributeError, KeyError, TypeError, NotImplementedError):
        # It lacks what its own type of record needs.
        type_, own = "IMAGE", _record(said, ("InstanceNumber",))
    record = _record(said, (), type_)
    record.update(own)
    record.ReferencedFileID = list(file_id)
    record.ReferencedSOPClassUIDInFile = kind.sop_class_uid
    record.ReferencedSOPInstanceUIDInFile = identity.sop_instance_uid
    record.ReferencedTransferSyntaxUIDInFile = kind.transfer_syntax_uid
    return record


def _record_type(sop_class_uid: str) -> str:
    if not sop_class_uid.startswith(_STORAGE):
        return "IMAGE"
    kind = sop_class_uid.removeprefix(_STORAGE)
    found = [one for one in _RECORD_TYPES if kind == one or kind.startswith(f"{one.rstrip('.')}.")]
    return _RECORD_TYPES[max(found, key=len)] if found else "IMAGE"
