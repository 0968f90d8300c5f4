"""What only a library's index knew of its studies, as the SRs that the viewer imports."""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from dcmvault.app.library_user_data import LibraryData, annotations_of
from dcmvault.app.restored_names import safe_parts
from dcmvault.app.wiring.library import make_annotations_sr, make_report_sr
from dcmvault.errors import MalformedDicomError

#: Documents together; a larger report is left beside the library. Bytes.
_LARGEST_REPORT = 256 << 20
#: The earliest time that a ZIP can hold: the same document makes the same archive.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_WITHOUT_A_WORD = {"studyInstanceUID", "patientUID", "albums"}


@dataclass(frozen=True, slots=True)
class OldLibrary:
    """A library as it was backed up: what its index said, and where its own files lie now."""

    said: LibraryData
    folder: Path


@dataclass(slots=True)
class StudySrs:
    """The SRs of one study, by SOP Instance UID, and what came of making them."""

    made: dict[str, bytes] = field(default_factory=dict)
    annotated: bool = False
    reported: bool = False
    #: The library says something of the study already, which is kept.
    kept_own: bool = False
    #: There is something to say, and no instance of the study to say it of.
    failed: bool = False


def make_srs(
    study_instance_uid: str,
    libraries: Sequence[OldLibrary],
    present: LibraryData,
    instances: Iterable[Path],
    known_at: datetime,
) -> StudySrs:
    """Make the SRs of a study; `present` is what the library that they are for says now.

    What it says stays: people may have said it since. `instances` are files of the study, looked
    at only if there is anything to say.
    """
    found = StudySrs()
    said = next(
        (one for old in libraries if (one := annotations_of(old.said, study_instance_uid))), {}
    )
    if said and annotations_of(present, study_instance_uid):
        found.kept_own, said = True, {}
    report = None
    if not any(present.of_study(study_instance_uid).reports()):
        report = next(_reports(study_instance_uid, libraries), None)
    if not said and report is None:
        return found
    for path in instances:
        with contextlib.suppress(MalformedDicomError, OSError):
            if said:
                found.made |= [make_annotations_sr(path, said, known_at)]
            if report is not None:
                found.made |= [make_report_sr(path, *report, known_at)]
            found.annotated, found.reported = bool(said), report is not None
            return found
    found.failed = True
    return found


def _reports(
    study_instance_uid: str, libraries: Iterable[OldLibrary]
) -> Iterator[tuple[str, bytes]]:
    """Give the report documents of a study that can be found: kind of file, and a ZIP of it."""
    for old in libraries:
        for location, name in old.said.of_study(study_instance_uid).reports():
            path = old.folder.joinpath(*safe_parts(name))
            with contextlib.suppress(OSError):
                archive = _zipped(path, os.path.basename(location))  # noqa: PTH119 - any text
                if archive:
                    yield Path(location).suffix.removeprefix("."), archive


def _zipped(path: Path, name: str) -> bytes:
    """Pack a document, or a bundle, under its old name; empty if there is none, or too large."""
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    if not files or sum(file.stat().st_size for file in files) > _LARGEST_REPORT:
        return b""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            below = "" if file == path else f"/{file.relative_to(path).as_posix()}"
            entry = zipfile.ZipInfo(name + below, _NO_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    if len(packed.getvalue()) % 2:  # an element's length is even, and nothing may follow a ZIP
        with zipfile.ZipFile(packed, "a") as archive:
            archive.comment = b" "
    return packed.getvalue()
