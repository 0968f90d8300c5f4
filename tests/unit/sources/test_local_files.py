from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmvault.model.instance import Claim
from dcmvault.sources.local_files import can_be_a_path, claim_by_name, escape, unescape
from dcmvault.testing.source_suite import opened_files


@given(st.binary().map(os.fsdecode))
def test_escaped_paths_are_text_and_come_back(path: str) -> None:
    locator = escape(path)
    locator.encode("utf-8")
    assert unescape(locator) == path


@pytest.mark.parametrize(
    ("path", "locator"),
    [
        ("plain/påth.dcm", "plain/påth.dcm"),
        ("a\\b", "a\\\\b"),
        (os.fsdecode(b"\xff\\xff"), "\\xff\\\\xff"),
    ],
)
def test_escapes(path: str, locator: str) -> None:
    assert escape(path) == locator


@pytest.mark.parametrize(
    ("name", "claim"),
    [
        ("IM0001", Claim.DICOM),
        ("x.dcm", Claim.DICOM),
        (".hidden", Claim.DICOM),
        ("DICOMDIR.dcm", Claim.DICOM),
        ("DICOMDIR", Claim.OTHER),
        ("dicomdir;1", Claim.OTHER),
        (".DS_Store", Claim.OTHER),
        ("Thumbs.db", Claim.OTHER),
        ("._x.dcm", Claim.OTHER),
    ],
)
def test_claims_by_name(name: str, claim: Claim) -> None:
    assert claim_by_name(name) is claim


def test_locators_that_leave_the_root_are_no_paths() -> None:
    assert can_be_a_path("a/..b/c..")
    assert not can_be_a_path("a/../b")
    assert not can_be_a_path("a\0")


def test_the_suite_sees_files_being_opened(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    inside = tmp_path / "in" / "x"
    inside.write_bytes(b"")
    (tmp_path / "y").write_bytes(b"")
    with opened_files([tmp_path / "in"]) as opened:
        inside.read_bytes()
        (tmp_path / "y").read_bytes()
        os.close(os.open(inside, os.O_RDONLY))
    inside.read_bytes()
    assert opened == {str(inside)}
