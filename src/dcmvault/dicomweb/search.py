"""QIDO-RS: a target becomes a query, and its answers DICOM JSON (PS3.18 section 10.6)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

from dcmvault.dicom import attributes as tags
from dcmvault.dicom.attributes import UNIQUE_KEYS, is_answerable, level_of, tag_of, vr_of
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.json_model import json_of_values
from dcmvault.dicomweb.media_types import choose
from dcmvault.dicomweb.replies import DICOM_JSON, JSON, Outcome, RefusedError, Reply, Request
from dcmvault.model.query import ArchiveAnswer, ArchiveQuery, QueryLevel
from dcmvault.ports.archive import Archive

_RETRIEVE_URL = "00081190"
_NUMBER_OF_FRAMES = 0x00280008
#: PS3.18 tables 10.6.3-3, -4 and -5, and what viewers' lists show.
_RETURNED: Mapping[QueryLevel, tuple[int, ...]] = {
    QueryLevel.STUDY: (
        tags.STUDY_DATE,
        tags.STUDY_TIME,
        tags.ACCESSION_NUMBER,
        tags.MODALITIES_IN_STUDY,
        0x00080090,  # Referring Physician's Name
        tags.STUDY_DESCRIPTION,
        tags.PATIENT_NAME,
        tags.PATIENT_ID,
        tags.PATIENT_BIRTH_DATE,
        tags.PATIENT_SEX,
        tags.STUDY_INSTANCE_UID,
        0x00200010,  # Study ID
        tags.STUDY_RELATED_SERIES,
        tags.STUDY_RELATED_INSTANCES,
    ),
    QueryLevel.SERIES: (
        tags.MODALITY,
        tags.SERIES_DESCRIPTION,
        tags.SERIES_INSTANCE_UID,
        tags.SERIES_NUMBER,
        tags.SERIES_RELATED_INSTANCES,
        0x00400244,  # Performed Procedure Step Start Date
        0x00400245,  # and Time
    ),
    QueryLevel.IMAGE: (
        tags.SOP_CLASS_UID,
        tags.SOP_INSTANCE_UID,
        tags.INSTANCE_NUMBER,
        0x00280010,  # Rows
        0x00280011,  # Columns
        0x00280100,  # Bits Allocated
        _NUMBER_OF_FRAMES,
    ),
}
#: Attributes that `includefield=all` adds.
_ALL: Mapping[QueryLevel, frozenset[int]] = {
    QueryLevel.STUDY: tags.PATIENT_TAGS | tags.STUDY_TAGS | tags.STUDY_COUNTS,
    QueryLevel.SERIES: tags.SERIES_TAGS,
    QueryLevel.IMAGE: frozenset(),
}
_RESOURCES = {
    "studies": QueryLevel.STUDY,
    "series": QueryLevel.SERIES,
    "instances": QueryLevel.IMAGE,
}
_MOST_PARAMETERS = 1000
_LONGEST_KEY = 64 * 1024
_LARGEST = 1 << 40


@dataclass(frozen=True, slots=True)
class Search:
    """One search, read from a request."""

    query: ArchiveQuery
    #: How many answers at most; negative: all.
    limit: int
    offset: int
    media_type: str
    root: str
    #: Parameters that are not followed.
    unsupported: tuple[str, ...]
    outcome: Outcome

    def reply(self, archive: Archive) -> Reply:
        """Ask; the answers come while they are found. Raises DcmvaultError."""
        stop = None if self.limit < 0 else self.offset + self.limit
        answers = islice(archive.find(self.query), self.offset, stop)
        first = next(answers, None)
        headers = {}
        if self.unsupported:
            names = ", ".join(name for name in self.unsupported if name.isalnum())
            headers["Warning"] = f'299 dcmvault "not followed: {names}"'
        if first is None:
            return Reply(204, headers=headers)
        return Reply(200, self.media_type, self._rows(chain([first], answers)), headers)

    def _rows(self, answers: Iterator[ArchiveAnswer]) -> Iterator[bytes]:
        mark = b"["
        for answer in answers:
            self.outcome.answers += 1
            row = json.dumps(self._row(answer), ensure_ascii=False, allow_nan=False)
            yield mark + row.encode("utf-8", "replace")
            mark = b","
        yield b"]"

    def _row(self, answer: ArchiveAnswer) -> Mapping[str, object]:
        known = dict.fromkeys(filter(is_answerable, self.query.keys), "")
        known |= answer.attributes
        row = json_of_values(known | {tags.INSTANCE_AVAILABILITY: "ONLINE"})
        row["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
        row[_RETRIEVE_URL] = {"vr": "UR", "Value": [self.root + _path(answer, self.query.level)]}
        return dict(sorted(row.items()))


def search_of(request: Request, outcome: Outcome) -> Search:
    """Read a search: /studies, /series, /instances, below a study or a series too."""
    level, keys = _resource(request.path)
    limit, offset = -1, 0
    fields: set[int] = set()
    unsupported: list[str] = []
    if len(request.parameters) > _MOST_PARAMETERS:
        raise RefusedError(400, "there are more parameters than anybody needs")
    for name, value in request.parameters:
        match name.lower():
            case "limit":
                limit = _whole(name, value)
            case "offset":
                offset = _whole(name, value)
            case "includefield":
                fields |= _fields(value, level)
            case "fuzzymatching" | "emptyvaluematching" | "multiplevaluematching":
                if value.lower() != "false":
                    unsupported.append(name.lower())
            case "accept":
                pass
            case _:
                if not _add_key(keys, name, value, level) and value:
                    unsupported.append(name)
    _note(outcome, level, keys)
    asked = dict.fromkeys(fields | _returned(level, request.path), "") | keys
    media_type = choose(request, (DICOM_JSON, JSON))
    query = ArchiveQuery(level, asked)
    return Search(query, limit, offset, media_type, request.root, tuple(unsupported), outcome)


def _resource(path: tuple[str, ...]) -> tuple[QueryLevel, dict[int, str]]:
    """Read the path of a search: what is asked for, and the UIDs above it."""
    *above, resource = path
    keys = {}
    for name, uid in zip(above[::2], above[1::2], strict=True):
        keys[UNIQUE_KEYS[_RESOURCES[name]]] = uid
    return _RESOURCES[resource], keys


def _returned(level: QueryLevel, path: tuple[str, ...]) -> set[int]:
    """Say what is returned unasked: of levels above only where the path does not name them."""
    found = set(_RETURNED[level])
    for one in (QueryLevel.STUDY, QueryLevel.SERIES):
        if one < level:
            name = "studies" if one is QueryLevel.STUDY else "series"
            found |= {UNIQUE_KEYS[one]} if name in path[:-1] else set(_RETURNED[one])
    return found


def _fields(value: str, level: QueryLevel) -> set[int]:
    found: set[int] = set()
    for name in value.split(","):
        if name.lower() == "all":
            for one, members in _ALL.items():
                if one <= level:
                    found |= members
            continue
        tag = tag_of(name.partition(".")[0])
        if tag is None:
            raise RefusedError(400, "“includefield” names what is no attribute")
        found.add(tag)
    return {tag for tag in found if level_of(tag) <= level}


def _add_key(keys: dict[int, str], name: str, value: str, level: QueryLevel) -> bool:
    """Add a key; False where nothing can match by it at the level."""
    tag = tag_of(name)
    if tag is None:
        raise RefusedError(400, "a parameter is neither one of QIDO-RS nor an attribute")
    if len(value) > _LONGEST_KEY:
        raise RefusedError(400, "a key is longer than anybody needs")
    if level_of(tag) > level or not is_answerable(tag):
        return False
    if vr_of(tag) == "UI":
        value = "\\".join(one.strip() for one in value.replace(",", "\\").split("\\"))
    if tag in keys and keys[tag] and value and value != keys[tag]:
        if vr_of(tag) != "UI" or tag not in UNIQUE_KEYS.values():
            raise RefusedError(400, "an attribute is named twice")
        # The path names one, the parameter perhaps others: what is in both matches.
        both = [uid for uid in keys[tag].split("\\") if uid in value.split("\\")]
        value = "\\".join(both) or "0"
    keys[tag] = value or keys.get(tag, "")
    return True


def _whole(name: str, value: str) -> int:
    if not (value.isascii() and value.isdecimal()) or len(value) > 12 or int(value) > _LARGEST:
        raise RefusedError(400, f"“{name.lower()}” is no whole number")
    return int(value)


def _note(outcome: Outcome, level: QueryLevel, keys: Mapping[int, str]) -> None:
    """Note what was asked without saying anything of a patient."""
    outcome.service = "QIDO-RS"
    outcome.level = level.name
    outcome.keys = tuple(f"{tag:08X}" for tag, key in sorted(keys.items()) if key)
    studies, series, instances = (
        tuple(filter(is_usable_uid, keys.get(UNIQUE_KEYS[one], "").split("\\")))
        for one in (QueryLevel.STUDY, QueryLevel.SERIES, QueryLevel.IMAGE)
    )
    outcome.study_instance_uids, outcome.series_instance_uids = studies, series
    outcome.sop_instance_uids = instances


def _path(answer: ArchiveAnswer, level: QueryLevel) -> str:
    known = answer.attributes
    path = f"/studies/{known.get(tags.STUDY_INSTANCE_UID, '')}"
    if level >= QueryLevel.SERIES:
        path += f"/series/{known.get(tags.SERIES_INSTANCE_UID, '')}"
    if level >= QueryLevel.IMAGE:
        path += f"/instances/{known.get(tags.SOP_INSTANCE_UID, '')}"
    return path
