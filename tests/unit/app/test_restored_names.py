from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmvault.app.hashed_keys import HashedKeys
from dcmvault.app.restored_names import PathRegister, safe_parts, source_folders
from dcmvault.model.restored import Parts

HOSTILE = {
    "../../etc/passwd": ("etc", "passwd"),
    "/etc/passwd": ("etc", "passwd"),
    "a/./b//c": ("a", "b", "c"),
    "C:/x/D:y": ("x", "y"),
    "C:..": ("file",),
    "a:b": ("b",),
    "..": ("file",),
    "": ("file",),
    "new\nline\x00\x7f": ("new_line__",),
    "CON": ("CON_",),
    "aux.dcm": ("aux_.dcm",),
    "console": ("console",),
    ".dcmvault-Restore/lock": (".dcmvault-Restore_", "lock"),
    "com1/lpt9.x": ("com1_", "lpt9_.x"),
    "dicom://AET@pacs/1.2.3": ("dicom:", "AET@pacs", "1.2.3"),
    r"back\\slash": ("back\\slash",),
    r"latin-\xe9.dcm": (os.fsdecode(b"latin-\xe9.dcm"),),
    r"x\x2fy": (r"x\x2fy",),
    "日本/ação": ("日本", "ação"),
}


@pytest.mark.parametrize(("locator", "parts"), HOSTILE.items())
def test_locators_become_paths_below_the_folder(locator: str, parts: Parts) -> None:
    assert safe_parts(locator) == parts


@given(st.one_of(st.text(), st.text(alphabet="./\\:aC~x2e9\0\n")))
def test_no_locator_leads_out(locator: str) -> None:
    parts = safe_parts(locator)
    assert parts
    for part in parts:
        assert os.fsencode(part) not in {b"", b".", b".."}
        assert "/" not in part
        assert "\0" not in part
        assert len(os.fsencode(part)) <= 240
    path = Path("/top/of/all", *parts)
    assert Path(os.path.normpath(path)).is_relative_to("/top/of/all")


def test_long_names_stay_apart() -> None:
    names = {safe_parts("x" * 1000 + end)[0] for end in ("1", "2", "é" * 100)}
    assert len(names) == 3


def test_every_source_has_a_folder_of_its_own() -> None:
    assert source_folders(["/b/ct", "/a/ct", "horos:/x/Horos Data", "/"]) == {
        "/": "1-file",
        "/a/ct": "2-ct",
        "/b/ct": "3-ct",
        "horos:/x/Horos Data": "4-Horos Data",
    }


def placed(files: Mapping[str, tuple[Parts, str]], *, folds_case: bool = False) -> dict[str, Parts]:
    """Give names to files: by content, (path, time)."""
    register = PathRegister(folds_case)
    for parts, _time in files.values():
        register.note(parts)
    if register.close():
        for content, (parts, time) in files.items():
            register.contend(parts, time, content.encode())
    return {
        content: register.place(parts, content.encode())
        for content, (parts, _time) in files.items()
    }


def test_the_newest_keeps_a_name_that_several_want() -> None:
    files = {
        "old": (("a", "x.dcm"), "2026-01"),
        "new": (("a", "x.dcm"), "2026-03"),
        "between": (("a", "x.dcm"), "2026-02"),
        "other": (("b", "x.dcm"), "2026-01"),
    }
    assert placed(files) == {
        "new": ("a", "x.dcm"),
        "between": ("a", "x~2.dcm"),
        "old": ("a", "x~3.dcm"),
        "other": ("b", "x.dcm"),
    }
    assert placed(dict(reversed(files.items()))) == placed(files)


def test_a_number_that_is_a_name_already_is_left_to_it() -> None:
    files = {
        "1": (("x",), "2"),
        "2": (("x",), "1"),
        "3": (("x~2",), "1"),
    }
    assert placed(files) == {"1": ("x",), "2": ("x~3",), "3": ("x~2",)}


def test_a_folder_wins_over_a_file_of_its_name() -> None:
    files = {"file": (("a", "b.c"), "1"), "below": (("a", "b.c", "d"), "1")}
    assert placed(files) == {"file": ("a", "b~2.c"), "below": ("a", "b.c", "d")}


def test_names_that_differ_in_case_are_one_where_the_disk_says_so() -> None:
    files = {"1": (("A", "x.DCM"), "2"), "2": (("a", "X.dcm"), "1")}
    assert placed(files) == {"1": ("A", "x.DCM"), "2": ("a", "X.dcm")}
    assert placed(files, folds_case=True) == {"1": ("A", "x.DCM"), "2": ("a", "X~2.dcm")}


def test_hidden_files_have_no_suffix() -> None:
    files = {"1": ((".hidden",), "2"), "2": ((".hidden",), "1")}
    assert placed(files)["2"] == (".hidden~2",)


@given(
    st.dictionaries(
        st.integers().map(str),
        st.tuples(
            st.lists(st.sampled_from(["a", "A", "a~2", "b.x", "b~2.x"]), min_size=1, max_size=3),
            st.sampled_from("123"),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_no_two_files_get_one_name(
    files: dict[str, tuple[list[str], str]], folds_case: bool
) -> None:
    found = placed(
        {content: (tuple(parts), time) for content, (parts, time) in files.items()},
        folds_case=folds_case,
    )
    paths = list(found.values())
    if folds_case:
        paths = [tuple(part.casefold() for part in path) for path in paths]
    assert len(set(paths)) == len(paths)
    folders = {path[:depth] for path in paths for depth in range(1, len(path))}
    assert not folders & set(paths)


def test_keys_that_repeat() -> None:
    keys = HashedKeys()
    for key in ("a", "b", "a", "c"):
        keys.note(key)
    keys.close()
    assert [key for key in "abcd" if keys.may_repeat(key)] == ["a"]
    assert keys.has_hash(hash("b"))
    assert not keys.has_hash(hash("d"))
    empty = HashedKeys()
    empty.close()
    assert not empty.may_repeat("a")
    assert not empty.has_hash(hash("a"))
