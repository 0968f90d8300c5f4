"""Damaged and hostile indexes never surprise: what is listed can be read, or says why not.

At night half a million libraries are listed and read: 250,000 with hostile values, 250,000 with
flipped bits and cut ends. Each has its memory measured by itself.
"""

from __future__ import annotations

import os
import resource
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
from dcmvault.sources.horos import index as index_copy
from dcmvault.sources.horos.paths import DATABASE_FOLDER, ROI_FOLDER, file_of_row
from dcmvault.sources.horos.uid import decode_uid
from dcmvault.sources.local_files import can_be_a_path
from dcmvault.testing.horos_library import build_library

#: More than reading a library of this size may need, on top of what the process has.
_MEMORY_KB = 100 << 10
#: The index was last written (seconds since 1970) long ago, so that nobody waits for it to settle.
_LONG_AGO = 1_000_000_000
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
    """A library, of which each case gets another index; a second copy of that is taken at once."""
    base = build_library(tmp_path_factory.mktemp("made") / "Horos Data").base
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_copy, "_FIRST_WAIT_S", 0)
        yield base


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Look that the process never had much more than it has now."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is, from now on
    before = _peak_kb()
    yield
    assert _peak_kb() < before + _MEMORY_KB


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


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
    os.utime(base / "Database.sql", (_LONG_AGO, _LONG_AGO))
    with _bounded_memory():
        _list(base, folder)


def _list(base: Path, folder: Path) -> None:
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
    scratch.mkdir(exist_ok=True)
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
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA synchronous = OFF")
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
@pytest.mark.timeout(0)
@settings(_CALM, max_examples=250_000)
@given(changes=_CHANGES)
def test_hostile_values_in_a_campaign(
    library: Path,
    index: _Index,
    tmp_path: Path,
    changes: list[tuple[tuple[str, str], int, object]],
) -> None:
    _hostile_values(library, index, tmp_path, changes)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@settings(_CALM, max_examples=250_000)
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
