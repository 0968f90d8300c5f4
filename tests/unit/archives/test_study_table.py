"""Studies in memory: found through the text of their names as by asking each."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dcmvault.archives import study_table
from dcmvault.archives.study_table import StudyRow, StudyTable
from dcmvault.dicom import attributes as tags
from dcmvault.dicom.matching import Matcher, folded_name, matcher

_NAMES = st.text("abÄ^=\n ", max_size=6)
_DATES = st.sampled_from(["", "20200101", "20200102", "2020.01.03"])
_KEYS = st.text("abÄ^=*?\n ", max_size=5)
_RANGES = st.sampled_from(["", "20200102", "20200101-20200102", "-20200102", "20200102-"])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a handful of studies fill several blocks."""
    monkeypatch.setattr(study_table, "_ROWS_AT_ONCE", 3)


@given(studies=st.lists(st.tuples(_NAMES, _DATES), max_size=10), key=_KEYS, dates=_RANGES)
@example(studies=[("a", ""), ("b", "")], key="a\nb", dates="")
@example(studies=[("a\n", "")], key="?", dates="")
@example(studies=[("Ab^C=A^B", "20200101")] * 7, key="*^b", dates="20200101-")
def test_what_matches_is_found_whatever_block_it_stands_in(
    studies: list[tuple[str, str]], key: str, dates: str
) -> None:
    rows = [
        StudyRow.of(f"1.2.{number}", {"patient_name": name, "study_date": date}, b"", 1)
        for number, (name, date) in enumerate(studies)
    ]
    table = StudyTable(rows)
    keys = {tags.PATIENT_NAME: key, tags.STUDY_DATE: dates}
    tests: dict[int, Matcher] = {}
    for tag, one in keys.items():
        test = matcher(tag, one)
        if test is not None:
            tests[tag] = test
    expected = [
        row
        for row in reversed(table.rows)
        if all(test(row.value(tag)) for tag, test in tests.items())
    ]
    assert list(table.matching(keys, tests)) == expected


@given(key=_KEYS, name=_NAMES)
def test_a_name_that_matches_holds_the_literal(key: str, name: str) -> None:
    test = matcher(tags.PATIENT_NAME, key)
    if test is not None and test(name):
        assert test.literal in folded_name(name)
