from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dcmvault.model.identifiers import is_valid_uid
from dcmvault.testing.corpus import real_files, real_study_folders
from dcmvault.testing.dicom_files import make_instance, make_study, make_uid


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ],
)
@pytest.mark.parametrize(("modality", "frames"), [("CT", 1), ("MR", 3), ("US", 2), ("SR", 1)])
def test_generated_files_are_valid_and_repeatable(
    tmp_path: Path, syntax: str, modality: str, frames: int
) -> None:
    def make(name: str) -> Path:
        return make_instance(
            tmp_path / name,
            make_uid("study"),
            make_uid("series"),
            make_uid("instance"),
            modality=modality,
            frames=frames,
            transfer_syntax=syntax,
            patient_name="Grün^Zoë",
        ).path

    assert make("a").read_bytes() == make("b").read_bytes()
    dataset = pydicom.dcmread(tmp_path / "a")
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
    assert dataset.PatientName == "Grün^Zoë"
    assert dataset.get("NumberOfFrames", 1) == frames
    assert ("PixelData" in dataset) == (modality != "SR")
    if "PixelData" in dataset and not syntax.startswith(RLELossless):
        assert len(dataset.PixelData) == 2 * 16 * 16 * frames


def test_generated_studies_share_nothing(tmp_path: Path) -> None:
    made = [*make_study(tmp_path / "a", key="a", series=2), *make_study(tmp_path / "b", key="b")]
    assert len({x.sop_instance_uid for x in made}) == len(made) == 9
    assert len({x.series_instance_uid for x in made}) == 3
    assert len({x.study_instance_uid for x in made}) == 2
    assert all(is_valid_uid(x.sop_instance_uid) for x in made)


def test_real_files_are_there() -> None:
    assert len(real_files()) >= 60
    assert all(path.is_file() for path in real_files())
    assert real_study_folders()
