"""What only a library's index knew, in the shapes that the viewer itself takes back.

Albums become the list that the viewer writes with "Save Albums" and reads with "Add Albums".
Comments, states, key images and membership in albums become, for each study, the dictionary that
the viewer keeps in a DICOM SR of the series "OsiriX Annotations SR", and applies when it imports
one. What neither takes is told by `left_over`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: One object of `library.json`.
Row = dict[str, Any]

_FORMAT = "dcmvault library"
_COMMENTS = ("comment", "comment2", "comment3", "comment4")
#: Of each entity: what an annotations SR brings back, and what names the entity.
_TAKEN_BACK = {
    "studies": {*_COMMENTS, "state"},
    "series": {*_COMMENTS, "state"},
    "instances": {"key_image"},
}
_NAMES = frozenset(
    {
        "study_instance_uid",
        "patient_uid",
        "series_instance_uid",
        "viewer_series",
        "sop_instance_uid",
        "frame",
    }
)
#: The viewer finds out for itself, or it says nothing about a restored library.
_OF_THE_OLD_LIBRARY = frozenset({"date_added", "date_opened"})


@dataclass(slots=True)
class LibraryData:
    """The rows of a `library.json`, as far as they have the shape that they should have."""

    albums: list[Row] = field(default_factory=list)
    studies: list[Row] = field(default_factory=list)
    series: list[Row] = field(default_factory=list)
    instances: list[Row] = field(default_factory=list)

    def of_study(self, study_instance_uid: str) -> LibraryData:
        """Return what is said of one study."""
        studies, series, instances = (
            [row for row in rows if row.get("study_instance_uid") == study_instance_uid]
            for rows in (self.studies, self.series, self.instances)
        )
        albums = [album for album in self.albums if _has(album, study_instance_uid)]
        return LibraryData(albums, studies, series, instances)

    def reports(self) -> Iterator[tuple[str, str]]:
        """List the reports that are files in the sidecar: where each was, and its name there."""
        for study in self.studies:
            report = study.get("report")
            if isinstance(report, dict):
                location, name = report.get("location"), report.get("name")
                if isinstance(location, str) and isinstance(name, str):
                    yield location, name


def read_library_json(text: bytes) -> LibraryData:
    """Read a `library.json`; ValueError if it is none. Objects of other shapes are passed over."""
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ValueError
    albums, studies, series, instances = (
        [row for row in _list(document.get(name)) if isinstance(row, dict)]
        for name in ("albums", "studies", "series", "instances")
    )
    return LibraryData(albums, studies, series, instances)


def importable_albums(
    library: LibraryData,
    is_restored: Callable[[str], bool],
    about: Callable[[str], Mapping[str, str]],
    *,
    whole: bool,
) -> list[dict[str, Any]]:
    """Return the albums as the viewer's own list of them.

    The viewer makes an empty study of each member that it has not: only members that are restored
    are named. `about` gives a study's attributes, by their names in StudyAttributes. Unless it is
    `whole`, smart albums and albums without such members are left out.
    """
    albums: list[dict[str, Any]] = []
    for album in library.albums:
        name = album.get("name")
        if not isinstance(name, str):
            continue
        if album.get("smart"):
            predicate = album.get("predicate")
            if whole and isinstance(predicate, str):
                albums.append({"name": name, "smartAlbum": True, "predicateString": predicate})
            continue
        members = [
            member
            for member in _list(album.get("studies"))
            if isinstance(member, dict) and is_restored(str(member.get("study_instance_uid")))
        ]
        if members or whole:
            studies = [_member(member, about) for member in members]
            albums.append({"name": name, "studies": studies})
    return albums


def albums_left_out(library: LibraryData) -> list[str]:
    """Name the albums whose predicate is no text: the viewer's own list cannot hold them."""
    return [
        str(album.get("name", ""))
        for album in library.albums
        if album.get("smart") and not isinstance(album.get("predicate"), str)
    ]


def annotations_of(library: LibraryData, study_instance_uid: str) -> dict[str, Any]:
    """Return what the viewer's annotations SR says of a study; empty if there is nothing to say.

    Where the index has several rows of one Study Instance UID, what is said of any is in it: the
    viewer applies it to each.
    """
    of = library.of_study(study_instance_uid)
    found: dict[str, Any] = {}
    for row in of.studies:
        found |= _commented(row)
    names = sorted(str(album["name"]) for album in of.albums if isinstance(album.get("name"), str))
    series = _series(of)
    if not (found or names or series):
        return {}
    patients = [row["patient_uid"] for row in of.studies if isinstance(row.get("patient_uid"), str)]
    if patients:
        found["patientUID"] = patients[0]
    found |= {"studyInstanceUID": study_instance_uid, "albums": names}
    return found | ({"series": series} if series else {})


def left_over(library: LibraryData, study_instance_uid: str) -> Iterator[tuple[str, Row]]:
    """List what is said of a study and its parts that an annotations SR does not bring back.

    Each as (`studies`, `series` or `instances`; the row reduced to it and to what names it).
    """
    of = library.of_study(study_instance_uid)
    for entity, rows in (
        ("studies", of.studies),
        ("series", of.series),
        ("instances", of.instances),
    ):
        passed = _TAKEN_BACK[entity] | _OF_THE_OLD_LIBRARY
        for row in rows:
            said = {
                name: value
                for name, value in row.items()
                if name not in _NAMES and (name not in passed or _is_bytes(value))
            }
            if said:
                yield entity, {name: row[name] for name in row if name in _NAMES} | said


def _series(of: LibraryData) -> list[dict[str, Any]]:
    """Return the viewer's series with what is said of them and of their instances."""
    series: dict[str, dict[str, Any]] = {}
    for row in of.series:
        said = _commented(row)
        uid, key = row.get("series_instance_uid"), row.get("viewer_series")
        if said and isinstance(uid, str) and isinstance(key, str):
            series[key] = said | {"seriesInstanceUID": key, "seriesDICOMUID": uid}
    keys: dict[str, dict[str, dict[str, Any]]] = {}
    for row in of.instances:
        uid, sop = row.get("series_instance_uid"), row.get("sop_instance_uid")
        if row.get("key_image") and isinstance(uid, str) and isinstance(sop, str) and uid and sop:
            # One for each instance: the viewer does not tell frames apart here.
            keys.setdefault(uid, {})[sop] = {"sopInstanceUID": sop, "isKeyImage": 1}
    for uid, images in keys.items():
        of_series = [one for one in series.values() if one["seriesDICOMUID"] == uid]
        # The viewer looks for the images in the whole study, whichever of its series says so.
        holder = of_series[0] if of_series else {"seriesInstanceUID": uid, "seriesDICOMUID": uid}
        series.setdefault(holder["seriesInstanceUID"], holder)["images"] = [*images.values()]
    return list(series.values())


def _commented(row: Row) -> dict[str, Any]:
    said = {name: row[name] for name in _COMMENTS if isinstance(row.get(name), str)}
    state = row.get("state")
    return said | ({"stateText": state} if isinstance(state, int) else {})


def _member(member: Row, about: Callable[[str], Mapping[str, str]]) -> dict[str, str]:
    uid = str(member.get("study_instance_uid"))
    known = about(uid)
    values = {
        "studyInstanceUID": uid,
        "patientUID": member.get("patient_uid"),
        "patientName": known.get("patient_name"),
        "patientID": known.get("patient_id"),
        "name": known.get("study_description"),
        "modality": known.get("modalities", "").replace(" ", "\\"),
        "accessionNumber": known.get("accession_number"),
    }
    return {name: value for name, value in values.items() if isinstance(value, str) and value}


def _has(album: Row, study_instance_uid: str) -> bool:
    return any(
        isinstance(member, dict) and member.get("study_instance_uid") == study_instance_uid
        for member in _list(album.get("studies"))
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_bytes(value: object) -> bool:
    return isinstance(value, dict)
