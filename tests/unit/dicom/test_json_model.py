"""The DICOM JSON model of headers: against pydicom's, and where headers break rules."""

from __future__ import annotations

import io
import json
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dcmvault.dicom.byte_source import MemoryBytes
from dcmvault.dicom.json_model import bulk_value, json_of_header, json_of_values

SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]


def _data_set() -> Dataset:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    item.ReferencedFrameNumber = [1, 2]
    inner = Dataset()
    inner.CodeValue = "X"
    inner.CodeMeaning = "Schädel"
    item.PurposeOfReferenceCodeSequence = Sequence([inner])
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 100"
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.SOPInstanceUID = "1.2.3.4"
    data.PatientName = "Müller^Jörg=x"
    data.PatientWeight = "70.5"
    data.ReferencedImageSequence = Sequence([item, Dataset()])
    data.ImageType = ["ORIGINAL", "", "AXIAL"]
    data.SliceThickness = ""
    data.FrameIncrementPointer = 0x00181063
    data.Rows = 2
    data.PixelRepresentation = 1
    data.SmallestImagePixelValue = -5
    data.add_new(0x00189306, "FD", [1.5, -2.25])
    data.StudyComments = "a\\b"
    data.add_new(0x00091001, "UN", b"\1\2")
    data.add_new(0x00281201, "OW", bytes(range(256)) * 8)
    data.PixelData = b"\0" * 8
    data["PixelData"].VR = "OW"
    return data


def _file(data: Dataset, syntax: pydicom.uid.UID) -> bytes:
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: str(uid.name))
def test_a_header_is_what_pydicom_makes_of_it(syntax: pydicom.uid.UID) -> None:
    file = _file(_data_set(), syntax)
    told: dict[str, Any] = json_of_header(MemoryBytes(file), "bulk/")
    json.dumps(told, allow_nan=False)
    expected = pydicom.dcmread(io.BytesIO(file)).to_json_dict(
        bulk_data_threshold=1024,
        bulk_data_element_handler=lambda element: f"bulk/{element.tag:08X}",
    )
    expected["7FE00010"] = {"vr": "OW", "BulkDataURI": "bulk/7FE00010"}
    expected["00080005"]["Value"] = ["ISO_IR 192"]
    # PS3.18 section F.2.5: what is empty among several values is null.
    expected["00080008"]["Value"][1] = None
    assert told == expected


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: str(uid.name))
def test_a_long_value_is_found_by_its_path(syntax: pydicom.uid.UID) -> None:
    item = Dataset()
    item.add_new(0x00281201, "OW", bytes(range(256)) * 8)
    data = _data_set()
    data.ReferencedImageSequence = Sequence([Dataset(), item])
    file = MemoryBytes(_file(data, syntax))
    told: dict[str, Any] = json_of_header(file, "")
    path = told["00081140"]["Value"][1]["00281201"]["BulkDataURI"]
    assert path == "00081140/2/00281201"
    expected = bytes(range(256)) * 8
    found = bulk_value(file, path)
    if syntax == ExplicitVRBigEndian:  # pydicom writes the bytes of OW as they are
        expected = b"".join(expected[at : at + 2][::-1] for at in range(0, len(expected), 2))
    assert found == expected
    assert bulk_value(file, "00081140/3/00281201") is None


def test_values_that_break_their_vr_are_told_as_they_are() -> None:
    told = json_of_values({0x00101030: "heavy", 0x00200013: "1.5x", 0x00080060: "CT\\\\MR"})
    assert told["00101030"] == {"vr": "DS", "Value": ["heavy"]}
    assert told["00200013"] == {"vr": "IS", "Value": ["1.5x"]}
    assert told["00080060"] == {"vr": "CS", "Value": ["CT", None, "MR"]}
    assert json_of_values({0x00101030: "nan"})["00101030"] == {"vr": "DS", "Value": ["NaN"]}
