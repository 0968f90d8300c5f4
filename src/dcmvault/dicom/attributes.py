"""Attributes of the Query/Retrieve information model: at which level each stands, and its VR.

Levels are those of the modules that PS3.3 puts attributes in; what no module above the image has
stands at the image level.
"""

from __future__ import annotations

from functools import lru_cache

from pydicom.datadict import dictionary_VR, tag_for_keyword

from dcmvault.model.query import QueryLevel

_TAG_DIGITS = 8
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")

CHARACTER_SET = 0x00080005
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
STUDY_DATE = 0x00080020
STUDY_TIME = 0x00080030
ACCESSION_NUMBER = 0x00080050
QUERY_LEVEL = 0x00080052
RETRIEVE_AE_TITLE = 0x00080054
INSTANCE_AVAILABILITY = 0x00080056
FAILED_SOP_INSTANCE_UIDS = 0x00080058
MODALITY = 0x00080060
MODALITIES_IN_STUDY = 0x00080061
SOP_CLASSES_IN_STUDY = 0x00080062
INSTITUTION_NAME = 0x00080080
STUDY_DESCRIPTION = 0x00081030
SERIES_DESCRIPTION = 0x0008103E
PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020
PATIENT_BIRTH_DATE = 0x00100030
PATIENT_SEX = 0x00100040
BODY_PART_EXAMINED = 0x00180015
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
SERIES_NUMBER = 0x00200011
INSTANCE_NUMBER = 0x00200013
PATIENT_RELATED_STUDIES = 0x00201200
PATIENT_RELATED_SERIES = 0x00201202
PATIENT_RELATED_INSTANCES = 0x00201204
STUDY_RELATED_SERIES = 0x00201206
STUDY_RELATED_INSTANCES = 0x00201208
SERIES_RELATED_INSTANCES = 0x00201209

#: The unique key of each level (PS3.4 section C.6).
UNIQUE_KEYS = {
    QueryLevel.PATIENT: PATIENT_ID,
    QueryLevel.STUDY: STUDY_INSTANCE_UID,
    QueryLevel.SERIES: SERIES_INSTANCE_UID,
    QueryLevel.IMAGE: SOP_INSTANCE_UID,
}
#: Patient module (PS3.3 section C.7.1.1): what is text.
PATIENT_TAGS = frozenset(
    {PATIENT_NAME, PATIENT_ID, PATIENT_BIRTH_DATE, PATIENT_SEX}
    | {0x00100021, 0x00100022, 0x00100032, 0x00101000, 0x00101001, 0x00102160, 0x00104000}
    | {0x00102201, 0x00102202, 0x00102292, 0x00102297}
)
#: General Study and Patient Study modules (C.7.2), and what archives add to a study.
STUDY_TAGS = frozenset(
    {STUDY_DATE, STUDY_TIME, ACCESSION_NUMBER, STUDY_DESCRIPTION, STUDY_INSTANCE_UID}
    | {INSTITUTION_NAME, 0x00080081, 0x00080090, 0x00081048, 0x00081060, 0x00081080}
    | {0x00101010, 0x00101020, 0x00101030, 0x00102000, 0x00102110, 0x00102180, 0x001021A0}
    | {0x001021B0, 0x001021C0, 0x001021D0, 0x00200010, 0x00321032, 0x00321033}
    | {0x00321060}
)
#: What is counted or gathered, for a patient and for a study.
PATIENT_COUNTS = frozenset(
    {PATIENT_RELATED_STUDIES, PATIENT_RELATED_SERIES, PATIENT_RELATED_INSTANCES}
)
STUDY_COUNTS = frozenset(
    {MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY, STUDY_RELATED_SERIES, STUDY_RELATED_INSTANCES}
)
#: General Series, Frame of Reference and General Equipment modules (C.7.3 to C.7.5).
SERIES_TAGS = frozenset(
    {MODALITY, SERIES_NUMBER, SERIES_INSTANCE_UID, SERIES_DESCRIPTION, BODY_PART_EXAMINED}
    | {0x00080021, 0x00080031, 0x00080070, 0x00081010, 0x00081040, 0x00081050, 0x00081070}
    | {0x00081090, 0x00181000, 0x00181020, 0x00181030, 0x00185100, 0x00200052, 0x00200060}
    | {0x00201040, 0x00400244, 0x00400245, 0x00400250, 0x00400251, 0x00400253, 0x00400254}
    | {0x00080064, 0x00180010, 0x00201002, 0x00540081, 0x00540101, 0x00201000}
)

#: VRs whose values are text (PS3.5 section 6.2).
TEXT_VRS = frozenset(
    [
        "AE",
        "AS",
        "CS",
        "DA",
        "DS",
        "DT",
        "IS",
        "LO",
        "LT",
        "PN",
        "SH",
        "ST",
        "TM",
        "UC",
        "UI",
        "UR",
        "UT",
    ]
)
#: Those of them that the Specific Character Set applies to.
ENCODED_VRS = frozenset(["LO", "LT", "PN", "SH", "ST", "UC", "UT"])
#: VRs whose values are numbers, and their struct formats.
NUMBER_VRS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}


def level_of(tag: int) -> QueryLevel:
    """Return the level that an attribute stands at."""
    if tag in PATIENT_TAGS or tag in PATIENT_COUNTS:
        return QueryLevel.PATIENT
    if tag in STUDY_TAGS or tag in STUDY_COUNTS:
        return QueryLevel.STUDY
    if tag in SERIES_TAGS or tag == SERIES_RELATED_INSTANCES:
        return QueryLevel.SERIES
    return QueryLevel.IMAGE


@lru_cache(maxsize=4096)
def vr_of(tag: int) -> str:
    """Return the VR of an attribute; the first where it may have several, UN for an unknown one."""
    try:
        return dictionary_VR(tag).partition(" ")[0]
    except KeyError:
        return "UN"


def is_answerable(tag: int) -> bool:
    """Say whether values of an attribute can be told as text: no sequences, bulk data, private."""
    vr = vr_of(tag)
    return vr in TEXT_VRS or vr in NUMBER_VRS or vr == "AT"


def tag_of(name: str) -> int | None:
    """Return the tag that a keyword or eight hexadecimal digits name; None for anything else."""
    if len(name) == _TAG_DIGITS and set(name) <= _HEXADECIMAL:
        return int(name, 16)
    return tag_for_keyword(name)
