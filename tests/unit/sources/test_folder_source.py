from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dcmvault.config.sections import FolderSourceSection
from dcmvault.errors import SourceUnavailableError
from dcmvault.model.instance import Claim, InstanceEntry, InstanceFile, StudyRef, UnreadableEntry
from dcmvault.model.remarks import SourceRemarks
from dcmvault.sources import local_files
from dcmvault.sources.folder import FolderSource


def source_of(root: Path) -> FolderSource:
    return FolderSource(FolderSourceSection(path=root))


def entries_of(source: FolderSource) -> list[InstanceEntry]:
    return [entry for study in source.studies() for entry in source.entries(study)]


def locators_of(source: FolderSource) -> list[str]:
    return [entry.locator for entry in entries_of(source)]


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that users without privileges can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root may list everything: become somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_order_is_depth_first_by_name(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a/z/1", "a/1", "0", "a b/1"):
        touch(tmp_path / name)
    source = source_of(tmp_path)
    assert [s.locator for s in source.studies()] == [".", "a", "a/z", "a b", "b"]
    assert locators_of(source) == ["0", "a/1", "a/z/1", "a b/1", "b/1", "b/2"]


def test_litter_is_listed_but_not_as_dicom(tmp_path: Path) -> None:
    for name in ("x/DICOMDIR", "x/.DS_Store", "x/._1.dcm", "x/1.dcm"):
        touch(tmp_path / name)
    claims = {entry.locator: entry.claim for entry in entries_of(source_of(tmp_path))}
    assert claims == {
        "x/DICOMDIR": Claim.OTHER,
        "x/.DS_Store": Claim.OTHER,
        "x/._1.dcm": Claim.OTHER,
        "x/1.dcm": Claim.DICOM,
    }


def test_trash_and_special_files_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path / ".Trashes" / "501" / "1.dcm")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert list(source_of(tmp_path).studies()) == []


def test_links_are_not_followed_and_those_leading_out_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "root"
    touch(root / "a" / "1")
    touch(tmp_path / "root2" / "1")
    (root / "to file").symlink_to(root / "a" / "1")
    (root / "a" / "to folder").symlink_to(root / "a")
    (root / "loop").symlink_to(root)
    (root / "out").symlink_to(tmp_path / "root2")
    (root / "out file").symlink_to(tmp_path / "root2" / "1")
    (root / "broken").symlink_to(root / "nothing")
    with caplog.at_level(logging.WARNING):
        assert locators_of(source_of(root)) == ["a/1"]
    assert [record.getMessage() for record in caplog.records] == [
        "2 symbolic links lead out of the source folder and were not followed"
    ]


def test_root_may_be_a_link_and_names_are_canonical(tmp_path: Path) -> None:
    touch(tmp_path / "root" / "1")
    (tmp_path / "link").symlink_to("root")
    assert locators_of(source_of(tmp_path / "link")) == ["1"]
    assert source_of(tmp_path / "link").name == str((tmp_path / "root").resolve())
    assert source_of(tmp_path / "link" / ".." / "root").name == source_of(tmp_path / "root").name


def test_folder_that_cannot_be_listed_is_reported(open_folder: Path) -> None:
    root = open_folder / "root"
    touch(root / "a" / "1")
    touch(root / "closed" / "2")
    touch(root / "lost+found" / "3")
    (root / "closed").chmod(0o000)
    (root / "lost+found").chmod(0o000)
    source = source_of(root)
    with without_privileges():
        assert list(source.studies()) == [StudyRef("a"), StudyRef("closed")]
        answers = list(source.read(entries_of(source)))
    assert isinstance(answers[0], InstanceFile)
    assert isinstance(answers[1], UnreadableEntry)
    assert (answers[1].entry.locator, answers[1].code) == ("closed", "unreadable")
    assert "ermission" in answers[1].message
    remarks = source.remarks()
    assert not remarks.lists_all, "nothing is gone only because its folder cannot be listed"
    assert remarks.warnings == (local_files.NOT_ALL_LISTED,)
    (root / "closed").chmod(0o755)
    entries_of(source)
    assert source.remarks().lists_all


def test_a_folder_that_only_root_may_list_hides_nothing(open_folder: Path) -> None:
    touch(open_folder / "root" / "a" / "1")
    touch(open_folder / "root" / "lost+found" / "3")
    (open_folder / "root" / "lost+found").chmod(0o000)
    source = source_of(open_folder / "root")
    with without_privileges():
        entries_of(source)
    assert source.remarks() == SourceRemarks()


def test_files_that_cannot_be_examined_are_listed(open_folder: Path) -> None:
    root = open_folder / "root"
    touch(root / "a" / "1")
    touch(root / "b" / "2").chmod(0o000)
    (root / "a").chmod(0o644)
    source = source_of(root)
    with without_privileges():
        answers = list(source.read(entries_of(source)))
    assert [(a.entry.locator, isinstance(a, UnreadableEntry) and a.code) for a in answers] == [
        ("a/1", "unreadable"),
        ("b/2", "unreadable"),
    ]


def test_root_without_permission(open_folder: Path) -> None:
    root = open_folder / "root"
    root.mkdir(mode=0o000)
    with without_privileges(), pytest.raises(SourceUnavailableError, match="permission"):
        list(source_of(root).studies())


def test_root_that_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="not a folder"):
        list(source_of(touch(tmp_path / "file")).studies())


def test_empty_root_is_empty(tmp_path: Path) -> None:
    assert list(source_of(tmp_path).studies()) == []


def test_folder_that_vanishes_while_listing_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1")
    source = source_of(tmp_path)
    studies = list(source.studies())
    shutil.rmtree(tmp_path / "a")
    assert list(source.entries(studies[0])) == []


def test_volume_that_goes_away_is_no_deletion(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root / "a" / "1")
    touch(root / "b" / "2")
    source = source_of(root)
    studies = source.studies()
    entries = list(source.entries(next(studies)))
    root.rename(tmp_path / "elsewhere")
    root.mkdir()  # what a mount point looks like when nothing is mounted
    with pytest.raises(SourceUnavailableError, match="went away"):
        list(studies)
    with pytest.raises(SourceUnavailableError, match="went away"):
        list(source.entries(StudyRef("a")))
    (answer,) = source.read(entries)
    assert isinstance(answer, UnreadableEntry)
    assert answer.code == "unreadable"


def test_fifo_in_the_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    path = touch(tmp_path / "1")
    source = source_of(tmp_path)
    entries = entries_of(source)
    path.unlink()
    os.mkfifo(path)
    (answer,) = source.read(entries)
    assert isinstance(answer, UnreadableEntry)
    assert answer.code == "changed_while_reading"


def test_a_folder_is_listed_once_by_who_goes_on_to_its_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second pass over entries, and one after the walk, see what is there by then."""
    for name in ("a/1", "a/2", "b/3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    listed: list[str] = []
    real = local_files.list_folder

    def noted(path: str) -> local_files.FolderListing | None:
        listed.append(path)
        return real(path)

    monkeypatch.setattr(local_files, "list_folder", noted)
    source = FolderSource(FolderSourceSection(path=tmp_path))
    seen = []
    for study in source.studies():
        seen += [entry.locator for entry in source.entries(study)]
        (tmp_path / study.locator / "new").write_bytes(b"x")
        seen += [entry.locator for entry in source.entries(study) if "new" in entry.locator]
    assert seen == ["a/1", "a/2", "a/new", "b/3", "b/new"]
    assert len(listed) == 3 + 2
