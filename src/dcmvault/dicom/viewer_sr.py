"""DICOM SRs in which OsiriX and Horos keep what people said of a study, and their reports.

Basic Text SRs (PS3.3 A.35.1) of two series: 5004, "OsiriX Annotations SR", with a property list,
and 5003, "OsiriX Report SR", with a ZIP of a document. Each is in the Encapsulated Document
(0042,0011), an element that this IOD does not have. When the viewer imports the file it applies
the one to the study, and puts the other among its reports.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian

from dcmvault.dicom.property_list import property_list
from dcmvault.errors import MalformedDicomError

#: What an instance says of its patient and its study; an SR that says the same belongs to them.
_OF_THE_STUDY = (
    "SpecificCharacterSet",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
)


def make_annotations_sr(
    instance: bytes | Path, annotations: Mapping[str, Any], made_at: datetime
) -> tuple[str, bytes]:
    """Make the annotations SR of the study of `instance`, a Part 10 file; again the same one.

    Answers its SOP Instance UID and its bytes. Of several the viewer believes the newest:
    `made_at` is when the annotations were known. Raises MalformedDicomError when the instance
    does not say to which study it belongs.
    """
    content = property_list(dict(annotations))
    return _make(instance, _Kind("OsiriX Annotations SR", 5004, "Annotations"), content, made_at)


def make_report_sr(
    instance: bytes | Path, suffix: str, archive: bytes, made_at: datetime
) -> tuple[str, bytes]:
    """Make the report SR of a study; `archive` is a ZIP of one document (a bundle is a folder).

    Otherwise as `make_annotations_sr`.
    """
    kind = _Kind("OsiriX Report SR", 5003, f"Study Report - {suffix} File Format")
    return _make(instance, kind, archive, made_at)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A series of the viewer's own, and what stands at the root of its SRs."""

    description: str
    number: int
    meaning: str


def _make(
    instance: bytes | Path, kind: _Kind, content: bytes, made_at: datetime
) -> tuple[str, bytes]:
    study = _attributes_of_study(instance)
    moment = made_at.strftime("%Y%m%d%H%M%S")
    of = str(study.StudyInstanceUID)
    uid = _uid(of, kind.description, moment, hashlib.sha256(content).hexdigest())
    dataset = Dataset()
    dataset.update(study)
    dataset.SOPClassUID = BasicTextSRStorage
    dataset.SOPInstanceUID = uid
    dataset.Modality = "SR"
    dataset.Manufacturer = "dcmvault"
    dataset.SeriesInstanceUID = _uid(of, kind.description)
    dataset.SeriesDescription = kind.description
    dataset.SeriesNumber = kind.number
    dataset.InstanceNumber = 1
    dataset.SeriesDate = dataset.ContentDate = moment[:8]
    dataset.SeriesTime = dataset.ContentTime = moment[8:]
    dataset.ReferencedPerformedProcedureStepSequence = Sequence()
    dataset.PerformedProcedureCodeSequence = Sequence()
    dataset.CompletionFlag = "PARTIAL"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.ValueType = "CONTAINER"
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ConceptNameCodeSequence = _code("1", kind.meaning)
    dataset.ContentSequence = Sequence([_text("Brought back from a backup")])
    # A property list may end with a line feed; at the end of a ZIP nothing is minded.
    dataset.add_new(0x00420011, "OB", content + b"\n" * (len(content) % 2))
    return uid, _written(dataset)


def _attributes_of_study(instance: bytes | Path) -> Dataset:
    source = instance if isinstance(instance, Path) else io.BytesIO(instance)
    try:
        read = dcmread(source, stop_before_pixels=True, specific_tags=list(_OF_THE_STUDY))
    except (InvalidDicomError, EOFError, OSError, ValueError) as error:
        message = "the instance cannot be read, so that no SR for its study can be made"
        raise MalformedDicomError(message) from error
    study = Dataset()
    for keyword in _OF_THE_STUDY:
        if keyword in read:
            study.add(read[keyword])
    if not study.get("StudyInstanceUID"):
        raise MalformedDicomError("the instance does not say to which study it belongs")
    return study


def _code(value: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = "99HUG"
    item.CodeMeaning = meaning
    return Sequence([item])


def _text(value: str) -> Dataset:
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = "TEXT"
    item.ConceptNameCodeSequence = _code("1", "Description")
    item.TextValue = value
    return item


def _written(dataset: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    dataset.preamble = bytes(128)
    out = io.BytesIO()
    dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def _uid(*parts: str) -> str:
    """Derive a UID (PS3.5 B.2): the same parts, the same UID."""
    digest = hashlib.sha256("\x1f".join(("dcmvault", *parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
