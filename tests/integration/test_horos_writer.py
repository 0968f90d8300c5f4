"""A library is read while the viewer writes its index: no lock, no wrong row, no file left."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcmvault.config.sections import HorosSourceSection
from dcmvault.sources.horos import HorosSource
from dcmvault.testing.horos_library import build_library
from dcmvault.testing.horos_writer import FIRST_NUMBER, IMAGES, STUDIES, study_uid, writing
from dcmvault.testing.source_suite import opened_files


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_an_index_that_is_being_written_is_read_200_times(
    tmp_path: Path, journal_mode: str
) -> None:
    facts = build_library(tmp_path / "Horos Data", journal_mode=journal_mode)
    before = _names(facts.base)
    source = HorosSource(HorosSourceSection(path=facts.base))
    of_the_library = {*facts.files, *facts.missing}
    seen: set[frozenset[str]] = set()
    with writing(facts.base) as report, opened_files([facts.base]) as opened:
        for _ in range(200):
            listing = {study: list(source.entries(study)) for study in source.studies()}
            written = {
                study.study_instance_uid: entries
                for study, entries in listing.items()
                if study.locator.removeprefix("study/") not in facts.studies
                and study.study_instance_uid
            }
            others = {
                entry.locator
                for study, entries in listing.items()
                if study.study_instance_uid not in written
                for entry in entries
            }
            assert others == of_the_library
            # One state that was committed, whole: so many studies that follow each other.
            assert len(written) == STUDIES
            numbers = sorted(
                int(entry.locator.rpartition("/")[2].removesuffix(".dcm")) - FIRST_NUMBER
                for entries in written.values()
                for entry in entries
            )
            first = numbers[0] // IMAGES
            assert numbers == list(range(first * IMAGES, (first + STUDIES) * IMAGES))
            assert set(written) == {study_uid(first + number) for number in range(STUDIES)}
            seen.add(frozenset(written))
    assert report.transactions > 10
    assert len(seen) > 10, "the index did change while it was read"
    assert report.locked == 0, "no lock was ever held on the live index"
    assert not [path for path in opened if path.endswith("(as a database)")]
    journals = {f"Database.sql-{part}" for part in ("journal", "wal", "shm")}
    assert _names(facts.base) - before <= journals
