"""Matching by keys, rule by rule (PS3.4 section C.2.2.2)."""

from __future__ import annotations

import pytest

from dcmvault.dicom.matching import date_range, matcher

NAME, TEXT, UID = 0x00100010, 0x00081030, 0x0020000D
DATE, TIME, MOMENT, NUMBER = 0x00080020, 0x00080030, 0x0008002A, 0x00200013
MODALITIES = 0x00080061


@pytest.mark.parametrize(
    ("tag", "key", "matching", "others"),
    [
        # Single values: as they stand, but names.
        (TEXT, "CT Head", ["CT Head"], ["ct head", "CT Head 2", ""]),
        (NAME, "doe^jane", ["Doe^Jane", "DOE^JANE^^", "Doe^Jane=X^Y"], ["Doe^Janet", "Doe"]),
        (NAME, "muller^jorg", ["Müller^Jörg"], ["Mueller^Joerg"]),
        (NAME, "山田^太郎", ["Yamada^Tarou=山田^太郎"], ["Yamada^Tarou"]),
        # Wildcards.
        (TEXT, "CT*", ["CT", "CT Head"], ["ct", "MCT"]),
        (TEXT, "C?", ["CT", "CR"], ["C", "CTA"]),
        (TEXT, "*a*b", ["xaxb", "ab"], ["abx", "b"]),
        (NAME, "d*^j?ne", ["Doe^Jane"], ["Doe^Jne", "Moe^Jane"]),
        (TEXT, "1+1=[2]*", ["1+1=[2]!"], ["111=2"]),
        # Lists of UIDs, and of other values.
        (UID, "1.2\\1.3", ["1.2", "1.3"], ["1.4", ""]),
        (MODALITIES, "CT", ["CT", "CT\\SR", "MR\\CT"], ["MR", "CTX"]),
        (MODALITIES, "CT\\MR", ["MR\\SR", "CT"], ["US"]),
        (MODALITIES, "C*", ["SR\\CT"], ["SR"]),
        # Dates and times.
        (DATE, "20200102", ["20200102", "2020.01.02"], ["20200103", ""]),
        (DATE, "20200102-20200201", ["20200102", "20200201"], ["20200202", "20200101", ""]),
        (DATE, "20200102-", ["20200102", "20210101"], ["20200101", ""]),
        (DATE, "-20200102", ["20200102", "19990101"], ["20200103", ""]),
        (TIME, "10-1130", ["100000", "113059.99", "1030"], ["0959", "1131"]),
        (TIME, "101112", ["101112", "101112.000"], ["101113"]),
        (MOMENT, "2020-2021", ["20201231235959.9", "20200101"], ["20220101"]),
        (MOMENT, "20200102-0500", ["20200102", "20200102+0100"], ["20200103"]),
        # Numbers, however they are written.
        (NUMBER, "1", ["1", "01", "+1"], ["11", "x", ""]),
    ],
)
def test_keys_match(tag: int, key: str, matching: list[str], others: list[str]) -> None:
    test = matcher(tag, key)
    assert test is not None
    assert [value for value in matching if not test(value)] == []
    assert [value for value in others if test(value)] == []


@pytest.mark.parametrize("key", ["", "*", "**"])
def test_universal_keys_need_no_test(key: str) -> None:
    assert matcher(NAME, key) is None


@pytest.mark.parametrize(
    ("key", "bounds"),
    [
        ("20200102", ("20200102", "20200102")),
        ("20200102-", ("20200102", "99999999")),
        ("-2020.01.02", ("00000000", "20200102")),
        ("", None),
        ("20200102\\20200103", None),
        ("2020*", None),
    ],
)
def test_the_bounds_of_a_date(key: str, bounds: tuple[str, str] | None) -> None:
    assert date_range(key) == bounds
