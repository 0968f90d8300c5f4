"""What DCMTK's encoders make of our studies is recoded, to the samples of the original."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.vault.recoding import rebuild, recode
from dcmvault.vault.shape import PixelAttributes

pytestmark = pytest.mark.peers

ROWS, COLUMNS, FRAMES = 61, 54, 2
#: Name: bits allocated, bits stored, signed, samples per pixel.
KINDS = {
    "grey 8": (8, 8, 0, 1),
    "grey 10": (16, 10, 0, 1),
    "grey 12": (16, 12, 0, 1),
    "grey 16": (16, 16, 0, 1),
    "signed 12": (16, 12, 1, 1),
    "signed 16": (16, 16, 1, 1),
    "colour": (8, 8, 0, 3),
}
#: Raw mode encodes the allocated bits, cooked mode the stored ones; on signed samples of fewer bits
#: than are allocated dcmcjpls 3.6.7 aborts in cooked mode.
JPEG_LS = [
    (kind, mode)
    for kind in KINDS
    for mode in ("+pr", "+pc")
    if kind != "colour" and (kind, mode) != ("signed 12", "+pc")
]


def _native(path: Path, kind: str) -> bytes:
    """Write a native multi-frame instance of a kind; return its Pixel Data."""
    allocated, stored, signed, count = KINDS[kind]
    y, x, c = np.mgrid[: ROWS * FRAMES, :COLUMNS, :count]
    noise = np.random.default_rng(stored).integers(0, 9, x.shape)
    top = (1 << stored) - 1
    values = (x * top // COLUMNS // 2 + y * 5 + c * 40 + noise) % (top + 1)
    if signed:
        values -= (top + 1) // 2
    data: bytes = values.astype(f"<{'i' if signed else 'u'}{allocated // 8}").tobytes()
    colour: dict[str, object] = {"PlanarConfiguration": 0} if count == 3 else {}
    make_instance(
        path,
        make_uid("recoding"),
        make_uid("recoding", "series"),
        make_uid("recoding", kind),
        frames=FRAMES,
        rows=ROWS,
        columns=COLUMNS,
        elements={
            "BitsAllocated": allocated,
            "BitsStored": stored,
            "HighBit": stored - 1,
            "PixelRepresentation": signed,
            "SamplesPerPixel": count,
            "PhotometricInterpretation": "RGB" if count == 3 else "MONOCHROME2",
            **colour,
            "PixelData": data,
        },
    )
    return data


def _samples(path: Path) -> bytes:
    """Recode all frames of a compressed file; each comes back as it was."""
    ds = pydicom.dcmread(path)
    pixels = PixelAttributes(
        ds.Columns,
        ds.Rows,
        ds.SamplesPerPixel,
        ds.BitsAllocated,
        ds.BitsStored,
        ds.PixelRepresentation,
        ds.get("PlanarConfiguration", 0),
        FRAMES,
    )
    samples = []
    for stream in generate_frames(ds.PixelData, number_of_frames=FRAMES):
        found = recode(stream, str(ds.file_meta.TransferSyntaxUID), pixels)
        assert found is not None
        kind, made, shape, head, tail = found
        assert rebuild(kind, made, shape, head, tail) == stream
        samples.append(made)
    return b"".join(samples)


def _encoded(program: str, *arguments: str | Path) -> None:
    subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("padding", ["+ps", "+pz"])
@pytest.mark.parametrize(("kind", "mode"), JPEG_LS)
def test_jpeg_ls_of_dcmcjpls(kind: str, mode: str, padding: str, tmp_path: Path) -> None:
    native = _native(tmp_path / "native.dcm", kind)
    _encoded("dcmcjpls", mode, padding, tmp_path / "native.dcm", tmp_path / "made.dcm")
    assert _samples(tmp_path / "made.dcm") == native


@pytest.mark.parametrize("interleave", ["+il", "+is", "+in"])
def test_colour_jpeg_ls_of_dcmcjpls(interleave: str, tmp_path: Path) -> None:
    native = _native(tmp_path / "native.dcm", "colour")
    _encoded("dcmcjpls", interleave, tmp_path / "native.dcm", tmp_path / "made.dcm")
    assert _samples(tmp_path / "made.dcm") == native


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("kind", KINDS)
def test_jpeg_lossless_of_dcmcjpeg(kind: str, predictor: int, tmp_path: Path) -> None:
    native = _native(tmp_path / "native.dcm", kind)
    made = tmp_path / "made.dcm"
    _encoded("dcmcjpeg", "+el", "+sv", str(predictor), tmp_path / "native.dcm", made)
    assert _samples(made) == native


@pytest.mark.parametrize("kind", KINDS)
def test_jpeg_lossless_first_order_of_dcmcjpeg(kind: str, tmp_path: Path) -> None:
    native = _native(tmp_path / "native.dcm", kind)
    _encoded("dcmcjpeg", "+e1", tmp_path / "native.dcm", tmp_path / "made.dcm")
    assert _samples(tmp_path / "made.dcm") == native


def test_jpeg_lossless_with_a_point_transform(tmp_path: Path) -> None:
    """Such a stream has lost bits, but is made again from the samples that it has."""
    _native(tmp_path / "native.dcm", "grey 12")
    made, plain = tmp_path / "made.dcm", tmp_path / "plain.dcm"
    _encoded("dcmcjpeg", "+el", "+sv", "7", "+pt", "2", tmp_path / "native.dcm", made)
    _encoded("dcmdjpeg", made, plain)
    assert _samples(made) == pydicom.dcmread(plain).PixelData


@pytest.mark.parametrize("kind", KINDS)
def test_rle_of_dcmcrle(kind: str, tmp_path: Path) -> None:
    native = _native(tmp_path / "native.dcm", kind)
    _encoded("dcmcrle", tmp_path / "native.dcm", tmp_path / "made.dcm")
    assert _samples(tmp_path / "made.dcm") == native
