"""From attribute values as bytes to an `InstanceHeader`: decoding, and what its UIDs lack."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from operator import itemgetter

from dcmvault.dicom.charset import decode_text
from dcmvault.dicom.file_meta import FileMeta
from dcmvault.model.instance import InstanceHeader, SeriesAttributes, StudyAttributes

_CHARACTER_SET = 0x00080005
_SOP_CLASS = 0x00080016
_SOP_INSTANCE = 0x00080018
_STUDY = 0x0020000D
_SERIES = 0x0020000E
INSTANCE_NUMBER = 0x00200013
_STATION_NAME = 0x00081010

_UIDS = {
    _STUDY: "Study Instance UID",
    _SERIES: "Series Instance UID",
    _SOP_CLASS: "SOP Class UID",
    _SOP_INSTANCE: "SOP Instance UID",
}
#: What names an instance.
IDENTITY_TAGS = frozenset({_STUDY, _SERIES, _SOP_INSTANCE})
#: Fields of `StudyAttributes` and `SeriesAttributes`, in their order, and what they show.
_STUDY_TAGS = {
    "patient_name": 0x00100010,
    "patient_id": 0x00100020,
    "patient_birth_date": 0x00100030,
    "patient_sex": 0x00100040,
    "study_date": 0x00080020,
    "study_time": 0x00080030,
    "study_description": 0x00081030,
    "accession_number": 0x00080050,
    "institution_name": 0x00080080,
}
_SERIES_TAGS = {
    "modality": 0x00080060,
    "series_number": 0x00200011,
    "series_description": 0x0008103E,
    "body_part_examined": 0x00180015,
}
#: Character set, UIDs, and what `InstanceHeader` shows of study, series and instance.
HEADER_TAGS = frozenset(
    {_CHARACTER_SET, INSTANCE_NUMBER, _STATION_NAME}
    | {*_UIDS, *_STUDY_TAGS.values(), *_SERIES_TAGS.values()}
)
_uids_of = itemgetter(*_UIDS)
_study_texts_of = itemgetter(*_STUDY_TAGS.values())
_series_texts_of = itemgetter(*_SERIES_TAGS.values())
_NO_TEXTS = dict.fromkeys(HEADER_TAGS, "")

#: Longest value decoded, bytes; texts that matter are a tenth of it by PS3.5 6.2.
_MAX_TEXT = 4096
_MAX_UID = 64
_UID = r"(?:0|[1-9][0-9]*+)(?:\.(?:0|[1-9][0-9]*+))++"
_valid_uid = re.compile(_UID).fullmatch
#: All four at once, for the time it saves.
_valid_uids = re.compile(" ".join([_UID] * len(_UIDS))).fullmatch


def instance_header(
    meta: FileMeta,
    found: Mapping[int, bytes],
    flaws: list[str],
    *,
    data_set_end: int,
    pixels: tuple[int, int],
) -> InstanceHeader:
    """Put a header together from the values of HEADER_TAGS that were found.

    Flaws of the UIDs are added to those given. `pixels` says where the pixel data lie.
    """
    texts = _texts(found)
    uids = study, series, sop_class, sop_instance = _uids_of(texts)
    if (
        (sop_class, sop_instance) != (meta.sop_class_uid, meta.sop_instance_uid)
        or len(max(uids, key=len)) > _MAX_UID
        or not _valid_uids(" ".join(uids))
    ):
        flaws.extend(_uid_flaws(meta, texts))
    return InstanceHeader(
        sop_class_uid=sop_class,
        sop_instance_uid=sop_instance,
        study_instance_uid=study,
        series_instance_uid=series,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        study=StudyAttributes(*_study_texts_of(texts)),
        series=SeriesAttributes(*_series_texts_of(texts)),
        instance_number=texts[INSTANCE_NUMBER],
        data_set_start=meta.data_set_start,
        data_set_end=data_set_end,
        pixel_data_start=pixels[0],
        pixel_data_end=pixels[1],
        has_preamble=meta.has_preamble,
        has_file_meta=meta.has_file_meta,
        flaws=tuple(flaws),
        source_ae_title=meta.source_ae_title,
        station_name=texts[_STATION_NAME],
    )


def _texts(found: Mapping[int, bytes]) -> dict[int, str]:
    """Decode everything found, padding stripped; what was not found is empty."""
    texts = _NO_TEXTS.copy()
    together = b"".join(found.values())
    if together.isascii() and b"\x1b" not in together and len(together) <= _MAX_TEXT:
        for tag, raw in found.items():
            texts[tag] = raw.rstrip(b"\0 ").decode("ascii")
        return texts
    character_set = found.get(_CHARACTER_SET, b"")
    for tag, raw in found.items():
        text = raw[:_MAX_TEXT]
        if tag in _UIDS:
            texts[tag] = text.rstrip(b"\0 ").decode("ascii", "replace")
        else:
            texts[tag] = decode_text(text, character_set)
    return texts


def _uid_flaws(meta: FileMeta, texts: Mapping[int, str]) -> Iterator[str]:
    for tag, name in _UIDS.items():
        uid = texts[tag]
        if not uid:
            yield f"{name} is missing."
        elif len(uid) > _MAX_UID or not _valid_uid(uid):
            yield f"{name} is not a valid UID."
    for tag, stated in (
        (_SOP_CLASS, meta.sop_class_uid),
        (_SOP_INSTANCE, meta.sop_instance_uid),
    ):
        if stated and texts[tag] and texts[tag] != stated:
            yield f"{_UIDS[tag]} differs between file meta information and data set."
