"""Two libraries compared as the viewer would read them: an oracle that shares no code with us."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

_FOLDER_SIZE = 10_000
#: Folders of a library whose files belong to it, whatever its index says.
_FOLDERS = (
    "3DPRESETS",
    "3DSTATE",
    "CLUTs",
    "DATABASE.noindex",
    "Database.momd",
    "HTML_TEMPLATES",
    "PAGES",
    "REPORTS",
    "ROIs",
)
_PATHS = ("ZPATHSTRING", "ZREPORTURL")


def library_differences(old: Path, new: Path, moved: Mapping[str, str]) -> list[str]:
    """Name what the library `new` has otherwise than `old`.

    `moved` gives the new absolute path (of a report: as its row has it) for each old one. Both
    libraries keep their files beside their index. Every row, every file that a row names, and
    every file of the library's folders are compared.
    """
    return [*_rows(old, new, moved), *_files(old, new), *_named_files(old, new)]


def _rows(old: Path, new: Path, moved: Mapping[str, str]) -> list[str]:
    before, after = _tables(old), _tables(new)
    found = [f"table {name}" for name in before.keys() ^ after.keys()]
    for name in before.keys() & after.keys():
        if len(before[name]) != len(after[name]):
            found.append(f"rows of {name}")
        for row, other in zip(before[name], after[name], strict=False):
            wanted = {
                column: moved.get(str(value), value) if column in _PATHS else value
                for column, value in row.items()
            }
            found += [
                f"{name} {row.get('Z_PK')}: {column}"
                for column in wanted
                if wanted[column] != other.get(column)
            ]
    return found


def _tables(base: Path) -> dict[str, list[dict[str, object]]]:
    with closing(sqlite3.connect(f"file:{base / 'Database.sql'}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        names = [
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {
            name: [
                dict(row)
                for row in connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2")  # noqa: S608
            ]
            if name != "Z_MODELCACHE"
            else []
            for name in names
        }


def _files(old: Path, new: Path) -> list[str]:
    before, after = (
        {
            str(path.relative_to(base)): _sha256(path)
            for folder in _FOLDERS
            for path in (base / folder).rglob("*")
            if path.is_file()
        }
        for base in (old, new)
    )
    return [f"file {name}" for name in before if before[name] != after.get(name)]


def _named_files(old: Path, new: Path) -> list[str]:
    """Follow every row to its file, by the viewer's own rule."""
    found = []
    for row, other in zip(_tables(old)["ZIMAGE"], _tables(new)["ZIMAGE"], strict=True):
        before, after = _file(old, row), _file(new, other)
        if before.is_file() and not (after.is_file() and _sha256(before) == _sha256(after)):
            found.append(f"file of image {row['Z_PK']}")
    for row, other in zip(_tables(old)["ZSTUDY"], _tables(new)["ZSTUDY"], strict=True):
        report = str(row.get("ZREPORTURL") or "")
        if report and not report.startswith("http"):
            before, after = old / report, new / str(other["ZREPORTURL"])
            if before.exists() and not after.exists():
                found.append(f"report of study {row['Z_PK']}")
    return found


def _file(base: Path, row: Mapping[str, object]) -> Path:
    number, text = row["ZPATHNUMBER"], str(row["ZPATHSTRING"] or "")
    name = text if number is None else f"{number}.dcm"
    if name.startswith("/"):
        return Path(name)
    leading = int(name.split(".")[0] or 0)
    return base / "DATABASE.noindex" / str((leading // _FOLDER_SIZE + 1) * _FOLDER_SIZE) / name


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
