from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmvault.errors import SourceUnavailableError
from dcmvault.sources.horos.paths import data_folder, file_of_row
from dcmvault.sources.horos.uid import decode_uid
from dcmvault.testing.horos_schema import pack_uid


def test_packed_uid_of_the_application() -> None:
    packed = bytes.fromhex("2b3b951b22472ab3b6b2873694264b32662aba89a68174b890")
    assert decode_uid(packed) == "1.2.840.113619.2.5.1762583153.215519.978957063.78"
    assert decode_uid(packed + b"\0") == "1.2.840.113619.2.5.1762583153.215519.978957063.78"


@given(st.text("0123456789.", min_size=1, max_size=64))
def test_packed_uids_come_back(uid: str) -> None:
    packed = pack_uid(uid)
    assert len(packed) == (len(uid) + 1) // 2
    assert decode_uid(packed) == uid


@pytest.mark.parametrize("packed", [None, "1.2", 12, b"", b"\x2b\xc1"])
def test_what_is_no_packed_uid(packed: object) -> None:
    assert decode_uid(packed) == ""


@pytest.mark.parametrize(
    ("number", "text", "expected"),
    [
        (1, None, "DATABASE.noindex/10000/1.dcm"),
        (0, None, "DATABASE.noindex/10000/0.dcm"),
        (9999, None, "DATABASE.noindex/10000/9999.dcm"),
        (10_000, None, "DATABASE.noindex/20000/10000.dcm"),
        (12_345, "ignored", "DATABASE.noindex/20000/12345.dcm"),
        (None, "1234.jpg", "DATABASE.noindex/10000/1234.jpg"),
        (None, "20000.tif", "DATABASE.noindex/30000/20000.tif"),
        (None, "name.hdr", "DATABASE.noindex/10000/name.hdr"),
        (None, "/Volumes/NAS/IM 1", "/Volumes/NAS/IM 1"),
        (None, None, ""),
        (None, "", ""),
        (None, "../../secret", ""),
        (None, "/a/../b", ""),
        (None, "1\0.dcm", ""),
    ],
)
def test_file_of_row(number: object, text: object, expected: str) -> None:
    assert file_of_row(number, text, 10_000) == expected


def test_sub_folders_of_another_size() -> None:
    assert file_of_row(1500, None, 1000) == "DATABASE.noindex/2000/1500.dcm"


@pytest.mark.parametrize("text", ["{place}", "{place}\n", "{parent}", "../elsewhere/Horos Data"])
def test_data_folder_elsewhere(tmp_path: Path, text: str) -> None:
    base = tmp_path / "here" / "Horos Data"
    base.mkdir(parents=True)
    place = tmp_path / "here" / "elsewhere" / "Horos Data"
    (place / "DATABASE.noindex").mkdir(parents=True)
    (base / "DBFOLDER_LOCATION").write_text(text.format(place=place, parent=place.parent))
    assert data_folder(str(base)) == str(place.resolve())


def test_data_folder_that_is_not_mounted(tmp_path: Path) -> None:
    (tmp_path / "DATABASE.noindex").mkdir()
    (tmp_path / "DBFOLDER_LOCATION").write_text("/no/such/volume")
    with pytest.raises(SourceUnavailableError, match="elsewhere"):
        data_folder(str(tmp_path))
