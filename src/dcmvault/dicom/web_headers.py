"""What a DICOMweb service's answers to a search tell of an instance, as a header.

The DICOM JSON model (PS3.18 Annex F): text is UTF-8, person names come in component groups,
numbers as numbers. All becomes the text that stands in a file.
"""

from __future__ import annotations

import hashlib

from dcmvault.dicom.qido_inventory import (
    SERIES_INSTANCE_UID,
    SERIES_RELATED_INSTANCES,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    STUDY_RELATED_INSTANCES,
    STUDY_RELATED_SERIES,
)
from dcmvault.dicom.web_answers import DataSet, first_number, first_uid, text_of
from dcmvault.model.comparison import StudySummary
from dcmvault.model.instance import InstanceHeader, SeriesAttributes, StudyAttributes

_STUDY_TAGS = {
    "patient_name": "00100010",
    "patient_id": "00100020",
    "patient_birth_date": "00100030",
    "patient_sex": "00100040",
    "study_date": "00080020",
    "study_time": "00080030",
    "study_description": "00081030",
    "accession_number": "00080050",
}
_SERIES_TAGS = {
    "modality": "00080060",
    "series_number": "00200011",
    "series_description": "0008103E",
    "body_part_examined": "00180015",
}
_INSTITUTION_NAME = "00080080"
_SOP_CLASS_UID = "00080016"
_INSTANCE_NUMBER = "00200013"
#: Of a file as it is stored (PS3.18 table 10.6.3-5); few services tell it.
_AVAILABLE_TRANSFER_SYNTAX_UID = "00083002"
#: Beside what a header shows: rows, columns, bits, frames, and what else services tell that
#: changes with the content.
_TELLING = ("00280010", "00280011", "00280100", "00280008", "00080012", "00080013", "00080023")

#: What is asked for of studies, series and instances.
STUDY_FIELDS = (*_STUDY_TAGS.values(), STUDY_RELATED_SERIES)
SERIES_FIELDS = (*_SERIES_TAGS.values(), _INSTITUTION_NAME, SERIES_RELATED_INSTANCES)
INSTANCE_FIELDS = (
    _SOP_CLASS_UID,
    _INSTANCE_NUMBER,
    _AVAILABLE_TRANSFER_SYNTAX_UID,
    *_TELLING,
)
#: What is asked for of studies that are only counted.
_MODALITIES_IN_STUDY = "00080061"
SUMMARY_FIELDS = (
    _STUDY_TAGS["study_date"],
    _STUDY_TAGS["accession_number"],
    _MODALITIES_IN_STUDY,
    STUDY_RELATED_SERIES,
    STUDY_RELATED_INSTANCES,
)


def summary_told(study: DataSet) -> StudySummary:
    """Make a summary of the row of a study."""
    modalities = text_of(study, _MODALITIES_IN_STUDY).split("\\")
    return StudySummary(
        first_uid(study, STUDY_INSTANCE_UID),
        first_number(study, STUDY_RELATED_SERIES),
        first_number(study, STUDY_RELATED_INSTANCES),
        text_of(study, _STUDY_TAGS["study_date"]),
        text_of(study, _STUDY_TAGS["accession_number"]),
        tuple(sorted({one.strip() for one in modalities} - {""})),
    )


def header_told(study: DataSet, series: DataSet, instance: DataSet) -> InstanceHeader:
    """Make a header of the rows of a study, of one of its series, and of an instance of that.

    Each attribute is taken from the row of its own level.
    """
    return InstanceHeader(
        sop_class_uid=first_uid(instance, _SOP_CLASS_UID),
        sop_instance_uid=first_uid(instance, SOP_INSTANCE_UID),
        study_instance_uid=first_uid(study, STUDY_INSTANCE_UID),
        series_instance_uid=first_uid(series, SERIES_INSTANCE_UID),
        transfer_syntax_uid=first_uid(instance, _AVAILABLE_TRANSFER_SYNTAX_UID),
        study=StudyAttributes(
            **{name: text_of(study, tag) for name, tag in _STUDY_TAGS.items()},
            institution_name=text_of(series, _INSTITUTION_NAME),
        ),
        series=SeriesAttributes(
            **{name: text_of(series, tag) for name, tag in _SERIES_TAGS.items()}
        ),
        instance_number=text_of(instance, _INSTANCE_NUMBER),
        data_set_start=0,
        data_set_end=0,
    )


def digest_told(header: InstanceHeader, instance: DataSet) -> int:
    """Make a number below 2**63, and not 0, of all that is told of an instance.

    It differs, but for one chance in 10**18, when anything of it does.
    """
    told = [
        header.study_instance_uid,
        header.series_instance_uid,
        header.sop_instance_uid,
        header.sop_class_uid,
        header.transfer_syntax_uid,
        header.instance_number,
        *header.study,
        *header.series,
        *(text_of(instance, tag) for tag in _TELLING),
    ]
    text = "\0".join(told).encode("utf-8")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1 or 1
