"""Damaged and hostile indexes never surprise: what is listed can be read, or says why not."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dcmvault.config.sections import HorosSourceSection
from dcmvault.errors import SourceUnavailableError
from dcmvault.model.instance import InstanceEntry, InstanceFile
from dcmvault.sources.horos import HorosSource
from dcmvault.sources.horos.paths import DATABASE_FOLDER, ROI_FOLDER, file_of_row
from dcmvault.sources.horos.uid import decode_uid
from dcmvault.sources.local_files import can_be_a_path
from dcmvault.testing.horos_library import build_library

#: More than reading a library of this size may need, on top of what tests before it needed.
_MEMORY_KB = 100 << 10
_CALM = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

_TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "../../../etc/passwd",
            "../outside",
            "1/../../../outside",
            "/etc/passwd",
            "/dev/zero",
            "/",
            "//",
            "",
            ".",
            "..",
            "1.dcm/..",
            "9" * 400 + ".dcm",
            "-1.jpg",
            "\0",
            "1\0.dcm",
            "\ud7ff.dcm",
            "x" * 5000,
        ]
    ),
)
_VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=80),
    _TEXTS,
)
_COLUMNS = {
    "ZIMAGE": (
        "ZPATHNUMBER",
        "ZPATHSTRING",
        "ZCOMPRESSEDSOPINSTANCEUID",
        "ZSERIES",
        "ZINSTANCENUMBER",
        "ZSTOREDFILETYPE",
        "ZSTOREDINDATABASEFOLDER",
    ),
    "ZSERIES": ("ZSTUDY", "ZSERIESDICOMUID", "ZSERIESINSTANCEUID", "ZID", "ZMODALITY", "ZNAME"),
    "ZSTUDY": (
        "ZSTUDYINSTANCEUID",
        "ZNAME",
        "ZPATIENTID",
        "ZDATEADDED",
        "ZLOCKEDSTUDY",
        "ZCOMMENT",
    ),
}
_CHANGES = st.lists(
    st.sampled_from(
        [(table, column) for table, columns in _COLUMNS.items() for column in columns]
    ).flatmap(lambda place: st.tuples(st.just(place), st.integers(0, 12), _VALUES)),
    min_size=1,
    max_size=8,
)
_FLIPS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=12
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A library, of which each case gets another index; memory is bounded for all of them."""
    base = build_library(tmp_path_factory.mktemp("made") / "Horos Data").base
    list(HorosSource(HorosSourceSection(path=base)).studies())
    # What earlier tests left would let garbage pile up: a full collection waits until as much as
    # a quarter of it is new.
    gc.collect()
    gc.freeze()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield base
    gc.unfreeze()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + _MEMORY_KB


@contextmanager
def _temporary(folder: Path) -> Iterator[None]:
    """Look that nothing is left in the folder for temporary files."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
        assert not list(folder.iterdir())
    finally:
        tempfile.tempdir = before


def _list_or_refuse(base: Path, folder: Path) -> None:
    source = HorosSource(HorosSourceSection(path=base))
    entries: list[InstanceEntry] = []
    with _temporary(folder):
        with suppress(SourceUnavailableError):
            for study in source.studies():
                entries += source.entries(study)
        source.remarks()
    locators = [entry.locator for entry in entries]
    assert len(set(locators)) == len(locators)
    inside = (f"{DATABASE_FOLDER}/", f"{ROI_FOLDER}/", "no-file/")
    for entry in entries:
        assert entry.locator.encode()
        # Nothing outside the library but linked files, by their own absolute paths.
        assert entry.locator.startswith(("/", *inside)) or entry.locator in inside
        assert ".." not in entry.locator.split("/")
        if entry.indexed is not None:
            assert entry.indexed.sop_instance_uid == entry.expected_sop_instance_uid
    for answer in source.read(entries):
        if isinstance(answer, InstanceFile):
            assert answer.path.is_file()
            path = os.path.normpath(answer.path)
            assert answer.entry.locator.startswith("/") or path.startswith(f"{base}/")


def _with_index(library: Path, folder: Path, content: bytes) -> Path:
    index = library / "Database.sql"
    index.write_bytes(content)
    for part in ("-journal", "-wal", "-shm"):
        (library / f"Database.sql{part}").unlink(missing_ok=True)
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    return scratch


@dataclass(frozen=True)
class _Index:
    """The library's index before it is changed; left out of what a failed case prints."""

    content: bytes = field(repr=False)


@pytest.fixture(scope="module")
def index(library: Path) -> _Index:
    return _Index((library / "Database.sql").read_bytes())


def _hostile_values(
    library: Path,
    index: _Index,
    tmp_path: Path,
    changes: list[tuple[tuple[str, str], int, object]],
) -> None:
    scratch = _with_index(library, tmp_path, index.content)
    with closing(sqlite3.connect(library / "Database.sql", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for (table, column), row, value in changes:
            connection.execute(
                f"UPDATE {table} SET {column} = ?"
                f" WHERE Z_PK = (SELECT Z_PK FROM {table} ORDER BY Z_PK LIMIT 1 OFFSET ?)",
                (value, row),
            )
        connection.execute("COMMIT")
    _list_or_refuse(library, scratch)


def _damage(
    library: Path, index: _Index, tmp_path: Path, flips: list[tuple[float, int]], keep: float
) -> None:
    content = bytearray(index.content)
    for where, mask in flips:
        content[int(where * len(content))] ^= mask
    if keep < 0.5:
        del content[int(len(content) * 2 * keep) :]
    _list_or_refuse(library, _with_index(library, tmp_path, bytes(content)))


@settings(_CALM, max_examples=150)
@given(changes=_CHANGES)
def test_hostile_values(
    library: Path,
    index: _Index,
    tmp_path: Path,
    changes: list[tuple[tuple[str, str], int, object]],
) -> None:
    _hostile_values(library, index, tmp_path, changes)


@settings(_CALM, max_examples=150)
@given(flips=_FLIPS, keep=st.floats(0, 1))
@example(flips=[(0.03125, 128)], keep=1.0)  # a verdict on damage that is not UTF-8
def test_flipped_bits_and_cut_ends(
    library: Path, index: _Index, tmp_path: Path, flips: list[tuple[float, int]], keep: float
) -> None:
    _damage(library, index, tmp_path, flips, keep)


@pytest.mark.nightly
@settings(_CALM, max_examples=50_000)
@given(changes=_CHANGES)
def test_hostile_values_in_a_campaign(
    library: Path,
    index: _Index,
    tmp_path: Path,
    changes: list[tuple[tuple[str, str], int, object]],
) -> None:
    _hostile_values(library, index, tmp_path, changes)


@pytest.mark.nightly
@settings(_CALM, max_examples=50_000)
@given(flips=_FLIPS, keep=st.floats(0, 1))
def test_flipped_bits_and_cut_ends_in_a_campaign(
    library: Path, index: _Index, tmp_path: Path, flips: list[tuple[float, int]], keep: float
) -> None:
    _damage(library, index, tmp_path, flips, keep)


@settings(max_examples=2000, deadline=None)
@given(packed=_VALUES)
def test_packed_uids(packed: object) -> None:
    uid = decode_uid(packed)
    assert set(uid) <= set("0123456789.")
    assert len(uid) <= 160


@settings(max_examples=2000, deadline=None)
@given(number=_VALUES, text=_VALUES, folder_size=st.integers(1, 100_000))
def test_paths_of_rows(number: object, text: object, folder_size: int) -> None:
    path = file_of_row(number, text, folder_size)
    assert path == "" or can_be_a_path(path)
    assert path == "" or path.startswith(("/", f"{DATABASE_FOLDER}/"))
