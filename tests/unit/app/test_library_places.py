"""Where files of a restored library lie, whatever their names say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcmvault.app.library_places import library_parts, linked_parts, sidecar_parts
from dcmvault.model.restored import FileToRestore

FILE = FileToRestore((), 0, b"")


@pytest.mark.parametrize(
    ("locator", "name", "place"),
    [
        ("DATABASE.noindex/10000/17.dcm", "17.dcm", "DATABASE.noindex/10000/17.dcm"),
        ("ROIs/1.2 1-0.dcm", "1.2 1-0.dcm", "ROIs/1.2 1-0.dcm"),
        (
            "DATABASE.noindex/10000/17.dcm",
            "17~2.dcm",
            "RESTORED LIBRARY/older versions/DATABASE.noindex/10000/17~2.dcm",
        ),
        ("/Volumes/CD/IM 1", "IM 1", "LINKED/Volumes/CD/IM 1"),
        ("/Volumes/../etc/passwd", "passwd", "LINKED/Volumes/etc/passwd"),
        ("Database.sql", "Database.sql", "RESTORED LIBRARY/other files/Database.sql"),
        ("../Loading", "Loading", "RESTORED LIBRARY/other files/Loading"),
    ],
)
def test_places_of_files(locator: str, name: str, place: str) -> None:
    file = replace(FILE, locator=locator, parts=("x", name))
    assert "/".join(library_parts(file)) == place


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("index/Database.sql", "RESTORED LIBRARY/index/Database.sql"),
        ("library.json", "RESTORED LIBRARY/library.json"),
        ("library/DB_VERSION", "DB_VERSION"),
        ("library/DBFOLDER_LOCATION", "RESTORED LIBRARY/library/DBFOLDER_LOCATION"),
        ("library/3DSTATE/VR%3A1", "3DSTATE/VR:1"),
        ("reports/a%25b%FF.odt", "REPORTS/a%b\udcff.odt"),
        ("reports/%2E%2E/%2Fetc%00", "REPORTS/%2E%2E/%2Fetc%00"),
        ("linked-reports/ab.rtf", "REPORTS/ab.rtf"),
        ("rois/1.dcm", "ROIs/1.dcm"),
        ("something/new", "something/new"),
    ],
)
def test_places_of_what_belongs_to_the_library(name: str, place: str) -> None:
    assert "/".join(sidecar_parts(name)) == place
    assert library_parts(replace(FILE, locator=name, of_library=True)) == sidecar_parts(name)


def test_a_linked_path_is_found_where_its_locator_leads() -> None:
    path, locator = "/a\\b/c\udcff", "/a\\\\b/c\\xff"
    file = replace(FILE, locator=locator, parts=("c\udcff",))
    assert linked_parts(path) == library_parts(file) == ("LINKED", "a\\b", "c\udcff")
