"""Rows of a restored index lead to files where they are now, and nothing else is changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dcmvault.errors import SourceIndexError
from dcmvault.sources.horos.repointing import repoint_index
from dcmvault.testing.horos_library import LibraryFacts, build_library
from dcmvault.testing.horos_user_data import add_user_data, to_model_2_4


@pytest.fixture
def facts(tmp_path: Path) -> LibraryFacts:
    facts = build_library(tmp_path / "Horos Data")
    add_user_data(facts)
    return facts


def values(index: Path, column: str, table: str) -> list[object]:
    with closing(sqlite3.connect(index)) as connection:
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        query = f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL ORDER BY Z_PK"
        return [row[0] for row in connection.execute(query)]


def test_absolute_paths_are_changed(facts: LibraryFacts) -> None:
    index = facts.base / "Database.sql"
    to_model_2_4(facts)
    changed = repoint_index(
        index,
        lambda path: path.replace("linked", "moved") if path.endswith("IM1") else None,
        lambda path: f"REPORTS/{Path(path).name}",
    )
    assert changed == 2
    paths = [Path(str(path)).parts[-2:] for path in values(index, "ZPATHSTRING", "ZIMAGE")]
    assert paths[:2] == [("Horos Data linked", "IM0"), ("Horos Data moved", "IM1")]
    assert values(index, "ZREPORTURL", "ZSTUDY") == [
        "REPORTS/DOE JANE.pages",
        "REPORTS/Horos Data dictated.rtf",
        "https://ris.example/report?id=1",
    ]


def test_index_without_such_rows_stays_the_same_file(facts: LibraryFacts) -> None:
    index = facts.base / "Database.sql"
    before = index.read_bytes()
    assert repoint_index(index, lambda _path: None, lambda path: path) == 0
    assert index.read_bytes() == before
    assert not list(facts.base.glob("Database.sql-*"))


def test_paths_need_not_be_utf8(facts: LibraryFacts) -> None:
    index = facts.base / "Database.sql"
    with closing(sqlite3.connect(index)) as connection, connection:
        connection.execute(
            "UPDATE ZIMAGE SET ZPATHSTRING = CAST(x'2FFF' AS TEXT) WHERE ZPATHSTRING LIKE '%IM0'"
        )
    asked: list[str] = []
    repoint_index(index, lambda path: asked.append(path), lambda _path: None)
    assert "/\udcff" in asked


def test_index_that_is_none(tmp_path: Path) -> None:
    index = tmp_path / "Database.sql"
    index.write_bytes(b"no database" * 100)
    with pytest.raises(SourceIndexError):
        repoint_index(index, lambda _path: None, lambda _path: None)
    assert index.read_bytes() == b"no database" * 100
