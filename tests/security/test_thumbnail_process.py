"""A hostile file gives no picture, and harms nobody but the process that looks at it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from dcmvault.app.thumbnails import picture_of
from dcmvault.testing.dicom_files import make_instance


def _picture(content: bytes, **options: float) -> bytes:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        return picture_of(file, **options)  # type: ignore[arg-type]


@pytest.fixture
def sound(tmp_path: Path) -> bytes:
    path = tmp_path / "sound.dcm"
    make_instance(path, "2.25.1", "2.25.1.1", "2.25.1.1.1", rows=64, columns=64)
    return path.read_bytes()


def test_a_sound_file_gives_a_picture_and_a_broken_one_none(sound: bytes) -> None:
    assert _picture(sound).startswith(b"\xff\xd8")
    for content in (b"\0", b"no DICOM at all" * 100, sound[: len(sound) // 2], sound[:200]):
        assert _picture(content) == b""


def test_a_picture_larger_than_memory_is_refused(sound: bytes, tmp_path: Path) -> None:
    """The data set says 65,535 rows and columns; there are not so many, nor may there be."""
    path = tmp_path / "large.dcm"
    make_instance(
        path,
        "2.25.1",
        "2.25.1.1",
        "2.25.1.1.1",
        elements={"Rows": 65535, "Columns": 65535, "NumberOfFrames": "2147483647"},
    )
    assert _picture(path.read_bytes()) == b""


def test_one_that_takes_too_long_is_killed(sound: bytes) -> None:
    assert _picture(sound, timeout_s=0.0) == b""


def test_an_empty_file_is_none() -> None:
    with tempfile.TemporaryFile() as file:
        assert picture_of(file) == b""
