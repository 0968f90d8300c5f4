"""Frames as people see them: windows, colours, sizes; single bits, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from dcmvault.dicom.byte_source import MemoryBytes
from dcmvault.dicom.instance_frames import InstanceFrames, frames_of
from dcmvault.dicom.json_model import opened_data_set
from dcmvault.dicom.rendering import Look, encoded, render
from dcmvault.dicom.transfer_syntaxes import NotTranscodableError


def _file(pixels: bytes, syntax: UID = ExplicitVRLittleEndian, **values: object) -> bytes:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    shape = {"Rows": 2, "Columns": 2, "SamplesPerPixel": 1, "BitsAllocated": 16}
    shape |= {"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0}
    for name, value in (shape | {"PhotometricInterpretation": "MONOCHROME2"} | values).items():
        setattr(data, name, value)
    data.PixelData = pixels
    data["PixelData"].VR = "OW" if data.BitsAllocated > 8 else "OB"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _frames(file: bytes) -> tuple[MemoryBytes, InstanceFrames]:
    source = MemoryBytes(file)
    with opened_data_set(source) as opened:
        return source, frames_of(opened, ExplicitVRLittleEndian)


def _shown(file: bytes, look: Look | None = None, number: int = 1) -> list[object]:
    source, frames = _frames(file)
    shown: list[object] = render(source, frames, number, look or Look()).tolist()
    return shown


_RAMP = np.array([0, 1000, 2000, 4000], "<u2").tobytes()


def test_a_window_is_applied_after_slope_and_intercept() -> None:
    values: dict[str, Any] = {"RescaleSlope": 1, "RescaleIntercept": -1000}
    file = _file(_RAMP, WindowCenter=0, WindowWidth=2000, **values)
    assert _shown(file) == [[0, 128], [255, 255]]
    assert _shown(file, Look(window=(1000, 4000, "LINEAR_EXACT"))) == [[0, 64], [128, 255]]
    assert _shown(_file(_RAMP)) == [[0, 64], [128, 255]]
    inverted = _file(_RAMP, PhotometricInterpretation="MONOCHROME1")
    assert _shown(inverted) == [[255, 191], [127, 0]]


def test_big_endian_samples_are_turned() -> None:
    swapped = np.frombuffer(_RAMP, "<u2").astype(">u2").tobytes()
    _source, frames = _frames(_file(swapped, ExplicitVRBigEndian))
    assert frames.samples(1) == _RAMP


def test_colour_by_plane_and_in_ybr() -> None:
    red: dict[str, Any] = {"SamplesPerPixel": 3, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    planes = bytes([255] * 4 + [0] * 8)
    file = _file(planes, PhotometricInterpretation="RGB", PlanarConfiguration=1, **red)
    assert _shown(file) == [[[255, 0, 0]] * 2] * 2
    ybr = bytes([76, 85, 255] * 4)
    file = _file(ybr, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=0, **red)
    assert np.abs(np.array(_shown(file)) - [255, 0, 0]).max() <= 2


def test_frames_of_single_bits_are_cut_where_no_byte_ends() -> None:
    bits: dict[str, Any] = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "NumberOfFrames": 2}
    packed = np.packbits([1, 0, 0, 1, 0, 1, 1, 0], bitorder="little").tobytes() + b"\0"
    file = _file(packed, **bits)
    assert _shown(file, number=1) == [[255, 0], [0, 255]]
    assert _shown(file, number=2) == [[0, 255], [255, 0]]


def test_an_image_is_made_smaller_and_never_larger() -> None:
    pixels = np.arange(64 * 48, dtype="<u2").tobytes()
    source, frames = _frames(_file(pixels, Rows=48, Columns=64))
    assert render(source, frames, 1, Look(viewport=(16, 16))).shape == (12, 16)
    assert render(source, frames, 1, Look(viewport=(50, 50))).shape == (38, 50)
    whole = render(source, frames, 1, Look(viewport=(500, 500)))
    assert whole.shape == (48, 64)
    assert np.array_equal(imagecodecs.png_decode(encoded(whole, "image/png")), whole)
    assert imagecodecs.jpeg8_decode(encoded(whole, "image/jpeg")).shape == (48, 64)


@pytest.mark.parametrize(
    ("values", "pixels"),
    [
        ({"PhotometricInterpretation": "PALETTE COLOR"}, _RAMP),
        ({"Rows": 9000, "Columns": 9000}, _RAMP),
        ({"NumberOfFrames": 2}, _RAMP),
    ],
)
def test_what_cannot_be_shown_is_refused(values: dict[str, Any], pixels: bytes) -> None:
    with pytest.raises(NotTranscodableError):
        _shown(_file(pixels, **values), number=2 if "NumberOfFrames" in values else 1)
