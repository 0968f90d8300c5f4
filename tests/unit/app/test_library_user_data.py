"""What only an index knew comes back through the viewer's own doors, value by value."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dcmvault.app.library_user_data import (
    LibraryData,
    albums_left_out,
    annotations_of,
    importable_albums,
    left_over,
    read_library_json,
)
from dcmvault.config.sections import HorosSourceSection
from dcmvault.dicom.property_list import property_list
from dcmvault.dicom.viewer_sr import make_annotations_sr
from dcmvault.errors import MalformedDicomError
from dcmvault.model.sidecar import SidecarFile
from dcmvault.sources.horos import HorosSource
from dcmvault.testing.dicom_files import make_uid
from dcmvault.testing.horos_importer import import_albums, import_incoming
from dcmvault.testing.horos_library import LibraryFacts, build_library
from dcmvault.testing.horos_schema import create_index
from dcmvault.testing.horos_user_data import UserData, add_user_data

KNOWN_AT = datetime(2026, 1, 31, 2, 0, tzinfo=UTC)


@pytest.fixture
def facts(tmp_path: Path) -> LibraryFacts:
    return build_library(tmp_path / "Horos Data")


@pytest.fixture
def added(facts: LibraryFacts) -> UserData:
    return add_user_data(facts)


def library_json(base: Path) -> bytes:
    source = HorosSource(HorosSourceSection(path=base))
    return next(
        x.path.read_bytes()
        for x in source.sidecar()
        if isinstance(x, SidecarFile) and x.name == "library.json"
    )


def new_library(base: Path) -> Path:
    for folder in ("DATABASE.noindex", "INCOMING.noindex"):
        (base / folder).mkdir(parents=True)
    with closing(sqlite3.connect(base / "Database.sql")) as connection, connection:
        create_index(connection, "NEW")
    return base


def nothing_known(_uid: str) -> Mapping[str, str]:
    return {}


def test_comments_states_key_images_and_albums_come_back_to_a_new_library(
    facts: LibraryFacts, added: UserData, tmp_path: Path
) -> None:
    said = read_library_json(library_json(facts.base))
    new = new_library(tmp_path / "New Data")
    for number, file in enumerate(facts.files.values()):
        if file.sop_instance_uid:
            shutil.copy(file.path, new / "INCOMING.noindex" / f"{number}.dcm")
    import_incoming(new)
    for study in (added.ct_study, added.us_study):
        example = next(x for x in facts.files.values() if x.study_instance_uid == study)
        _uid, content = make_annotations_sr(
            example.path.read_bytes(), annotations_of(said, study), KNOWN_AT
        )
        (new / "INCOMING.noindex" / f"{study}.dcm").write_bytes(content)
    albums = importable_albums(said, lambda _uid: True, nothing_known, whole=True)
    listing = tmp_path / "Albums.albums"
    listing.write_bytes(property_list(albums))
    import_albums(new, listing)
    imported = import_incoming(new)
    assert (imported.taken, imported.discarded) == (2, 0)
    back = read_library_json(library_json(new))
    assert annotations_of(back, added.ct_study) == annotations_of(said, added.ct_study) | {
        "patientUID": annotations_of(back, added.ct_study)["patientUID"]
    }
    assert _of(back.instances, added.us_study, "key_image") == {added.cine}
    assert _members(back) == _members(said)
    assert albums_left_out(said) == ["Archived predicate"]
    smart = next(album for album in back.albums if album["name"] == "Just opened")
    assert smart == next(album for album in said.albums if album["name"] == "Just opened")


@pytest.mark.peers
def test_newest_annotations_win_and_same_ones_are_the_same_file(
    facts: LibraryFacts, added: UserData, tmp_path: Path
) -> None:
    example = (facts.data / "DATABASE.noindex/10000/1.dcm").read_bytes()
    said = {"studyInstanceUID": added.ct_study, "comment": "a\x0bb — ç"}
    uid, content = make_annotations_sr(example, said, KNOWN_AT)
    assert make_annotations_sr(example, said, KNOWN_AT) == (uid, content)
    path = tmp_path / "annotations.dcm"
    path.write_bytes(content)
    dumped = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True, check=False)
    assert dumped.returncode == 0
    assert "E:" not in dumped.stderr
    assert "Annotations" in dumped.stdout
    other, _content = make_annotations_sr(example, said | {"comment": "c"}, KNOWN_AT)
    assert other != uid
    written = dcmread(io.BytesIO(content))
    assert written.PatientName == "Doe^Jane"
    assert written.StudyInstanceUID == added.ct_study
    assert written.SeriesDescription == "OsiriX Annotations SR"
    with pytest.raises(MalformedDicomError):
        make_annotations_sr(b"no DICOM at all", said, KNOWN_AT)


def test_what_the_viewer_cannot_take_back_is_told(facts: LibraryFacts, added: UserData) -> None:
    said = read_library_json(library_json(facts.base))
    rows = {(entity, *sorted(row)) for entity, row in left_over(said, added.ct_study)}
    assert rows == {
        (
            "studies",
            "locked",
            "patient_uid",
            "report",
            "study_instance_uid",
            "windows_state",
        ),
        (
            "series",
            "key_series",
            "patient_uid",
            "series_instance_uid",
            "study_instance_uid",
            "viewer_series",
            "window_level",
            "window_width",
        ),
        (
            "instances",
            "comment",
            "patient_uid",
            "series_instance_uid",
            "sop_instance_uid",
            "study_instance_uid",
            "zoom",
        ),
    }


def test_part_of_a_library_makes_no_empty_studies(facts: LibraryFacts, added: UserData) -> None:
    said = read_library_json(library_json(facts.base))
    only = importable_albums(
        said,
        lambda uid: uid == added.ct_study,
        lambda _uid: {"patient_name": "Doe^Jane"},
        whole=False,
    )
    assert [album["name"] for album in only] == ["Teaching"]
    assert [one["studyInstanceUID"] for one in only[0]["studies"]] == [added.ct_study]
    assert only[0]["studies"][0]["patientName"] == "Doe^Jane"
    assert annotations_of(said, make_uid("library", "merged")) == {}


def test_description_of_another_shape_is_passed_over() -> None:
    for text in (b"[]", b'{"format": "x"}', b"no JSON"):
        with pytest.raises(ValueError):  # noqa: PT011 - of JSON, too
            read_library_json(text)
    odd = {
        "format": "dcmvault library",
        "albums": [1, {"name": 3}, {"name": "a", "studies": 7}, {"smart": True}],
        "studies": {"a": 1},
        "series": [{"study_instance_uid": "1.2", "comment": 5}],
        "instances": [{"study_instance_uid": "1.2", "key_image": True}],
    }
    said = read_library_json(json.dumps(odd).encode())
    assert importable_albums(said, lambda _uid: True, nothing_known, whole=True) == [
        {"name": "a", "studies": []}
    ]
    assert annotations_of(said, "1.2") == {}


def _of(rows: list[Any], study: str, member: str) -> set[str]:
    return {
        row["sop_instance_uid"]
        for row in rows
        if row["study_instance_uid"] == study and row.get(member)
    }


def _members(library: LibraryData) -> dict[str, set[str]]:
    # Two rows of one study, with other demographics in the index alone, become one.
    return {
        album["name"]: {one["study_instance_uid"] for one in album["studies"]}
        for album in library.albums
        if album["name"] != "Archived predicate"
    }
