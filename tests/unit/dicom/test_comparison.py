"""Two files under one UID: differences are named by attribute, and never by value."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

from dcmvault.dicom.comparison import Coercion, Comparison, Likeness, compare
from dcmvault.testing.dicom_files import make_study

NAME, SEX = 0x00100010, 0x00100040


@pytest.fixture
def original(tmp_path: Path) -> Path:
    (made,) = make_study(tmp_path / "study", instances=1, rows=16, columns=16)
    data = pydicom.dcmread(made.path)
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    data.ReferencedImageSequence = [item]
    data.save_as(made.path)
    return made.path


def _compared(
    original: Path, change: Callable[[Dataset], object], coerced: Collection[int] = ()
) -> Comparison:
    copy = original.with_suffix(".copy")
    data = pydicom.dcmread(original)
    change(data)
    data.save_as(copy)
    with copy.open("rb") as file:
        return compare(original, file.fileno(), coerced)


def _to_implicit(data: Dataset) -> None:
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def _turn_a_bit(data: Dataset) -> None:
    pixels = bytearray(data.PixelData)
    pixels[100] ^= 1
    data.PixelData = bytes(pixels)


def test_another_encoding_is_equal(original: Path) -> None:
    assert _compared(original, _to_implicit) == Comparison(Likeness.EQUAL)


def test_differences_are_named(original: Path) -> None:
    def change(data: Dataset) -> None:
        data.PatientName = "Doe^Joan"
        data.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.4"
        del data.PatientSex
        _turn_a_bit(data)

    found = _compared(original, change, {NAME})
    assert found.likeness is Likeness.DIFFERENT
    assert found.differences == ("pixel data", "(0008,1140)", "(0010,0040)")


def test_coercions_have_old_and_new_value(original: Path) -> None:
    def change(data: Dataset) -> None:
        data.PatientName = "Doe^Joan"
        del data.PatientSex

    assert _compared(original, change, {NAME, SEX}) == Comparison(
        Likeness.COERCED,
        coercions=(
            Coercion("(0010,0010)", "Doe^Jane", "Doe^Joan"),
            Coercion("(0010,0040)", "O", None),
        ),
    )


def test_compressed_without_loss_is_told_from_altered(original: Path) -> None:
    def compress(data: Dataset) -> None:
        data.compress(JPEGLSLossless, encoding_plugin="pyjpegls", generate_instance_uid=False)

    def alter(data: Dataset) -> None:
        _turn_a_bit(data)
        compress(data)

    assert _compared(original, compress) == Comparison(Likeness.TRANSCODED)
    assert _compared(original, alter).differences == ("pixel data",)


def test_what_does_not_parse_is_different(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(original.read_bytes()[:-100])
    with copy.open("rb") as file:
        found = compare(original, file.fileno(), {NAME})
    assert found == Comparison(Likeness.DIFFERENT, ("it does not parse as DICOM",))


@pytest.mark.parametrize("shown", ["MONOCHROME1", "PALETTE COLOR", ""])
def test_equal_samples_that_are_shown_otherwise_are_different(original: Path, shown: str) -> None:
    """A PACS that compresses may write its own kind of colour, but not turn black into white."""

    def compress(data: Dataset) -> None:
        data.compress(JPEGLSLossless, encoding_plugin="pyjpegls", generate_instance_uid=False)
        data.PhotometricInterpretation = shown

    found = _compared(original, compress)
    assert (found.likeness, found.differences) == (Likeness.DIFFERENT, ("(0028,0004)",))


def test_compressed_pixels_given_out_for_another_form_are_different(original: Path) -> None:
    """The digest of a data set leaves the transfer syntax out, which may be what is damaged."""
    data = pydicom.dcmread(original)
    data.compress(JPEGLSLossless, encoding_plugin="pyjpegls", generate_instance_uid=False)
    data.save_as(original)

    def mislabel(data: Dataset) -> None:
        data.file_meta.TransferSyntaxUID = JPEG2000Lossless

    def rename_too(data: Dataset) -> None:
        mislabel(data)
        data.PatientName = "Doe^Joan"

    for change in (mislabel, rename_too):
        found = _compared(original, change, {NAME})
        assert found.likeness is Likeness.DIFFERENT
        assert "(0002,0010)" in found.differences
