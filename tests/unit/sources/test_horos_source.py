from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dcmvault.config.sections import HorosSourceSection
from dcmvault.dicom.part10 import scan
from dcmvault.errors import SourceEmptyError, SourceUnavailableError
from dcmvault.model.instance import (
    Claim,
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    StudyRef,
    UnreadableEntry,
)
from dcmvault.model.remarks import SourceRemarks
from dcmvault.sources.horos import HorosSource
from dcmvault.sources.horos.library import ORPHANS
from dcmvault.sources.local_files import NOT_ALL_LISTED
from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.testing.horos_application import open_transaction, uncheckpointed_study
from dcmvault.testing.horos_library import LibraryFacts, add_study, build_library
from dcmvault.testing.source_suite import opened_files


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, of which nothing may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def facts(tmp_path: Path) -> LibraryFacts:
    return build_library(tmp_path / "Horos Data")


def source_of(facts: LibraryFacts) -> HorosSource:
    return HorosSource(HorosSourceSection(path=facts.base))


def listing_of(source: HorosSource) -> dict[StudyRef, list[InstanceEntry]]:
    return {study: list(source.entries(study)) for study in source.studies()}


def entries_of(source: HorosSource) -> dict[str, InstanceEntry]:
    return {e.locator: e for entries in listing_of(source).values() for e in entries}


def change_index(facts: LibraryFacts, *statements: str) -> None:
    with closing(sqlite3.connect(facts.base / "Database.sql", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def content_of(tree: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def test_finds_what_the_library_holds(facts: LibraryFacts) -> None:
    listing = listing_of(source_of(facts))
    found = {e.locator: e for entries in listing.values() for e in entries}
    assert set(found) == {*facts.files, *facts.missing}
    for locator, file in facts.files.items():
        assert found[locator].claim is file.claim
        assert found[locator].expected_sop_instance_uid == file.indexed_sop_instance_uid
        assert found[locator].fingerprint.size == file.path.stat().st_size
    for locator in facts.missing:
        assert found[locator].fingerprint == Fingerprint(0, 0, 0)


def test_studies_are_uids_and_orphans_come_last(facts: LibraryFacts) -> None:
    listing = listing_of(source_of(facts))
    *studies, last = listing
    assert last == ORPHANS
    assert {e.locator for e in listing[ORPHANS]} == facts.orphans
    assert [s.locator for s in studies] == sorted(f"study/{uid}" for uid in facts.studies)
    assert StudyRef("study/photograph", "") in studies
    for study in studies:
        locators = [entry.locator for entry in listing[study]]
        uid = study.locator.removeprefix("study/")
        assert set(locators) - set(facts.missing) == facts.of_study(uid)


def test_the_index_tells_of_instances_unless_it_leaves_a_doubt(facts: LibraryFacts) -> None:
    """Not of merged series, rows without a UID, photographs, and files without a row."""
    found = entries_of(source_of(facts))
    told = {locator: e.indexed for locator, e in found.items() if e.indexed is not None}
    in_doubt = {
        *facts.orphans,
        *facts.of_study(make_uid("library", "merged")),
        *facts.of_study("photograph"),
        "DATABASE.noindex/10000/402.dcm",
    }
    assert set(found) - set(told) == in_doubt
    for locator, header in told.items():
        assert not header.was_scanned
        assert header.transfer_syntax_uid == ""
        if locator in facts.missing or locator == "DATABASE.noindex/10000/401.dcm":
            continue
        scanned = scan(facts.files[locator].path)
        assert header.identity == scanned.identity
        assert header.study.patient_id == scanned.study.patient_id
    ct = told["DATABASE.noindex/10000/2.dcm"]
    assert (ct.instance_number, ct.study.patient_name) == ("2", "Doe Jane")
    assert (ct.series.modality, ct.series.series_number) == ("CT", "1")
    assert told["DATABASE.noindex/10000/100.dcm"].instance_number == "", "rows are frames"


def test_an_index_of_an_older_model_tells_of_instances_too(facts: LibraryFacts) -> None:
    """Without the key that says how rows of a series were grouped, files are asked."""
    before = entries_of(source_of(facts))
    change_index(
        facts,
        "ALTER TABLE ZSTUDY DROP COLUMN ZACCESSIONNUMBER",
        "ALTER TABLE ZSTUDY DROP COLUMN ZDATEADDED",
        "ALTER TABLE ZSERIES DROP COLUMN ZNAME",
        "ALTER TABLE ZIMAGE DROP COLUMN ZINSTANCENUMBER",
        "ALTER TABLE Z_1STUDIES RENAME TO Z_3STUDIES",
        "ALTER TABLE Z_3STUDIES RENAME COLUMN Z_5STUDIES TO Z_7STUDIES",
    )
    after = entries_of(source_of(facts))
    assert {e.locator for e in after.values() if e.indexed} == {
        e.locator for e in before.values() if e.indexed
    }
    change_index(facts, "ALTER TABLE ZSERIES DROP COLUMN ZSERIESINSTANCEUID")
    assert not any(e.indexed for e in entries_of(source_of(facts)).values())


def test_rows_that_disagree_about_a_file_leave_it_in_doubt(facts: LibraryFacts) -> None:
    """The number was used again, and an old row was left behind."""
    change_index(
        facts,
        "INSERT INTO ZIMAGE (ZPATHNUMBER, ZSERIES, ZCOMPRESSEDSOPINSTANCEUID)"
        " SELECT 1, ZSERIES, x'2b3b95' FROM ZIMAGE WHERE ZPATHNUMBER = 1",
        "INSERT INTO ZIMAGE (ZPATHNUMBER, ZSERIES, ZCOMPRESSEDSOPINSTANCEUID)"
        " SELECT 2, ZSERIES + 1, ZCOMPRESSEDSOPINSTANCEUID FROM ZIMAGE WHERE ZPATHNUMBER = 2",
    )
    found = entries_of(source_of(facts))
    for number in (1, 2):
        assert found[f"DATABASE.noindex/10000/{number}.dcm"].indexed is None
    assert found["DATABASE.noindex/10000/3.dcm"].indexed is not None


def test_locators_survive_a_rebuilt_index(facts: LibraryFacts) -> None:
    before = listing_of(source_of(facts))
    change_index(
        facts,
        "UPDATE ZIMAGE SET Z_PK = Z_PK + 1000, ZSERIES = ZSERIES + 1000",
        "UPDATE ZSERIES SET Z_PK = Z_PK + 1000, ZSTUDY = ZSTUDY + 1000",
        "UPDATE ZSTUDY SET Z_PK = Z_PK + 1000",
    )
    assert listing_of(source_of(facts)) == before


def test_new_study_is_seen_by_the_same_object(facts: LibraryFacts) -> None:
    source = source_of(facts)
    before = set(entries_of(source))
    assert set(entries_of(source)) - before == set()
    new = add_study(facts, "new")
    assert len(new) == 2
    assert set(entries_of(source)) - before == new


def test_writer_in_the_middle_of_a_transaction(facts: LibraryFacts, temporary: Path) -> None:
    expected = listing_of(source_of(facts))
    at_rest = (facts.base / "Database.sql").read_bytes()
    with open_transaction(facts):
        before = content_of(facts.base)
        assert facts.base / "Database.sql-journal" in before
        assert before[facts.base / "Database.sql"] != at_rest
        with opened_files([facts.base]) as opened:
            assert listing_of(source_of(facts)) == expected
        assert not [path for path in opened if path.endswith("(as a database)")]
        assert content_of(facts.base) == before
    assert not list(temporary.iterdir())


def test_study_that_is_only_in_the_log(tmp_path: Path, temporary: Path) -> None:
    facts = build_library(tmp_path / "OsiriX Data", journal_mode="wal")
    before = set(facts.files)
    with uncheckpointed_study(facts, "late"):
        content = content_of(facts.base)
        assert content[facts.base / "Database.sql-wal"]
        assert set(entries_of(source_of(facts))) == {*facts.files, *facts.missing}
        assert len(set(facts.files) - before) == 2
        assert facts.orphans == {e.locator for e in listing_of(source_of(facts))[ORPHANS]}
        assert content_of(facts.base) == content
    assert not list(temporary.iterdir())


def test_copy_of_the_index_is_private_and_goes_away(facts: LibraryFacts, temporary: Path) -> None:
    source = source_of(facts)
    studies = source.studies()
    first = next(studies)
    (copy,) = temporary.iterdir()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    list(source.entries(first))
    assert list(temporary.iterdir()) == [copy]
    assert list(studies)[-1] == ORPHANS
    assert not list(temporary.iterdir())

    list(source.entries(first))
    list(source.entries(ORPHANS))
    assert len(list(temporary.iterdir())) == 1
    del source
    gc.collect()
    assert not list(temporary.iterdir())


def test_columns_of_other_versions(facts: LibraryFacts) -> None:
    expected = entries_of(source_of(facts))
    change_index(
        facts,
        *(f"ALTER TABLE ZIMAGE DROP COLUMN ZCOMMENT{n}" for n in (2, 3, 4)),
        "ALTER TABLE ZIMAGE DROP COLUMN ZGENERATEDBYOSIRIX",
        "ALTER TABLE ZSERIES DROP COLUMN ZKEYSERIES",
        "ALTER TABLE ZSTUDY ADD COLUMN ZDATEOFBIRTHSTRING VARCHAR",
        "UPDATE Z_PRIMARYKEY SET Z_ENT = Z_ENT + 10",
    )
    assert entries_of(source_of(facts)) == expected
    change_index(
        facts,
        "ALTER TABLE ZIMAGE DROP COLUMN ZCOMPRESSEDSOPINSTANCEUID",
        "ALTER TABLE ZIMAGE DROP COLUMN ZSTOREDFILETYPE",
    )
    found = entries_of(source_of(facts))
    assert list(found) == list(expected)
    assert {e.expected_sop_instance_uid for e in found.values()} == {""}
    assert {e.claim for e in found.values()} == {Claim.DICOM}


def test_rows_without_a_study_or_a_file(facts: LibraryFacts) -> None:
    before = set(entries_of(source_of(facts)))
    packed = "x'2b3b95'"
    change_index(
        facts,
        f"INSERT INTO ZIMAGE (ZCOMPRESSEDSOPINSTANCEUID) VALUES ({packed})",
        "INSERT INTO ZIMAGE (ZPATHNUMBER) VALUES (777)",
        "INSERT INTO ZIMAGE (ZFRAMEID) VALUES (0)",
    )
    source = source_of(facts)
    listing = listing_of(source)
    detached = listing[StudyRef("study/")]
    assert [e.locator for e in detached] == ["no-file/1.2.84", "DATABASE.noindex/10000/777.dcm"]
    assert set(entries_of(source)) - before == {e.locator for e in detached}
    assert not any(isinstance(answer, InstanceFile) for answer in source.read(detached))


def test_file_that_two_studies_name_is_listed_once(facts: LibraryFacts) -> None:
    before = entries_of(source_of(facts))
    change_index(
        facts,
        "INSERT INTO ZIMAGE (ZPATHNUMBER, ZSERIES) SELECT 1, Z_PK FROM ZSERIES",
        f"UPDATE ZIMAGE SET ZPATHNUMBER = NULL, ZPATHSTRING = '{facts.data.resolve()}"
        "/DATABASE.noindex/10000/200.dcm' WHERE ZPATHNUMBER = 200",
    )
    source = source_of(facts)
    found = [entry.locator for entries in listing_of(source).values() for entry in entries]
    assert sorted(found) == sorted(before)


def test_legacy_regions_of_interest_are_found(facts: LibraryFacts) -> None:
    name = "1.2.3 1-0.dcm"
    make_instance(facts.data / "ROIs" / name, make_uid(1), make_uid(2), make_uid(3), modality="SR")
    assert f"ROIs/{name}" in {e.locator for e in listing_of(source_of(facts))[ORPHANS]}


def test_paths_and_uids_that_are_not_utf8(facts: LibraryFacts) -> None:
    path = os.fsencode(facts.base.parent.resolve()) + b"/\xe9.dcm"
    Path(os.fsdecode(path)).write_bytes(b"x")
    change_index(
        facts,
        "INSERT INTO ZSTUDY (Z_PK, ZSTUDYINSTANCEUID) VALUES (900, CAST(x'e9' AS TEXT))",
        "INSERT INTO ZSERIES (Z_PK, ZSTUDY) VALUES (900, 900)",
        f"INSERT INTO ZIMAGE (ZSERIES, ZPATHSTRING) VALUES (900, CAST(x'{path.hex()}' AS TEXT))",
    )
    source = source_of(facts)
    (entry,) = listing_of(source)[StudyRef("study/\\xe9")]
    (answer,) = source.read([entry])
    assert isinstance(answer, InstanceFile)
    assert answer.path.read_bytes() == b"x"


def _damage(facts: LibraryFacts, damage: str) -> None:
    index = facts.base / "Database.sql"
    content = bytearray(index.read_bytes())
    if damage == "missing":
        index.unlink()
        return
    if damage == "other application":
        change_index(facts, "ALTER TABLE ZSTUDY RENAME TO ZOTHER")
        return
    if damage == "no database":
        content[:16] = b"x" * 16
    elif damage == "torn page":
        content[4096 * 3 : 4096 * 9] = b"\xa5" * (4096 * 6)
    else:
        content.clear()
    index.write_bytes(content)


@pytest.mark.parametrize(
    "damage", ["missing", "no database", "torn page", "empty", "other application"]
)
def test_without_a_usable_index_every_file_of_the_library_is_found(
    facts: LibraryFacts, temporary: Path, damage: str
) -> None:
    """Rescue: nothing is concluded from what is not listed, such as linked files."""
    _damage(facts, damage)
    before = content_of(facts.base)
    source = source_of(facts)
    listing = listing_of(source)
    assert list(listing) == [ORPHANS]
    inside = {locator for locator in facts.files if not locator.startswith("/")}
    assert {entry.locator for entry in listing[ORPHANS]} == inside
    read = list(source.read(listing[ORPHANS]))
    assert all(isinstance(answer, InstanceFile) for answer in read)
    remarks = source.remarks()
    assert not remarks.lists_all
    reason, warning = remarks.warnings
    assert "(Database.sql)" in reason
    assert warning.startswith("Every file in DATABASE.noindex was looked at instead")
    assert content_of(facts.base) == before
    assert not list(temporary.iterdir())


def test_what_is_worth_a_word(facts: LibraryFacts) -> None:
    source = source_of(facts)
    assert source.remarks() == SourceRemarks()
    listing_of(source)
    assert source.remarks() == SourceRemarks(
        (
            "2 files lie in the library that its index does not name. They are backed up, too.",
            "1 files that the library's index names are not there.",
        )
    )
    incoming = facts.data / "INCOMING.noindex"
    (incoming / "folder").mkdir()
    for name in ("folder/a.dcm", "b.dcm", ".half"):
        (incoming / name).touch()
    (facts.base / "Loading").touch()
    (facts.data / "DATABASE.noindex/10000/.400.dcm.icloud").write_bytes(b"bplist00")
    listing_of(source)
    assert source.remarks().warnings[2:] == (
        "1 files of the library are in the cloud only. Have the system keep the library on this"
        " machine.",
        "2 files wait in INCOMING.noindex. They are backed up when the viewer has imported them.",
        "The viewer is starting, or crashed when it did (the file Loading).",
    )


def test_nothing_is_concluded_from_a_folder_that_cannot_be_listed(
    facts: LibraryFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def failing(path: str) -> object:
        if str(path).endswith("/DATABASE.noindex/10000"):
            raise OSError(5, "Input/output error")
        return real(path)

    source = source_of(facts)
    monkeypatch.setattr(os, "scandir", failing)
    listing_of(source)
    assert not source.remarks().lists_all
    assert source.remarks().warnings[-1] == NOT_ALL_LISTED
    monkeypatch.setattr(os, "scandir", real)
    listing_of(source)
    assert source.remarks().lists_all


def test_a_linked_file_whose_volume_is_not_there_is_not_called_gone(facts: LibraryFacts) -> None:
    source = source_of(facts)
    linked = [entry for name, entry in entries_of(source).items() if name.startswith("/")]
    lost = next(entry for entry in linked if entry.fingerprint != Fingerprint(0, 0, 0))
    path = Path(lost.locator)
    path.unlink()
    (answer,) = source.read([lost])
    assert isinstance(answer, UnreadableEntry)
    assert answer.code == "vanished"
    shutil.rmtree(path.parent)
    (answer,) = source.read([lost])
    assert isinstance(answer, UnreadableEntry)
    assert answer.code == "unreadable"
    assert "not mounted" in answer.message


def test_what_waits_to_be_imported_is_no_part_of_the_library(facts: LibraryFacts) -> None:
    make_instance(facts.data / "INCOMING.noindex/a.dcm", make_uid(1), make_uid(2), make_uid(3))
    assert not any("INCOMING" in locator for locator in entries_of(source_of(facts)))


def test_more_than_many_files_to_import_are_not_all_counted(
    facts: LibraryFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcmvault.sources.horos.remarks._MANY", 3)
    for number in range(9):
        (facts.data / "INCOMING.noindex" / str(number)).touch()
    source = source_of(facts)
    listing_of(source)
    assert source.remarks().warnings[-1].startswith("More than 3 files wait in INCOMING.noindex.")


def test_studies_that_auto_clean_would_delete_first_come_first(facts: LibraryFacts) -> None:
    """Least recently added to first; locked ones, ones with comments or in albums last."""
    order = ["split", "us", "linked", "ct", "crossing"]
    for age, key in enumerate(order):
        change_index(
            facts,
            f"UPDATE ZSTUDY SET ZDATEADDED = {age} - 1000000"
            f" WHERE ZSTUDYINSTANCEUID = '{make_uid('library', key)}'",
        )
    study = "(SELECT Z_PK FROM ZSTUDY WHERE ZSTUDYINSTANCEUID = '{}')"
    change_index(
        facts,
        "UPDATE ZSTUDY SET ZLOCKEDSTUDY = 1 WHERE ZSTUDYINSTANCEUID ="
        f" '{make_uid('library', 'split')}'",
        "UPDATE ZSTUDY SET ZCOMMENT3 = 'look' WHERE ZSTUDYINSTANCEUID ="
        f" '{make_uid('library', 'us')}'",
        "INSERT INTO Z_1STUDIES VALUES (1, " + study.format(make_uid("library", "linked")) + ")",
    )
    found = [one.study_instance_uid for one in source_of(facts).studies()]
    expected = [make_uid("library", key) for key in order]
    assert found[:2] == expected[3:]
    assert found[-4:-1] == expected[:3]


def test_files_that_are_not_mounted(facts: LibraryFacts, temporary: Path) -> None:
    folder = facts.data / "DATABASE.noindex"
    shutil.rmtree(folder)
    with pytest.raises(SourceUnavailableError, match=r"DATABASE\.noindex"):
        list(source_of(facts).studies())
    folder.mkdir()
    with pytest.raises(SourceEmptyError, match="shows none"):
        list(source_of(facts).studies())
    # What the system leaves on a mount point is none of the library's files.
    (folder / ".DS_Store").touch()
    with pytest.raises(SourceEmptyError, match="shows none"):
        list(source_of(facts).studies())
    assert not list(temporary.iterdir())


def test_volume_that_goes_away_is_no_deletion(facts: LibraryFacts) -> None:
    source = source_of(facts)
    studies = source.studies()
    next(studies)
    (facts.data / "DATABASE.noindex").rename(facts.data / "elsewhere")
    with pytest.raises(SourceUnavailableError, match="went away"):
        list(source.entries(next(studies)))
    with pytest.raises(SourceUnavailableError, match="went away"):
        list(source.entries(ORPHANS))


@contextmanager
def index_touched_all_the_time(facts: LibraryFacts, seconds: float) -> Iterator[None]:
    stop = threading.Event()

    def touch() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not stop.wait(0.002):
            os.utime(facts.base / "Database.sql")

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_index_that_is_being_written_is_waited_for(facts: LibraryFacts) -> None:
    with index_touched_all_the_time(facts, 0.2):
        assert set(entries_of(source_of(facts))) == {*facts.files, *facts.missing}


@pytest.mark.nightly
def test_index_that_is_never_at_rest(facts: LibraryFacts, temporary: Path) -> None:
    with (
        index_touched_all_the_time(facts, 60),
        pytest.raises(SourceUnavailableError, match="written all the time"),
    ):
        list(source_of(facts).studies())
    assert not list(temporary.iterdir())


def test_name_is_canonical(facts: LibraryFacts, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(facts.base)
    linked = HorosSource(HorosSourceSection(path=tmp_path / "link"))
    assert linked.name == source_of(facts).name == f"horos:{facts.base.resolve()}"
