"""Statuses and rejections: every code has one meaning, and words to go with it."""

from __future__ import annotations

import pytest
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from dcmvault.dicom.status import (
    REJECTIONS,
    STORE_STATUSES,
    StatusKind,
    explain_rejection,
    store_status,
)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (0x0000, StatusKind.STORED),
        (0xB000, StatusKind.STORED_WITH_CHANGES),
        (0xB006, StatusKind.STORED_WITH_CHANGES),
        (0xB007, StatusKind.STORED_WITH_CHANGES),
        (0x0111, StatusKind.DUPLICATE),
        (0x0110, StatusKind.RETRY_LATER),
        (0xA700, StatusKind.RETRY_LATER),
        (0xA7FF, StatusKind.RETRY_LATER),
        (0xA900, StatusKind.PERMANENT),
        (0xA9FF, StatusKind.PERMANENT),
        (0xC000, StatusKind.PERMANENT),
        (0xCFFF, StatusKind.PERMANENT),
        (0x0122, StatusKind.PERMANENT),
        (0x0124, StatusKind.STOP_DESTINATION),
        (0x1234, StatusKind.PERMANENT),
        (0xFFFF, StatusKind.PERMANENT),
    ],
)
def test_kinds(code: int, kind: StatusKind) -> None:
    assert store_status(code).kind is kind


def test_kinds_agree_with_the_library_on_success_and_failure() -> None:
    for code, (category, _words) in STORAGE_SERVICE_CLASS_STATUS.items():
        kind = store_status(code).kind
        is_kept = kind in (StatusKind.STORED, StatusKind.STORED_WITH_CHANGES)
        assert is_kept == (category in ("Success", "Warning")), f"{code:04X}"


def test_every_code_has_words() -> None:
    for code in range(0x10000):
        meaning = store_status(code)
        assert meaning.first <= code <= meaning.last
        assert meaning.meaning
        assert meaning.reference
        assert meaning.cause or meaning.kind is StatusKind.STORED


def test_no_row_is_out_of_reach() -> None:
    reached = {store_status(code) for code in range(0x10000)}
    assert set(STORE_STATUSES) <= reached


def test_rejections_have_words() -> None:
    for (source, reason), words in REJECTIONS.items():
        assert explain_rejection(source, reason) == words
        assert words.reason
        assert words.remedy
    assert "source 9, reason 8" in explain_rejection(9, 8).reason
