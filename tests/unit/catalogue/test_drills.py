"""Drills that are written down."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dcmvault.catalogue import open_catalogue
from dcmvault.model.drill import Drill, DrilledStudy
from dcmvault.model.identifiers import RunId

AT = datetime(2026, 1, 31, 8, tzinfo=UTC)
GOOD = DrilledStudy("1.2", 3, 3000, 0.5)
BAD = DrilledStudy("1.3", 1, 1000, 0.5, "a part of it is damaged")


def test_the_newest_of_each_place_counts(tmp_path: Path) -> None:
    catalogue = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    book = catalogue.restores
    first = Drill("vault:/a", AT, (GOOD, BAD), 10, 40_000, 1.5)
    second = replace(first, drilled_at=AT + timedelta(days=1), studies=(GOOD,))
    other = replace(first, place="vault:/b", whole_bytes=0)
    for drill in (first, other, second):
        book.record_drill(drill)
    assert book.latest_drills() == [second, other]
    assert book.recent_drills(2) == [second, other]
    assert book.recent_drills(10) == [second, other, first]
    assert second.passed
    assert not first.passed
    # A second for 4,000 bytes, and 40,000 in all; opening is needed once.
    assert first.recovery_s == 1.5 + 10.0
    assert other.recovery_s is None
    with pytest.raises(KeyError):
        next(book.held_files(RunId("none")))
    catalogue.close()
