from __future__ import annotations

import base64
import gc
import json
import os
import shutil
import sqlite3
import tempfile
import threading
import tracemalloc
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmvault.config.sections import FolderSourceSection, HorosSourceSection
from dcmvault.errors import SourceUnavailableError
from dcmvault.model.sidecar import SidecarFile, UnreadableSidecar, is_sidecar_name
from dcmvault.ports.source import HasSidecar
from dcmvault.sources.folder import FolderSource
from dcmvault.sources.horos import HorosSource
from dcmvault.sources.horos.sidecar_names import ReportKind, describe_report, safe_name
from dcmvault.testing.dicom_files import make_uid
from dcmvault.testing.horos_application import open_transaction, uncheckpointed_study
from dcmvault.testing.horos_library import LibraryFacts, build_library
from dcmvault.testing.horos_user_data import (
    UserData,
    add_user_data,
    smart_predicate,
    to_model_2_4,
)
from dcmvault.testing.source_suite import opened_files

INDEX = "index/Database.sql"


@dataclass(frozen=True, slots=True)
class Sidecar:
    files: dict[str, bytes]
    unreadable: dict[str, UnreadableSidecar]

    @property
    def library(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.files["library.json"])
        return document

    def study(self, uid: str) -> dict[str, Any]:
        (found,) = (x for x in self.library["studies"] if x["study_instance_uid"] == uid)
        return dict(found)


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


@pytest.fixture
def added(facts: LibraryFacts) -> UserData:
    return add_user_data(facts)


def source_of(facts: LibraryFacts) -> HorosSource:
    return HorosSource(HorosSourceSection(path=facts.base))


def read(facts: LibraryFacts) -> Sidecar:
    sidecar = Sidecar({}, {})
    for answer in source_of(facts).sidecar():
        assert is_sidecar_name(answer.name)
        assert answer.name not in sidecar.files.keys() | sidecar.unreadable.keys()
        if isinstance(answer, UnreadableSidecar):
            sidecar.unreadable[answer.name] = answer
            continue
        content = answer.path.read_bytes()
        assert len(content) == answer.size
        assert facts.base.resolve() not in answer.path.resolve().parents
        sidecar.files[answer.name] = content
    return sidecar


def change_index(facts: LibraryFacts, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(facts.base / "Database.sql")) as connection, connection:
        connection.execute(statement, values)


def content_of(tree: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def test_library_has_a_sidecar_and_a_folder_has_none(facts: LibraryFacts, tmp_path: Path) -> None:
    assert isinstance(source_of(facts), HasSidecar)
    assert not isinstance(FolderSource(FolderSourceSection(path=tmp_path)), HasSidecar)


def test_hands_out_every_file(facts: LibraryFacts, added: UserData, temporary: Path) -> None:
    before = content_of(facts.base)
    with opened_files([facts.base]) as opened:
        sidecar = read(facts)
    assert not [path for path in opened if path.endswith("(as a database)")]
    (linked,) = (name for name in sidecar.files if name.startswith("linked-reports/"))
    assert sidecar.files == added.files | {
        INDEX: (facts.base / "Database.sql").read_bytes(),
        "library.json": sidecar.files["library.json"],
        linked: b"{\\rtf1 dictated elsewhere}",
        "library/DB_VERSION": b"2.5",
    }
    assert sidecar.unreadable == {}
    assert content_of(facts.base) == before
    assert not list(temporary.iterdir())


def test_library_json_says_what_the_index_knows(facts: LibraryFacts, added: UserData) -> None:
    sidecar = read(facts)
    library = sidecar.library
    assert library["format"] == "dcmvault library"
    assert library["version"] == 1
    assert library["values_left_out"] == 0
    assert [album["name"] for album in library["albums"]] == [
        "Archived predicate",
        "Empty",
        "Just opened",
        "Teaching",
    ]
    archived, empty, smart, teaching = library["albums"]
    assert archived["smart"] is True
    assert base64.b64decode(archived["predicate"]["base64"]) == smart_predicate()
    assert empty == {"name": "Empty", "studies": []}
    assert smart["predicate"].startswith("(dateOpened >= CAST($NSDATE_TODAY")
    shared = make_uid("library", "shared")
    assert sorted(x["study_instance_uid"] for x in teaching["studies"]) == sorted(
        [added.ct_study, added.us_study, shared, shared]
    )
    assert teaching["position"] == 1

    assert sidecar.study(added.ct_study) == {
        "study_instance_uid": added.ct_study,
        "patient_uid": "DOE JANE-TEST-0001-19700131",
        "comment": "Seen; “compare”",
        "comment2": "second",
        "comment3": "0",
        "state": 4,
        "locked": True,
        "report": {
            "kind": "library",
            "location": "REPORTS/DOE JANE.pages",
            "name": "reports/DOE JANE.pages",
        },
        "date_added": "2020-01-03T08:00:00.000000Z",
        "date_opened": "2020-02-03T09:30:15.000000Z",
        "windows_state": {"base64": base64.b64encode(b"\x00\xffstate").decode()},
    }
    report = sidecar.study(added.us_study)["report"]
    assert report["kind"] == "linked"
    assert report["name"] in sidecar.files
    assert sidecar.study("photograph")["report"]["kind"] == "url"
    assert library["series"] == [
        {
            "study_instance_uid": added.ct_study,
            "patient_uid": "DOE JANE-TEST-0001-19700131",
            "series_instance_uid": added.ct_series,
            "viewer_series": f"00000001 {added.ct_series}",
            "comment": "late phase",
            "comment4": "fourth",
            "state": 2,
            "key_series": True,
            "window_level": 0.0,
            "window_width": 1500.5,
        }
    ]
    said = {
        (x["sop_instance_uid"], x.get("frame", 0)): {
            name: value for name, value in x.items() if name in {"key_image", "comment", "zoom"}
        }
        for x in library["instances"]
    }
    assert said == {
        (added.key_instance, 0): {"key_image": True, "comment": "lesion", "zoom": 2.5},
        (added.cine, 0): {"key_image": True},
        (added.cine, 3): {"key_image": True},
    }
    assert "window_level" not in library["instances"][0]


def test_older_model_says_the_same_but_for_what_it_has_not(
    facts: LibraryFacts, added: UserData
) -> None:
    newer = read(facts).library
    to_model_2_4(facts)
    older = read(facts).library
    for rows in (newer["studies"], newer["series"], newer["instances"]):
        for row in rows:
            for name in ("comment2", "comment3", "comment4", "key_series"):
                row.pop(name, None)
    assert older == newer


def test_unchanged_library_gives_the_same_bytes(facts: LibraryFacts, added: UserData) -> None:
    first = read(facts)
    assert list(read(facts).files.items()) == list(first.files.items())
    # A rebuilt index has other keys; what it says is the same.
    for table in ("ZIMAGE", "ZSERIES", "ZSTUDY", "ZALBUM"):
        change_index(facts, f"UPDATE {table} SET Z_PK = 1000 - Z_PK")
    change_index(facts, "UPDATE ZIMAGE SET ZSERIES = 1000 - ZSERIES")
    change_index(facts, "UPDATE ZSERIES SET ZSTUDY = 1000 - ZSTUDY")
    change_index(
        facts, "UPDATE Z_1STUDIES SET Z_1ALBUMS = 1000 - Z_1ALBUMS, Z_5STUDIES = 1000 - Z_5STUDIES"
    )
    assert read(facts).files["library.json"] == first.files["library.json"]


def test_writer_in_the_middle_of_a_transaction(facts: LibraryFacts, added: UserData) -> None:
    at_rest = read(facts)
    with open_transaction(facts):
        before = content_of(facts.base)
        assert before[facts.base / "Database.sql"] != at_rest.files[INDEX]
        assert read(facts) == at_rest
        assert content_of(facts.base) == before


def test_study_that_is_only_in_the_log(tmp_path: Path, temporary: Path) -> None:
    facts = build_library(tmp_path / "OsiriX Data", journal_mode="wal")
    added = add_user_data(facts)
    with uncheckpointed_study(facts, "late"):
        content = content_of(facts.base)
        sidecar = read(facts)
        assert read(facts) == sidecar
        assert content_of(facts.base) == content
    assert sidecar.study(make_uid("library", "late"))
    assert sidecar.study(added.ct_study)["locked"] is True
    assert [name for name in sidecar.files if name.startswith("index/")] == [INDEX]
    copy = tmp_path / "copy.sql"
    copy.write_bytes(sidecar.files[INDEX])
    with closing(sqlite3.connect(copy)) as connection:
        found = connection.execute(
            "SELECT COUNT(*) FROM ZSTUDY WHERE ZSTUDYINSTANCEUID = ?",
            (make_uid("library", "late"),),
        ).fetchone()
    assert found == (1,)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("damage", ["no database", "torn page"])
def test_corrupt_index_is_there_as_it_lies(
    facts: LibraryFacts, added: UserData, temporary: Path, damage: str
) -> None:
    index = facts.base / "Database.sql"
    content = bytearray(index.read_bytes())
    if damage == "no database":
        content[:16] = b"x" * 16
    else:
        content[4096 * 3 : 4096 * 9] = b"\xa5" * (4096 * 6)
    index.write_bytes(content)
    (facts.base / "Database.sql-wal").write_bytes(b"log")
    sidecar = read(facts)
    assert sidecar.files == added.files | {
        INDEX: content,
        f"{INDEX}-wal": b"log",
        "library/DB_VERSION": b"2.5",
    }
    assert sidecar.unreadable["library.json"].code == "source_index"
    assert not list(temporary.iterdir())


def test_index_that_is_missing(facts: LibraryFacts, added: UserData) -> None:
    (facts.base / "Database.sql").unlink()
    sidecar = read(facts)
    assert sidecar.files == added.files | {"library/DB_VERSION": b"2.5"}
    assert {name: x.code for name, x in sidecar.unreadable.items()} == {
        "library.json": "source_index",
        INDEX: "vanished",
    }


@pytest.mark.parametrize("table", ["ZALBUM", "ZSTUDY", "ZSERIES", "ZIMAGE", "Z_1STUDIES"])
def test_tables_that_are_missing(facts: LibraryFacts, added: UserData, table: str) -> None:
    whole = read(facts).library
    change_index(facts, f"DROP TABLE {table}")
    library = read(facts).library
    gone = {"ZALBUM": "albums", "ZSTUDY": "studies", "ZSERIES": "series", "ZIMAGE": "instances"}
    for name in ("albums", "studies", "series", "instances"):
        assert len(library[name]) == (0 if gone.get(table) == name else len(whole[name]))
    if table == "Z_1STUDIES":
        assert not any(album["studies"] for album in library["albums"])
    if table == "ZSERIES":
        assert library["instances"][0]["study_instance_uid"] == ""


def test_every_column_but_the_keys_may_be_missing(facts: LibraryFacts, added: UserData) -> None:
    change_index(facts, "DROP INDEX ZSTUDY_ZSTUDYINSTANCEUID_INDEX")
    for table, keys in {
        "ZALBUM": {"Z_PK"},
        "ZSTUDY": {"Z_PK"},
        "ZSERIES": {"Z_PK", "ZSTUDY"},
        "ZIMAGE": {"Z_PK", "ZSERIES"},
    }.items():
        with closing(sqlite3.connect(facts.base / "Database.sql")) as connection:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        for column in columns:
            if column not in keys:
                change_index(facts, f"ALTER TABLE {table} DROP COLUMN {column}")
    sidecar = read(facts)
    assert sidecar.unreadable == {}
    assert sidecar.library["albums"] == [{"studies": []}] * 4
    assert not any(sidecar.library[name] for name in ("studies", "series", "instances"))


def test_values_that_are_not_what_they_should_be(facts: LibraryFacts, added: UserData) -> None:
    change_index(
        facts,
        "UPDATE ZSTUDY SET ZCOMMENT = CAST(x'e9' AS TEXT), ZCOMMENT2 = ?, ZCOMMENT3 = ?,"
        " ZCOMMENT4 = 'a' || char(0) || 'b', ZSTATETEXT = 'many', ZLOCKEDSTUDY = x'01',"
        " ZDATEADDED = 9e999, ZDATEOPENED = 1e300, ZREPORTURL = x'00ff', ZWINDOWSSTATE = 'text'"
        " WHERE ZSTUDYINSTANCEUID = ?",
        "x" * (1 << 20),
        "x" * ((1 << 20) + 1),
        added.ct_study,
    )
    change_index(facts, "UPDATE ZSERIES SET ZWINDOWWIDTH = 9e999, ZSERIESDICOMUID = x'00'")
    change_index(facts, "UPDATE ZIMAGE SET ZCOMPRESSEDSOPINSTANCEUID = 'text', ZFRAMEID = 'text'")
    change_index(facts, "UPDATE ZALBUM SET ZNAME = NULL")
    sidecar = read(facts)
    assert sidecar.study(added.ct_study) == {
        "study_instance_uid": added.ct_study,
        "patient_uid": "DOE JANE-TEST-0001-19700131",
        "comment": {"base64": base64.b64encode(b"\xe9").decode()},
        "comment2": "x" * (1 << 20),
        "comment4": "a\0b",
        "report": {"kind": "other", "location": {"base64": base64.b64encode(b"\0\xff").decode()}},
        "windows_state": "text",
    }
    assert sidecar.library["values_left_out"] == 1
    assert sidecar.library["series"][0]["series_instance_uid"] == {"base64": "AA=="}
    assert {x["sop_instance_uid"] for x in sidecar.library["instances"]} == {""}
    assert read(facts).files == sidecar.files


def test_rows_of_studies_that_are_gone(facts: LibraryFacts, added: UserData) -> None:
    change_index(facts, "DELETE FROM ZSTUDY WHERE ZSTUDYINSTANCEUID = ?", added.ct_study)
    library = read(facts).library
    assert library["series"][0]["study_instance_uid"] == ""
    assert library["series"][0]["comment"] == "late phase"
    assert [album for album in library["albums"] if album["name"] == "Teaching"]


def test_reports_that_lead_elsewhere_are_not_followed(
    facts: LibraryFacts, added: UserData, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    link = tmp_path.resolve() / "link.pdf"
    link.symlink_to(secret)
    fifo = tmp_path.resolve() / "fifo.pdf"
    os.mkfifo(fifo)
    (facts.data / "REPORTS" / "link.pdf").symlink_to(secret)
    bundle = tmp_path.resolve() / "bundle.pages"
    (bundle / "Data").mkdir(parents=True)
    (bundle / "Data" / "1").write_bytes(b"page")
    locations = [
        str(secret),
        "../secret",
        "REPORTS/../../secret",
        str(link),
        str(fifo),
        str(bundle),
        str(tmp_path.resolve() / "gone.odt"),
        "REPORTS/link.pdf",
    ]
    for number, location in enumerate(locations):
        change_index(
            facts,
            "INSERT INTO ZSTUDY (ZSTUDYINSTANCEUID, ZREPORTURL) VALUES (?, ?)",
            f"1.2.{number}",
            location,
        )
    sidecar = read(facts)
    assert b"secret" not in sidecar.files.values()
    reports = [sidecar.study(f"1.2.{n}")["report"] for n in range(len(locations))]
    assert [x["kind"] for x in reports] == ["other"] * 3 + ["linked"] * 4 + ["library"]
    assert sidecar.files[f"{reports[5]['name']}/Data/1"] == b"page"
    codes = {name: x.code for name, x in sidecar.unreadable.items()}
    assert codes == {
        reports[3]["name"]: "unreadable",
        reports[4]["name"]: "unreadable",
        reports[6]["name"]: "vanished",
        "reports/link.pdf": "unreadable",
    }
    assert not any(str(tmp_path) in x.message for x in sidecar.unreadable.values())


def test_names_that_other_systems_forbid(facts: LibraryFacts, added: UserData) -> None:
    name = b"a\\b\n%41 \xe9:.rtf"
    path = os.fsdecode(os.fsencode(facts.data / "REPORTS") + b"/" + name)
    Path(path).write_bytes(b"report")
    (facts.data / "REPORTS" / ".DS_Store").write_bytes(b"litter")
    change_index(facts, "UPDATE ZSTUDY SET ZREPORTURL = CAST(? AS TEXT)", b"REPORTS/" + name)
    sidecar = read(facts)
    expected = "reports/a%5Cb%0A%2541 %E9%3A.rtf"
    assert sidecar.files[expected] == b"report"
    assert sidecar.study(added.ct_study)["report"]["name"] == expected
    assert "reports/.DS_Store" not in sidecar.files


@given(st.binary(min_size=1).filter(lambda x: not {0, 0x2F} & set(x) and x not in {b".", b".."}))
def test_safe_names_come_back(name: bytes) -> None:
    safe = safe_name(os.fsdecode(name))
    assert is_sidecar_name(safe)
    assert unquote_to_bytes(safe) == name


@pytest.mark.parametrize(
    ("location", "kind", "name"),
    [
        ("REPORTS/a.pdf", ReportKind.LIBRARY, "reports/a.pdf"),
        ("REPORTS//b/./a.pages/", ReportKind.LIBRARY, "reports/b/a.pages"),
        ("/data/REPORTS/a.pdf", ReportKind.LIBRARY, "reports/a.pdf"),
        ("/base/REPORTS/a.pdf", ReportKind.LIBRARY, "reports/a.pdf"),
        ("REPORTS/", ReportKind.OTHER, ""),
        ("HTTPS://ris/1", ReportKind.URL, ""),
        ("a.pdf", ReportKind.OTHER, ""),
        ("/a/id_rsa", ReportKind.OTHER, ""),
        ("/a/../b.pdf", ReportKind.OTHER, ""),
        ("/a\0.pdf", ReportKind.OTHER, ""),
        (7, ReportKind.OTHER, ""),
    ],
)
def test_kinds_of_reports(location: object, kind: ReportKind, name: str) -> None:
    assert describe_report(location, "/base", "/data") == (kind, name)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "a/../b", ".", "a\\b", "a\n", "\udce9"])
def test_what_is_no_name(name: str) -> None:
    assert not is_sidecar_name(name)


def test_files_that_lie_elsewhere(tmp_path: Path) -> None:
    facts = build_library(tmp_path / "Horos Data", data=tmp_path / "volume")
    added = add_user_data(facts)
    sidecar = read(facts)
    assert sidecar.files.items() >= added.files.items()
    assert sidecar.files["library/DBFOLDER_LOCATION"].decode() == f"{tmp_path / 'volume'}\n"


def test_copies_go_away_when_the_iterator_is_left(
    facts: LibraryFacts, added: UserData, temporary: Path
) -> None:
    sidecar = source_of(facts).sidecar()
    while not next(sidecar).name.startswith("reports/"):
        pass
    folders = list(temporary.iterdir())
    assert folders
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)
    del sidecar
    gc.collect()
    assert not list(temporary.iterdir())


def test_studies_may_be_listed_meanwhile(facts: LibraryFacts, added: UserData) -> None:
    source = source_of(facts)
    expected = list(source.studies())
    names = []
    for study, file in zip(source.studies(), source.sidecar(), strict=False):
        names.append(file.name)
        assert list(source.entries(study)) is not None
    assert list(source.studies()) == expected
    assert names[:2] == [INDEX, "library.json"]


def test_library_that_is_not_there(facts: LibraryFacts, added: UserData, temporary: Path) -> None:
    sidecar = source_of(facts).sidecar()
    next(sidecar)
    (facts.data / "DATABASE.noindex").rename(facts.data / "elsewhere")
    with pytest.raises(SourceUnavailableError, match="went away"):
        list(sidecar)
    with pytest.raises(SourceUnavailableError, match=r"DATABASE\.noindex"):
        list(source_of(facts).sidecar())
    shutil.rmtree(facts.base)
    with pytest.raises(SourceUnavailableError):
        list(source_of(facts).sidecar())
    assert not list(temporary.iterdir())


def test_without_a_place_for_copies(facts: LibraryFacts, temporary: Path) -> None:
    temporary.rmdir()
    with pytest.raises(SourceUnavailableError, match="no place"):
        list(source_of(facts).sidecar())


def test_file_that_is_being_written(facts: LibraryFacts, added: UserData) -> None:
    path = facts.data / "CLUTs" / "large"
    path.write_bytes(bytes(16 << 20))
    stop = threading.Event()

    def touch() -> None:
        moment = 0
        while not stop.is_set():
            moment += 1
            os.utime(path, ns=(moment, moment))

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        sidecar = read(facts)
    finally:
        stop.set()
        thread.join()
    assert sidecar.unreadable["library/CLUTs/large"].code == "changed_while_reading"
    assert sidecar.files["library/CLUTs/Hot.plist"] == b"<plist/>"


def test_memory_does_not_grow_with_the_library(facts: LibraryFacts, added: UserData) -> None:
    change_index(
        facts,
        "INSERT INTO ZIMAGE (ZSERIES, ZPATHNUMBER, ZCOMMENT) WITH RECURSIVE n(i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
        " SELECT 1, 100000 + i, 'comment ' || i FROM n",
    )
    tracemalloc.start()
    try:
        sizes = {x.name: x.size for x in source_of(facts).sidecar() if isinstance(x, SidecarFile)}
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes["library.json"] > 4_000_000
    assert peak < 1_500_000
