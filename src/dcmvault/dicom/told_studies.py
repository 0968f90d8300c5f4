"""What a peer tells of its studies, kept small: there may be millions."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from dcmvault.dicom.attribute_query import (
    ACCESSION_NUMBER,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    STUDY_DATE,
    STUDY_DESCRIPTION,
    STUDY_INSTANCE_UID,
    STUDY_TIME,
    Row,
)
from dcmvault.errors import DestinationError

#: Bytes of memory that what is told of studies may take; five million are about 2 GiB.
_MAX_BYTES = 4 << 30
#: Bytes of memory for each study beside its texts.
_BESIDE_TEXTS = 100

#: What is asked of each study, in the order in which it is kept; first, of whom it is.
PATIENT_KEYS = (PATIENT_ID, PATIENT_NAME, PATIENT_BIRTH_DATE, PATIENT_SEX)
STUDY_KEYS = (
    *PATIENT_KEYS,
    STUDY_INSTANCE_UID,
    STUDY_DATE,
    STUDY_TIME,
    STUDY_DESCRIPTION,
    ACCESSION_NUMBER,
)
_BETWEEN = "\0"


class TooMuchToldError(DestinationError):
    """What a peer tells is more than can be kept, however it is asked."""


class ToldStudies(dict[str, str]):
    """What was told of each study (`unpacked`), by Study Instance UID; only `keep` adds to it."""

    def __init__(self) -> None:
        super().__init__()
        #: Bytes of memory that it takes.
        self._bytes = 0

    def keep(self, row: Row) -> None:
        """Keep what is told of a study with a usable UID, unless more is known of it.

        Raises TooMuchToldError.
        """
        self._keep(row[STUDY_INSTANCE_UID], _packed(row))

    def keep_all(self, others: ToldStudies) -> None:
        """Keep what was told of all these. Raises TooMuchToldError."""
        for uid, told in others.items():
            self._keep(uid, told)

    def _keep(self, uid: str, told: str) -> None:
        known = self.get(uid)
        if told <= (known or ""):
            return
        self._bytes += _memory(uid, told) - _memory(uid, known)
        if self._bytes > _MAX_BYTES:
            raise TooMuchToldError(
                f"what the peer tells of {len(self):,} studies already takes"
                f" {_MAX_BYTES >> 20:,} MiB of memory",
                hint="Look for a defect of the peer.",
            )
        self[uid] = told


def telling_most(rows: Iterable[Row]) -> Row:
    """Choose one of several answers about one study, always the same; nothing for none.

    A peer may have a study under two patients, or tell less of it another time.
    """
    return max(rows, key=_packed, default={})


def unpacked(told: str) -> Row:
    """Return what was told of a study (STUDY_KEYS)."""
    return dict(zip(STUDY_KEYS, told.split(_BETWEEN), strict=True))


def patient_id_in(told: str) -> str:
    """Return the patient ID in what was told of a study."""
    return told.split(_BETWEEN, 1)[0]


def _packed(row: Row) -> str:
    return _BETWEEN.join(row.get(tag, "").replace(_BETWEEN, " ") for tag in STUDY_KEYS)


def _memory(uid: str, told: str | None) -> int:
    """Return the bytes of memory that a study takes among those found; 0 where nothing is told."""
    return sys.getsizeof(uid) + sys.getsizeof(told) + _BESIDE_TEXTS if told is not None else 0
