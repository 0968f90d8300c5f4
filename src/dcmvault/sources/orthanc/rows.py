"""What Orthanc says of a study, a series and an instance, read distrustfully from its JSON."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.orthanc_rest import ID
from dcmvault.model.instance import (
    Fingerprint,
    InstanceEntry,
    InstanceHeader,
    SeriesAttributes,
    StudyAttributes,
)

#: Characters of an attribute that are kept; PS3.5 allows 64, and 3 times 64 for a name.
_LONGEST_TEXT = 1024
#: Bytes of an instance that an index of 64 bits can count.
_LARGEST = 1 << 62
_LOCATOR = re.compile(r"[0-9a-f-]{44}/([0-9a-f]{8}(?:-[0-9a-f]{8}){4})\.dcm\Z")
#: Listed, but Orthanc does not say what it is.
_UNKNOWN = Fingerprint(0, 0, 0)


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study with its patient."""

    study_instance_uid: str
    attributes: StudyAttributes


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """A series, and which instances it has."""

    series_id: str
    series_instance_uid: str
    attributes: SeriesAttributes
    instance_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """An instance and the file that it is."""

    instance_id: str
    series_id: str
    sop_instance_uid: str
    instance_number: str
    fingerprint: Fingerprint


def study_row(value: object) -> StudyRow:
    """Read a study; what is not there or makes no sense is empty."""
    row = _object(value)
    tags, patient = _object(row.get("MainDicomTags")), _object(row.get("PatientMainDicomTags"))
    return StudyRow(
        _uid(tags, "StudyInstanceUID"),
        StudyAttributes(
            patient_name=text(patient, "PatientName"),
            patient_id=text(patient, "PatientID"),
            patient_birth_date=text(patient, "PatientBirthDate"),
            patient_sex=text(patient, "PatientSex"),
            study_date=text(tags, "StudyDate"),
            study_time=text(tags, "StudyTime"),
            study_description=text(tags, "StudyDescription"),
            accession_number=text(tags, "AccessionNumber"),
            institution_name=text(tags, "InstitutionName"),
        ),
    )


def series_rows(value: object) -> dict[str, SeriesRow]:
    """Read a list of series, by identifier; what is none is left out."""
    rows: dict[str, SeriesRow] = {}
    for one in value if isinstance(value, list) else []:
        row = _object(one)
        series_id = _id(row.get("ID"))
        if not series_id:
            continue
        tags, listed = _object(row.get("MainDicomTags")), row.get("Instances")
        rows[series_id] = SeriesRow(
            series_id,
            _uid(tags, "SeriesInstanceUID"),
            SeriesAttributes(
                modality=text(tags, "Modality"),
                series_number=text(tags, "SeriesNumber"),
                series_description=text(tags, "SeriesDescription"),
                body_part_examined=text(tags, "BodyPartExamined"),
            ),
            tuple(filter(None, map(_id, listed if isinstance(listed, list) else []))),
        )
    return rows


def instance_rows(value: object) -> dict[str, InstanceRow]:
    """Read a list of instances, by identifier; what is none, or no file, is left out."""
    rows = map(instance_row, value if isinstance(value, list) else [])
    return {row.instance_id: row for row in rows if row is not None}


def instance_row(value: object) -> InstanceRow | None:
    """Read an instance; None where it cannot be said which file it is."""
    row = _object(value)
    instance_id, size, uuid = _id(row.get("ID")), row.get("FileSize"), row.get("FileUuid")
    if not (instance_id and _is_count(size) and isinstance(uuid, str) and uuid):
        return None
    assert isinstance(size, int)
    tags = _object(row.get("MainDicomTags"))
    return InstanceRow(
        instance_id,
        _id(row.get("ParentSeries")),
        _uid(tags, "SOPInstanceUID"),
        text(tags, "InstanceNumber"),
        Fingerprint(size, 0, _revision(uuid)),
    )


def locator_of(study_id: str, instance_id: str) -> str:
    """Return the locator of an instance: the path that it gets where it is restored."""
    return f"{study_id}/{instance_id}.dcm"


def instance_of(locator: str) -> str:
    """Return Orthanc's identifier of an instance; empty for a locator that is not of this kind."""
    found = _LOCATOR.match(locator)
    return found[1] if found else ""


def entry_of(
    locator: str, row: InstanceRow, series: SeriesRow | None, study: StudyRow
) -> InstanceEntry:
    """Make the entry of an instance, with what Orthanc's index says of it."""
    uids = (study.study_instance_uid, series.series_instance_uid if series else "")
    indexed = None
    if series is not None and all((*uids, row.sop_instance_uid)):
        indexed = InstanceHeader(
            sop_class_uid="",
            sop_instance_uid=row.sop_instance_uid,
            study_instance_uid=uids[0],
            series_instance_uid=uids[1],
            transfer_syntax_uid="",
            study=study.attributes,
            series=series.attributes,
            instance_number=row.instance_number,
            data_set_start=0,
            data_set_end=0,
        )
    return InstanceEntry(
        locator,
        row.fingerprint,
        expected_sop_instance_uid=row.sop_instance_uid,
        indexed=indexed,
    )


def unknown_entry(locator: str) -> InstanceEntry:
    """Make the entry of an instance that is listed and not described."""
    return InstanceEntry(locator, _UNKNOWN)


def is_unknown(entry: InstanceEntry) -> bool:
    """Say whether Orthanc did not describe an entry when it was listed."""
    return entry.fingerprint == _UNKNOWN


def counted(value: object, name: str) -> int:
    """Return a count of `/statistics` or the like; 0 where it makes no sense."""
    count = _object(value).get(name)
    if isinstance(count, str) and count.isdecimal() and len(count) < 20:
        count = int(count)
    return count if isinstance(count, int) and _is_count(count) else 0


def text(row: Mapping[str, object], name: str) -> str:
    """Return a text that can be stored; empty where there is none."""
    value = row.get(name)
    if not isinstance(value, str):
        return ""
    value = value[:_LONGEST_TEXT].replace("\0", "")
    return value.encode(errors="replace").decode().strip()


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _id(value: object) -> str:
    return value if isinstance(value, str) and ID.match(value) else ""


def _uid(tags: Mapping[str, object], name: str) -> str:
    value = text(tags, name)
    return value if is_usable_uid(value) else ""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST


def _revision(uuid: str) -> int:
    """Make the UUID that Orthanc gives each file it writes a number below 2**63, never 0."""
    digest = hashlib.sha256(uuid.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") >> 1 or 1
