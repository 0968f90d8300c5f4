"""`dsd1` of pydicom's bundled files survives what pydicom does when it writes them anew."""

from __future__ import annotations

import warnings
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dcmvault.dicom.digest import data_set_digest

TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
#: Sequences, private elements, UN, group lengths, padding, deflated, RT and SR objects.
NAMES = [
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_padded.dcm",
    "SC_rgb_small_odd.dcm",
    "UN_sequence.dcm",
    "badVR.dcm",
    "examples_overlay.dcm",
    "image_dfl.dcm",
    "liver_1frame.dcm",
    "nested_priv_SQ.dcm",
    "priv_SQ.dcm",
    "reportsi.dcm",
    "rtdose_1frame.dcm",
    "rtplan.dcm",
    "test-SR.dcm",
    "waveform_ecg.dcm",
]
WAYS = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("syntax", WAYS, ids=lambda uid: uid.name)
def test_written_anew(name: str, syntax: pydicom.uid.UID, tmp_path: Path) -> None:
    path = TEST_FILES / name
    anew = tmp_path / "anew.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path)
        # Every element is decoded, so that it is encoded anew.
        assert list(ds.iterall())
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(anew, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    assert data_set_digest(anew) == data_set_digest(path)
