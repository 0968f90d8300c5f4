"""Statuses and rejections: every code has one meaning, and words to go with it."""

from __future__ import annotations

import pytest
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from dcmvault.dicom.status import (
    ABORT_REASONS,
    REJECTIONS,
    STORE_STATUSES,
    StatusKind,
    explain_abort,
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
        assert (meaning.cause and meaning.remedy) or meaning.kind is StatusKind.STORED


def test_every_row_names_its_place_in_the_standard() -> None:
    for row in STORE_STATUSES:
        # PS3.4 table B.2-1 has these; all others are general statuses of PS3.7 Annex C.
        of_storage = row.first >> 8 in (0xA7, 0xA9, 0xC0) or row.first in (0xB000, 0xB006, 0xB007)
        assert row.reference == ("PS3.4 table B.2-1" if of_storage else "PS3.7 Annex C")


def test_classes_are_those_of_the_standard() -> None:
    """PS3.7 Annex C gives every class its codes; 0111 says that something is there."""
    for code in range(0x0001, 0x10000):
        is_warning = code in (0x0001, 0x0107, 0x0116) or code >> 12 == 0xB
        assert (store_status(code).kind is StatusKind.STORED_WITH_CHANGES) is is_warning, hex(code)
    for code in (0x0123, 0xFE00, 0xFF00, 0xFF01):
        assert "the Standard does not know" not in store_status(code).meaning


def test_no_row_is_out_of_reach() -> None:
    reached = {store_status(code) for code in range(0x10000)}
    assert set(STORE_STATUSES) <= reached


def test_rejections_have_words() -> None:
    for (source, reason), words in REJECTIONS.items():
        assert explain_rejection(source, reason) == words
        assert words.reason
        assert words.remedy
    assert "source 9, reason 8" in explain_rejection(9, 8).reason


def test_aborts_have_words() -> None:
    for reason, words in ABORT_REASONS.items():
        assert explain_abort(2, reason) == words
        assert words.reason
        assert words.remedy
    assert explain_abort(0, 5) == explain_abort(0, 0)
    assert "source 2, reason 9" in explain_abort(2, 9).reason
