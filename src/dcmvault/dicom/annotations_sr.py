"""The DICOM SR in which OsiriX and Horos keep what people said of a study.

A Basic Text SR (PS3.3 A.35.1) of the series 5004, "OsiriX Annotations SR"; the viewer reads the
property list in its Encapsulated Document (0042,0011), an element that this IOD does not have,
and applies it to the study when it imports the file.
"""

from __future__ import annotations

import hashlib
import io
import plistlib
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian

from dcmvault.errors import MalformedDicomError

_DESCRIPTION = "OsiriX Annotations SR"
_SERIES_NUMBER = 5004
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
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


def property_list(value: Mapping[str, Any] | list[Any]) -> bytes:
    """Write a property list as the viewer does, in XML; it has no control characters but blanks."""
    return plistlib.dumps(_writable(value), fmt=plistlib.FMT_XML)


def make_annotations_sr(
    instance: bytes | Path, annotations: Mapping[str, Any], made_at: datetime
) -> tuple[str, bytes]:
    """Make the annotations SR of the study of `instance`, a Part 10 file; again the same one.

    Answers its SOP Instance UID and its bytes. Of several the viewer believes the newest:
    `made_at` is when the annotations were known. Raises MalformedDicomError when the instance
    does not say to which study it belongs.
    """
    study = _attributes_of_study(instance)
    document = property_list(dict(annotations))
    moment = made_at.strftime("%Y%m%d%H%M%S")
    uid = _uid(str(study.StudyInstanceUID), moment, hashlib.sha256(document).hexdigest())
    dataset = Dataset()
    dataset.update(study)
    dataset.SOPClassUID = BasicTextSRStorage
    dataset.SOPInstanceUID = uid
    dataset.Modality = "SR"
    dataset.Manufacturer = "dcmvault"
    dataset.SeriesInstanceUID = _uid(str(study.StudyInstanceUID), _DESCRIPTION)
    dataset.SeriesDescription = _DESCRIPTION
    dataset.SeriesNumber = _SERIES_NUMBER
    dataset.InstanceNumber = 1
    dataset.SeriesDate = dataset.ContentDate = moment[:8]
    dataset.SeriesTime = dataset.ContentTime = moment[8:]
    dataset.ReferencedPerformedProcedureStepSequence = Sequence()
    dataset.PerformedProcedureCodeSequence = Sequence()
    dataset.CompletionFlag = "PARTIAL"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.ValueType = "CONTAINER"
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ConceptNameCodeSequence = _code("1", "Annotations")
    dataset.ContentSequence = Sequence([_text("Annotations brought back from a backup")])
    dataset.add_new(0x00420011, "OB", document + b"\n" * (len(document) % 2))
    return uid, _written(dataset)


def _writable(value: Any) -> Any:
    """Replace what XML cannot hold by spaces."""
    if isinstance(value, str):
        return _CONTROLS.sub(" ", value)
    if isinstance(value, Mapping):
        return {str(_writable(key)): _writable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(one) for one in value]
    return value


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
    digest = hashlib.sha256("\x1f".join(("dcmvault annotations", *parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
