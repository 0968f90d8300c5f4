"""What makes two files one instance to a PACS that keeps one."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEGBaseline8Bit, RLELossless

from dcmvault.dicom.digest import data_set_digest
from dcmvault.dicom.sameness import sameness_digest
from dcmvault.testing.dicom_files import make_instance, make_uid

_FRAMES = (b"\xff\xd8AAAAAAAA", b"\xff\xd8BBBBBBBB")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.dcm"
    make_instance(path, *(make_uid(n) for n in range(3)))
    return path


def _encapsulated(
    plain: Path, *fragments: bytes, syntax: UID = JPEGBaseline8Bit, table: bool = False
) -> Path:
    dataset = pydicom.dcmread(plain)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.NumberOfFrames = 2
    dataset.PixelData = encapsulate(list(fragments), has_bot=table)
    dataset["PixelData"].VR = "OB"
    path = plain.with_name(f"{len(list(plain.parent.iterdir()))}.dcm")
    dataset.save_as(path)
    return path


def test_other_file_meta_information_makes_no_difference(plain: Path) -> None:
    dataset = pydicom.dcmread(plain)
    dataset.file_meta.ImplementationClassUID = UID("1.2.3")
    anew = plain.with_name("anew.dcm")
    dataset.save_as(anew)
    assert anew.read_bytes() != plain.read_bytes()
    assert sameness_digest(anew) == sameness_digest(plain) is not None


def test_private_information_equals_nothing(plain: Path) -> None:
    dataset = pydicom.dcmread(plain)
    dataset.file_meta.PrivateInformationCreatorUID = UID("1.2.3")
    dataset.file_meta.PrivateInformation = b"signature!"
    dataset.save_as(plain)
    assert sameness_digest(plain) is None


@pytest.mark.parametrize(("padding", "is_plain"), [(bytes(8), True), (b"hidden!!", False)])
def test_padding_that_says_something_equals_nothing(
    plain: Path, padding: bytes, is_plain: bool
) -> None:
    without = sameness_digest(plain)
    dataset = pydicom.dcmread(plain)
    dataset.DataSetTrailingPadding = padding
    dataset.save_as(plain)
    assert sameness_digest(plain) == (without if is_plain else None)


def test_transfer_syntax_and_fragments_count_where_pixels_are_encapsulated(plain: Path) -> None:
    first = _encapsulated(plain, *_FRAMES)
    with_table = _encapsulated(plain, *_FRAMES, table=True)
    named_otherwise = _encapsulated(plain, *_FRAMES, syntax=RLELossless)
    joined = _encapsulated(plain, b"".join(_FRAMES))
    files = (first, with_table, named_otherwise, joined)
    assert len({data_set_digest(path) for path in files}) == 1
    assert sameness_digest(with_table) == sameness_digest(first), "one fragment for each frame"
    assert len({sameness_digest(path) for path in files}) == 3


def test_a_table_that_says_which_fragments_are_one_frame_counts(plain: Path) -> None:
    pieces = [b"\xff\xd8AA", b"AAAA", b"\xff\xd8BB", b"BBBB"]
    found = set()
    for offsets in (b"", bytes(4) + b"\x0c\0\0\0", bytes(4) + b"\x18\0\0\0"):
        path = _encapsulated(plain, *pieces)
        content = path.read_bytes()
        empty = b"\xfe\xff\x00\xe0\0\0\0\0"
        assert content.count(empty) == 1
        full = empty[:4] + len(offsets).to_bytes(4, "little") + offsets
        path.write_bytes(content.replace(empty, full))
        found.add(sameness_digest(path))
    assert len(found) == 3
