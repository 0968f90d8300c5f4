"""The Query/Retrieve information models: their SOP classes, levels, and what their keys must be.

PS3.4 Annex C. Without relational queries each level above must be named by exactly one unique key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dcmvault.dicom.attributes import UNIQUE_KEYS
from dcmvault.model.query import ArchiveQuery, QueryLevel, Selection

_PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1."
_STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2."
#: What the last component of a SOP class stands for.
_FIND, _MOVE, _GET = "1", "2", "3"

FIND_CLASSES = (_PATIENT_ROOT + _FIND, _STUDY_ROOT + _FIND)
MOVE_CLASSES = (_PATIENT_ROOT + _MOVE, _STUDY_ROOT + _MOVE)
GET_CLASSES = (_PATIENT_ROOT + _GET, _STUDY_ROOT + _GET)
QUERY_RETRIEVE_CLASSES = frozenset(FIND_CLASSES + MOVE_CLASSES + GET_CLASSES)

#: UIDs of one retrieval.
_MOST_UIDS = 100_000


class IdentifierError(Exception):
    """What a request asks does not fit the model: status A900; says why in 64 characters."""


@dataclass(frozen=True, slots=True)
class QueryModel:
    """One information model as an association uses it."""

    top: QueryLevel
    #: Relational queries and retrievals were agreed on (PS3.4 section C.5.1.1.3).
    is_relational: bool

    @classmethod
    def of(cls, sop_class_uid: str, *, is_relational: bool) -> QueryModel:
        """Return the model of a SOP class."""
        is_patient_root = sop_class_uid.startswith(_PATIENT_ROOT)
        return cls(QueryLevel.PATIENT if is_patient_root else QueryLevel.STUDY, is_relational)

    def level(self, text: str) -> QueryLevel:
        """Read a Query/Retrieve Level; IdentifierError for one that the model has not."""
        found = QueryLevel.__members__.get(text)
        if found is None or found < self.top:
            raise IdentifierError("QueryRetrieveLevel is not one of the model")
        return found

    def query(self, level: QueryLevel, keys: Mapping[int, str]) -> ArchiveQuery:
        """Check the keys of a C-FIND (PS3.4 section C.4.1.2.1)."""
        if not self.is_relational:
            self._check_above(level, keys)
        return ArchiveQuery(level, keys)

    def selection(self, level: QueryLevel, keys: Mapping[int, str]) -> Selection:
        """Check the keys of a C-MOVE or C-GET (PS3.4 section C.4.2.2.1)."""
        named = {one: _uids(keys.get(tag, "")) for one, tag in UNIQUE_KEYS.items() if one <= level}
        if not named[level]:
            raise IdentifierError("the unique key of the level has no value")
        if sum(map(len, named.values())) > _MOST_UIDS:
            raise IdentifierError("too many unique keys")
        if not self.is_relational:
            self._check_above(level, keys)
        if level is QueryLevel.PATIENT and len(named[level]) > 1:
            raise IdentifierError("PatientID is not a single value")
        return Selection(
            named.get(QueryLevel.STUDY, ()),
            named.get(QueryLevel.SERIES, ()),
            named.get(QueryLevel.IMAGE, ()),
            named[QueryLevel.PATIENT] if self.top is QueryLevel.PATIENT else (),
        )

    def _check_above(self, level: QueryLevel, keys: Mapping[int, str]) -> None:
        for above in QueryLevel:
            if not self.top <= above < level:
                continue
            value = keys.get(UNIQUE_KEYS[above], "")
            if not value or set(value) & set("*?\\"):
                raise IdentifierError(f"a single unique key of the level {above.name} is missing")


def _uids(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, text.split("\\"))))
