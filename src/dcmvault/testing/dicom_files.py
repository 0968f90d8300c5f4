"""Small valid DICOM files, made from nothing: the same arguments make the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
)

_SINGLE_FRAME: Mapping[str, UID] = {
    "CR": ComputedRadiographyImageStorage,
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "OT": SecondaryCaptureImageStorage,
    "SR": BasicTextSRStorage,
    "US": UltrasoundImageStorage,
    "XA": XRayAngiographicImageStorage,
}
_MULTI_FRAME: Mapping[str, UID] = {
    "US": UltrasoundMultiFrameImageStorage,
    "XA": XRayAngiographicImageStorage,
}
_SYNTAXES = frozenset(
    {
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    }
)


#: Attributes (by keyword) that no test asks to be different.
_THE_SAME_IN_ALL = {
    "StudyTime": "101112",
    "AccessionNumber": "A-1",
    "ReferringPhysicianName": "",
    "PatientBirthDate": "19700131",
    "PatientSex": "O",
    "StudyID": "1",
}


@dataclass(frozen=True, slots=True)
class MadeInstance:
    """One generated file and the UIDs inside it."""

    path: Path
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


def make_uid(*parts: object) -> str:
    """Derive a UID from `parts`: equal parts, equal UID (PS3.5 B.2, root 2.25)."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def make_instance(
    path: Path,
    study_uid: str,
    series_uid: str,
    sop_uid: str,
    *,
    modality: str = "CT",
    rows: int = 16,
    columns: int = 16,
    frames: int = 1,
    transfer_syntax: str = ExplicitVRLittleEndian,
    sop_class_uid: str = "",
    patient_name: str = "Doe^Jane",
    patient_id: str = "TEST-0001",
    study_date: str = "20200102",
    study_description: str = "Synthetic study",
    series_number: int = 1,
    instance_number: int = 1,
    elements: Mapping[str, object] | None = None,
) -> MadeInstance:
    """Write one Part 10 file with 16-bit monochrome pixels (an SR has none) to `path`.

    Parent folders are made. `transfer_syntax` is one of the native syntaxes, deflated, or RLE
    Lossless. Pixels depend on `sop_uid`, so other instances have other pixels. `elements`
    (keyword to value) are set last, and so replace anything.
    """
    if transfer_syntax not in _SYNTAXES:
        message = f"cannot write transfer syntax {transfer_syntax}"
        raise ValueError(message)
    syntax = UID(transfer_syntax)
    sop_class = UID(sop_class_uid) if sop_class_uid else _class_for(modality, frames)
    dataset = Dataset()
    dataset.file_meta = _file_meta(sop_class, sop_uid, syntax)
    dataset.preamble = bytes(128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword, fixed in _THE_SAME_IN_ALL.items():
        setattr(dataset, keyword, fixed)
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = sop_uid
    dataset.StudyDate = study_date
    dataset.Modality = modality
    dataset.StudyDescription = study_description
    dataset.SeriesDescription = f"{modality} series {series_number}"
    dataset.PatientName = patient_name
    dataset.PatientID = patient_id
    dataset.StudyInstanceUID = study_uid
    dataset.SeriesInstanceUID = series_uid
    dataset.SeriesNumber = series_number
    dataset.InstanceNumber = instance_number
    if sop_class == BasicTextSRStorage:
        _add_report(dataset)
    else:
        _add_pixels(dataset, sop_uid, syntax, (frames, rows, columns))
    for keyword, value in (elements or {}).items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
    return MadeInstance(path, study_uid, series_uid, sop_uid)


def make_study(
    folder: Path,
    *,
    study_uid: str = "",
    key: str = "study",
    series: int = 1,
    instances: int = 3,
    modality: str = "CT",
    rows: int = 16,
    columns: int = 16,
    transfer_syntax: str = ExplicitVRLittleEndian,
    patient_name: str = "Doe^Jane",
    patient_id: str = "TEST-0001",
) -> tuple[MadeInstance, ...]:
    """Write a study of `series` times `instances` files, `folder/s01/i0001.dcm` and so on.

    All UIDs follow from `key` (the Study Instance UID from `study_uid`, if given), so that two
    studies with other keys share nothing.
    """
    study_uid = study_uid or make_uid(key)
    made = []
    for series_number in range(1, series + 1):
        series_uid = make_uid(key, study_uid, series_number)
        for number in range(1, instances + 1):
            made.append(
                make_instance(
                    folder / f"s{series_number:02d}" / f"i{number:04d}.dcm",
                    study_uid,
                    series_uid,
                    make_uid(key, study_uid, series_number, number),
                    modality=modality,
                    rows=rows,
                    columns=columns,
                    transfer_syntax=transfer_syntax,
                    patient_name=patient_name,
                    patient_id=patient_id,
                    series_number=series_number,
                    instance_number=number,
                )
            )
    return tuple(made)


def _class_for(modality: str, frames: int) -> UID:
    if frames == 1 or modality == "SR":
        return _SINGLE_FRAME[modality]
    return _MULTI_FRAME.get(modality, MultiFrameGrayscaleWordSecondaryCaptureImageStorage)


def _file_meta(sop_class: UID, sop_uid: str, syntax: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = UID(sop_uid)
    meta.TransferSyntaxUID = syntax
    # Ours, not the library's with its version: the bytes must not depend on what is installed.
    meta.ImplementationClassUID = UID(make_uid("dcmvault.testing.dicom_files"))
    meta.ImplementationVersionName = "DCMVAULT_TEST"
    return meta


def _add_pixels(dataset: Dataset, key: str, syntax: UID, shape: tuple[int, int, int]) -> None:
    frames, rows, columns = shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.Rows = rows
    dataset.Columns = columns
    dataset.BitsAllocated = 16
    dataset.BitsStored = 12
    dataset.HighBit = 11
    dataset.PixelRepresentation = 0
    native = [_frame(f"{key}/{number}", rows, columns) for number in range(frames)]
    if syntax == ExplicitVRBigEndian:
        native = [_swapped(frame) for frame in native]
    if syntax != RLELossless:
        dataset.add_new("PixelData", "OW", b"".join(native))
        return
    coded = [
        RLELosslessEncoder.encode(
            frame,
            rows=rows,
            columns=columns,
            samples_per_pixel=1,
            bits_allocated=16,
            bits_stored=12,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
            number_of_frames=1,
            encoding_plugin="pydicom",
        )
        for frame in native
    ]
    dataset.add_new("PixelData", "OB", encapsulate(coded))
    dataset["PixelData"].is_undefined_length = True


def _frame(key: str, rows: int, columns: int) -> bytes:
    """Make a slope with some noise in its lowest bits: compressible like an acquired frame."""
    noise = hashlib.shake_256(key.encode()).digest(rows * columns)
    offset = noise[0] * 4
    out = bytearray()
    for row in range(rows):
        for column in range(columns):
            value = (offset + row * 8 + column * 4 + (noise[row * columns + column] & 7)) & 0x0FFF
            out += value.to_bytes(2, "little")
    return bytes(out)


def _swapped(frame: bytes) -> bytes:
    out = bytearray(frame)
    out[0::2], out[1::2] = frame[1::2], frame[0::2]
    return bytes(out)


def _add_report(dataset: Dataset) -> None:
    """Make it a Basic Text SR with one line of text (PS3.3 A.35.1)."""
    title = Dataset()
    title.CodeValue = "11528-7"
    title.CodingSchemeDesignator = "LN"
    title.CodeMeaning = "Radiology Report"
    finding = Dataset()
    finding.CodeValue = "121071"
    finding.CodingSchemeDesignator = "DCM"
    finding.CodeMeaning = "Finding"
    text = Dataset()
    text.RelationshipType = "CONTAINS"
    text.ValueType = "TEXT"
    text.ConceptNameCodeSequence = Sequence([finding])
    text.TextValue = "Nothing of note."
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = Sequence([title])
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ContentSequence = Sequence([text])
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.ContentDate = dataset.StudyDate
    dataset.ContentTime = dataset.StudyTime
