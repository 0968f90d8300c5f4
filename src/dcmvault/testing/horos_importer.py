"""The viewer importing: what it does with INCOMING.noindex, annotations SRs and lists of albums.

Written from the application's public source, and sharing no code with the product. It moves what
it can read into DATABASE.noindex and makes rows of it, deletes what it cannot read, and discards a
file whose SOP Instance UID its index has already, whatever is in it. Names that begin with a dot
it leaves alone.
"""

from __future__ import annotations

import io
import plistlib
import sqlite3
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dcmvault.testing.horos_schema import insert_row, pack_uid

_ANNOTATIONS = "OsiriX Annotations SR"
_REPORT = "OsiriX Report SR"
_PLACEHOLDER = 5005
_FOLDER_SIZE = 10_000
_LOOK_S = 0.02


@dataclass(slots=True)
class Imported:
    """What became of the files."""

    taken: int = 0
    #: Instances that the index had already.
    discarded: int = 0
    #: No DICOM.
    deleted: int = 0
    #: The most files seen in the folder at once, dot files not counted.
    most_waiting: int = 0
    #: Study Instance UIDs that something was added to.
    studies: set[str] = field(default_factory=set)


@contextmanager
def importing(base: Path) -> Iterator[Imported]:
    """Import again and again, as the viewer does every few seconds, until the end."""
    imported, stopping = Imported(), threading.Event()

    def work() -> None:
        while not stopping.wait(_LOOK_S):
            import_incoming(base, imported)
        import_incoming(base, imported)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield imported
    finally:
        stopping.set()
        thread.join()


def import_incoming(base: Path, imported: Imported | None = None) -> Imported:
    """Import what waits now; the library's files lie with its index."""
    done = imported or Imported()
    waiting = sorted(
        path for path in (base / "INCOMING.noindex").iterdir() if not path.name.startswith(".")
    )
    done.most_waiting = max(done.most_waiting, len(waiting))
    if not waiting:
        return done
    with closing(sqlite3.connect(base / "Database.sql")) as connection, connection:
        changed = set()
        for path in waiting:
            try:
                dataset = dcmread(path, stop_before_pixels=True)
            except (InvalidDicomError, EOFError):
                path.unlink()
                done.deleted += 1
                continue
            if _has_image(connection, dataset):
                path.unlink()
                done.discarded += 1
                continue
            study = _add(connection, base, path, dataset)
            changed.add(study)
            if dataset.get("SeriesDescription") == _REPORT:
                _extract_report(connection, base, study, bytes(dataset[0x00420011].value))
            done.taken += 1
        for study in changed:
            _reapply_annotations(connection, base, study)
            done.studies.add(_one(connection, "ZSTUDYINSTANCEUID", "ZSTUDY", study))
    return done


def import_albums(base: Path, path: Path) -> None:
    """Read a list of albums, as "Add Albums" does."""
    albums = plistlib.loads(path.read_bytes())
    with closing(sqlite3.connect(base / "Database.sql")) as connection, connection:
        for album in albums:
            row = connection.execute(
                "SELECT Z_PK, ZSMARTALBUM FROM ZALBUM WHERE ZNAME = ?", (album["name"],)
            ).fetchone()
            smart = bool(album.get("smartAlbum"))
            if row is None:
                predicate = album.get("predicateString") if smart else None
                key = insert_row(
                    connection,
                    "Album",
                    name=album["name"],
                    smartAlbum=int(smart),
                    predicateString=predicate,
                )
            else:
                key, smart = row[0], bool(row[1])
            for member in [] if smart else album["studies"]:
                _join(connection, key, _studies_or_placeholder(connection, member))


def _add(connection: sqlite3.Connection, base: Path, path: Path, dataset: Dataset) -> int:
    """Move one file and make its rows; answer the key of its study."""
    number = 1 + max(
        (int(file.stem) for file in base.glob("DATABASE.noindex/*/*.dcm") if file.stem.isdigit()),
        default=0,
    )
    folder = base / "DATABASE.noindex" / str((number // _FOLDER_SIZE + 1) * _FOLDER_SIZE)
    folder.mkdir(parents=True, exist_ok=True)
    path.rename(folder / f"{number}.dcm")
    uid = str(dataset.StudyInstanceUID)
    patient = "-".join(
        str(dataset.get(name, "")).replace("^", " ").upper()
        for name in ("PatientName", "PatientID", "PatientBirthDate")
    )
    study = _key(connection, "ZSTUDY", "ZSTUDYINSTANCEUID = ?", uid)
    if study is None:
        study = insert_row(
            connection,
            "Study",
            studyInstanceUID=uid,
            patientUID=patient,
            name=str(dataset.get("PatientName", "")).replace("^", " "),
            patientID=str(dataset.get("PatientID", "")),
            hasDICOM=1,
            stateText=0,
        )
    connection.execute("UPDATE ZSTUDY SET ZHASDICOM = 1 WHERE Z_PK = ?", (study,))
    description = str(dataset.get("SeriesDescription", ""))
    series_uid = str(dataset.SeriesInstanceUID)
    group = f"{int(dataset.get('SeriesNumber') or 0):08d} {series_uid}"
    if description == _ANNOTATIONS:
        group = description
    series = _key(connection, "ZSERIES", "ZSTUDY = ? AND ZSERIESINSTANCEUID = ?", study, group)
    if series is None:
        series = insert_row(
            connection,
            "Series",
            study=study,
            id=int(dataset.get("SeriesNumber") or 0),
            name=description,
            seriesDICOMUID=series_uid,
            seriesInstanceUID=group,
            stateText=0,
        )
    frames = int(dataset.get("NumberOfFrames") or 1)
    for frame in range(frames):
        insert_row(
            connection,
            "Image",
            series=series,
            pathNumber=number,
            frameID=frame,
            storedNumberOfFrames=frames,
            instanceNumber=int(dataset.get("InstanceNumber") or 0) + frame,
            compressedSopInstanceUID=pack_uid(str(dataset.SOPInstanceUID)),
        )
    return study


def _extract_report(connection: sqlite3.Connection, base: Path, study: int, packed: bytes) -> None:
    """Put the document of a report SR among the reports; a bundle is a folder."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        (name,) = {entry.split("/")[0] for entry in archive.namelist()}
        archive.extractall(base / "REPORTS")
    connection.execute(
        "UPDATE ZSTUDY SET ZREPORTURL = ? WHERE Z_PK = ?", (f"REPORTS/{name}", study)
    )


def _reapply_annotations(connection: sqlite3.Connection, base: Path, study: int) -> None:
    """Apply the newest annotations SR of a study, if it has one and that speaks of this study."""
    found: list[tuple[str, bytes]] = []
    for (number,) in connection.execute(
        "SELECT im.ZPATHNUMBER FROM ZIMAGE im JOIN ZSERIES se ON se.Z_PK = im.ZSERIES"
        " WHERE se.ZSTUDY = ? AND se.ZID = 5004 AND se.ZNAME = ?",
        (study, _ANNOTATIONS),
    ):
        place = f"DATABASE.noindex/{(number // _FOLDER_SIZE + 1) * _FOLDER_SIZE}/{number}.dcm"
        dataset = dcmread(base / place)
        moment = f"{dataset.get('ContentDate', '')}{dataset.get('ContentTime', '')}"
        found.append((moment, bytes(dataset[0x00420011].value)))
    if not found:
        return
    said = plistlib.loads(max(found)[1].rstrip(b"\0"))
    if said.get("studyInstanceUID") != _one(connection, "ZSTUDYINSTANCEUID", "ZSTUDY", study):
        return
    _apply(connection, "ZSTUDY", study, said)
    for name in said.get("albums", []):
        album = _key(connection, "ZALBUM", "ZNAME = ? AND NOT ifnull(ZSMARTALBUM, 0)", name)
        if album is not None:
            _join(connection, album, [study])
    for series in said.get("series", []):
        keys = [
            _key(connection, "ZSERIES", f"ZSTUDY = ? AND {column} = ?", study, series[name])
            for column, name in (
                ("ZSERIESINSTANCEUID", "seriesInstanceUID"),
                ("ZSERIESDICOMUID", "seriesDICOMUID"),
            )
        ]
        key = next((one for one in keys if one is not None), None)
        if key is None:
            continue
        _apply(connection, "ZSERIES", key, series)
        for image in series.get("images", []):
            connection.execute(
                "UPDATE ZIMAGE SET ZSTOREDISKEYIMAGE = ? WHERE Z_PK = (SELECT max(im.Z_PK)"
                " FROM ZIMAGE im JOIN ZSERIES se ON se.Z_PK = im.ZSERIES WHERE se.ZSTUDY = ?"
                " AND im.ZCOMPRESSEDSOPINSTANCEUID = ?)",
                (image["isKeyImage"], study, pack_uid(image["sopInstanceUID"])),
            )


def _apply(connection: sqlite3.Connection, table: str, key: int, said: dict[str, Any]) -> None:
    for name in ("comment", "comment2", "comment3", "comment4", "stateText"):
        if name in said:
            connection.execute(
                f"UPDATE {table} SET Z{name.upper()} = ? WHERE Z_PK = ?",  # noqa: S608
                (said[name], key),
            )


def _studies_or_placeholder(connection: sqlite3.Connection, member: dict[str, Any]) -> list[int]:
    uid = member["studyInstanceUID"]
    rows = connection.execute("SELECT Z_PK FROM ZSTUDY WHERE ZSTUDYINSTANCEUID = ?", (uid,))
    if found := [row[0] for row in rows]:
        return found
    study = insert_row(
        connection,
        "Study",
        studyInstanceUID=uid,
        name=member.get("patientName"),
        patientUID=member.get("patientUID"),
    )
    insert_row(connection, "Series", study=study, id=_PLACEHOLDER, name="OsiriX No Autodeletion")
    return [study]


def _join(connection: sqlite3.Connection, album: int, studies: list[int]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO Z_1STUDIES VALUES (?, ?)", [(album, study) for study in studies]
    )


def _has_image(connection: sqlite3.Connection, dataset: Dataset) -> bool:
    packed = pack_uid(str(dataset.SOPInstanceUID))
    return _key(connection, "ZIMAGE", "ZCOMPRESSEDSOPINSTANCEUID = ?", packed) is not None


def _key(connection: sqlite3.Connection, table: str, condition: str, *values: object) -> int | None:
    row = connection.execute(
        f"SELECT Z_PK FROM {table} WHERE {condition} ORDER BY Z_PK",  # noqa: S608
        values,
    ).fetchone()
    return None if row is None else int(row[0])


def _one(connection: sqlite3.Connection, column: str, table: str, key: int) -> str:
    row = connection.execute(
        f"SELECT {column} FROM {table} WHERE Z_PK = ?",  # noqa: S608
        (key,),
    ).fetchone()
    return str(row[0])
