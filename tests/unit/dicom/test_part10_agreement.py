"""The scanner and pydicom agree on every bundled test file that both accept."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pydicom
import pydicom.data
import pydicom.multival
import pytest
from pydicom.errors import InvalidDicomError

from dcmvault.dicom import part10
from dcmvault.dicom.byte_source import FileBytes
from dcmvault.dicom.elements import ElementWalker
from dcmvault.dicom.file_meta import read_file_meta
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import InstanceHeader

TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"

DEFLATED = "1.2.840.10008.1.2.1.99"

#: Accepted by the scanner only, and why.
ONLY_SCANNER = {
    # No preamble and no DICM: pydicom wants `force=True`; the first element leaves no doubt.
    "ExplVR_BigEndNoMeta.dcm",
    "ExplVR_LitEndNoMeta.dcm",
    "rtstruct.dcm",
}
#: Accepted by pydicom only: none.
ONLY_PYDICOM: set[str] = set()

ATTRIBUTES: dict[str, Callable[[InstanceHeader], str]] = {
    "PatientName": lambda h: h.study.patient_name,
    "PatientID": lambda h: h.study.patient_id,
    "PatientBirthDate": lambda h: h.study.patient_birth_date,
    "PatientSex": lambda h: h.study.patient_sex,
    "StudyDate": lambda h: h.study.study_date,
    "StudyTime": lambda h: h.study.study_time,
    "StudyDescription": lambda h: h.study.study_description,
    "AccessionNumber": lambda h: h.study.accession_number,
    "InstitutionName": lambda h: h.study.institution_name,
    "Modality": lambda h: h.series.modality,
    "SeriesNumber": lambda h: h.series.series_number,
    "SeriesDescription": lambda h: h.series.series_description,
    "BodyPartExamined": lambda h: h.series.body_part_examined,
    "InstanceNumber": lambda h: h.instance_number,
    "SOPClassUID": lambda h: h.sop_class_uid,
    "SOPInstanceUID": lambda h: h.sop_instance_uid,
    "StudyInstanceUID": lambda h: h.study_instance_uid,
    "SeriesInstanceUID": lambda h: h.series_instance_uid,
}


def bundled_files() -> list[Path]:
    files = [path for path in TEST_FILES.rglob("*") if path.is_file()]
    charsets = (TEST_FILES.parent / "charset_files").glob("*.dcm")
    return sorted([*files, *charsets])


def scanned(path: Path) -> InstanceHeader | None:
    try:
        return part10.scan(path)
    except MalformedDicomError:
        return None


def read(path: Path, *, stop_before_pixels: bool = True) -> pydicom.FileDataset | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
    except (InvalidDicomError, EOFError):
        return None


def theirs(ds: pydicom.FileDataset, keyword: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = ds.get(keyword)
    if value is None:
        return ""
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        return "\\".join(str(part) for part in value)
    # IS keeps the text it was read from (leading zeros, signs).
    original = getattr(value, "original_string", None)
    return original if isinstance(original, str) else str(value)


def test_the_same_files_are_accepted() -> None:
    only_scanner, only_pydicom = set(), set()
    for path in bundled_files():
        ours, ds = scanned(path), read(path)
        if ours is not None and ds is None:
            only_scanner.add(path.name)
        if ours is None and ds is not None:
            only_pydicom.add(path.name)
    assert only_scanner == ONLY_SCANNER
    assert only_pydicom == ONLY_PYDICOM


@pytest.mark.parametrize("path", bundled_files(), ids=lambda path: path.name)
def test_attributes_agree(path: Path) -> None:
    header, ds = scanned(path), read(path)
    if header is None or ds is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = {name: get(header).strip() for name, get in ATTRIBUTES.items()}
        expected = {name: theirs(ds, name).strip("\0 ") for name in ATTRIBUTES}
    # pydicom drops empty component groups at the end of a name; they are in the file.
    ours["PatientName"] = ours["PatientName"].rstrip("=")
    assert ours == expected
    stated = str(ds.file_meta.get("TransferSyntaxUID", ""))
    if stated:
        assert header.transfer_syntax_uid == stated


def content_begins_with_item(path: Path, header: InstanceHeader) -> bool:
    item, delimiter = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
    content = path.read_bytes()
    start, end = header.pixel_data_start, header.pixel_data_end
    return content[start : start + 4] == item and content[end : end + 4] == delimiter


@pytest.mark.parametrize("path", bundled_files(), ids=lambda path: path.name)
def test_pixels_lie_where_pydicom_finds_them(path: Path) -> None:
    header, ds = scanned(path), read(path, stop_before_pixels=False)
    if header is None or ds is None or header.pixel_data_start < 0 or "PixelData" not in ds:
        return
    element = ds["PixelData"]
    if element.is_undefined_length:
        assert content_begins_with_item(path, header)
        return
    content = path.read_bytes()[header.pixel_data_start : header.pixel_data_end]
    assert content == element.value
    assert header.data_set_end >= header.pixel_data_end


@pytest.mark.parametrize("path", bundled_files(), ids=lambda path: path.name)
def test_the_walk_of_every_depth_ends_where_the_scan_does(path: Path) -> None:
    """The scanner steps over sequences by shortcuts; the walker of the digest takes none."""
    header = scanned(path)
    if header is None or header.transfer_syntax_uid == DEFLATED:
        return
    with FileBytes(path) as file:
        meta = read_file_meta(file)
        walker = ElementWalker(file, meta.data_set_start, meta.encoding)
        try:
            deque(walker, maxlen=0)
        except MalformedDicomError:
            assert header.flaws
            return
    assert header.data_set_end == walker.position
