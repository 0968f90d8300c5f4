"""Asking a peer for what it knows of studies, series and instances: C-FIND with attributes.

In whichever model it serves (PS3.4 Annex C.4.1, `query_model`). Values are text, decoded by the
Specific Character Set of each answer; what a key did not ask for is left out, and every length has
a limit.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dcmvault.dicom import command as commands
from dcmvault.dicom.association import PeerAssociation
from dcmvault.dicom.charset import decode_text
from dcmvault.dicom.find import find_request, refusal_of_query
from dcmvault.dicom.query_model import GrantedQueries, granted_queries
from dcmvault.errors import DestinationError, MalformedDicomError

Tag = tuple[int, int]
CHARACTER_SET: Tag = (0x0008, 0x0005)
SOP_CLASS_UID: Tag = (0x0008, 0x0016)
SOP_INSTANCE_UID: Tag = (0x0008, 0x0018)
STUDY_DATE: Tag = (0x0008, 0x0020)
STUDY_TIME: Tag = (0x0008, 0x0030)
ACCESSION_NUMBER: Tag = (0x0008, 0x0050)
QUERY_LEVEL: Tag = (0x0008, 0x0052)
MODALITY: Tag = (0x0008, 0x0060)
MODALITIES_IN_STUDY: Tag = (0x0008, 0x0061)
STUDY_DESCRIPTION: Tag = (0x0008, 0x1030)
SERIES_DESCRIPTION: Tag = (0x0008, 0x103E)
PATIENT_NAME: Tag = (0x0010, 0x0010)
PATIENT_ID: Tag = (0x0010, 0x0020)
PATIENT_BIRTH_DATE: Tag = (0x0010, 0x0030)
PATIENT_SEX: Tag = (0x0010, 0x0040)
BODY_PART_EXAMINED: Tag = (0x0018, 0x0015)
STUDY_INSTANCE_UID: Tag = (0x0020, 0x000D)
SERIES_INSTANCE_UID: Tag = (0x0020, 0x000E)
SERIES_NUMBER: Tag = (0x0020, 0x0011)
INSTANCE_NUMBER: Tag = (0x0020, 0x0013)
STUDY_RELATED_SERIES: Tag = (0x0020, 0x1206)
STUDY_RELATED_INSTANCES: Tag = (0x0020, 0x1208)
SERIES_RELATED_INSTANCES: Tag = (0x0020, 0x1209)

_UIDS = frozenset({SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID})
_UID_LIST_CHARACTERS = frozenset("0123456789.\\")
#: More answers to one question are a defect of the peer.
_MAX_ANSWERS = 500_000
_MAX_BYTES = 512 << 20
#: Bytes of one value that are looked at. A name has three groups of 64 characters (PS3.5 6.2).
_LONGEST_VALUE = 1024
_PENDING = (0xFF00, 0xFF01)

Row = Mapping[Tag, str]


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers to one question. `is_cut`: the peer itself says that there are more."""

    rows: Sequence[Row]
    is_cut: bool = False


@dataclass(slots=True)
class AttributeQuery:
    """Questions over one association, all to be answered by `deadline` (monotonic).

    Raises DestinationError where the peer refuses a question, and its subclasses when the
    association is lost.
    """

    association: PeerAssociation
    deadline: float

    @property
    def granted(self) -> GrantedQueries:
        """How questions may be asked. Raises DestinationError where none are answered."""
        granted = granted_queries(self.association)
        if granted is None:
            raise DestinationError(
                f"{self.association.peer.name} offers no query (C-FIND)",
                hint="Allow our AE title to query at the peer.",
            )
        return granted

    def ask(self, level: str, keys: Mapping[Tag, str], returned: Collection[Tag]) -> Answers:
        """Ask at a level (PATIENT, STUDY, SERIES or IMAGE) for what matches all keys.

        Where a level above needs a key, the caller knows that (`granted`). Answers for another
        study or series than asked for are left out.
        """
        association = self.association
        granted = self.granted
        wanted = {*returned, *keys, CHARACTER_SET}
        fixed = {
            tag: frozenset(value.split("\\"))
            for tag, value in keys.items()
            if tag in _UIDS and value
        }
        rows: list[Row] = []
        status = told = 0
        try:
            for answer in association.ask(
                find_request(
                    granted.context_id, _identifier(level, keys, returned), granted.model.find_uid
                )
            ):
                status = answer.status
                if status not in _PENDING:
                    break
                told += len(answer.data_set)
                if (
                    len(rows) >= _MAX_ANSWERS
                    or told > _MAX_BYTES
                    or time.monotonic() > self.deadline
                ):
                    raise MalformedDicomError("it answers without end")
                row = _read_row(answer.data_set, wanted)
                if all(row.get(tag, "") in (*values, "") for tag, values in fixed.items()):
                    rows.append(row)
        except MalformedDicomError as error:
            association.abort()
            raise DestinationError(
                f"{association.peer.name} answers queries with what is not DICOM: {error.message}",
                hint="Look for a defect of the peer.",
            ) from error
        if status != 0 and not rows:
            raise refusal_of_query(association.peer.name, level, status, 0)
        return Answers(rows, is_cut=status != 0)


def _identifier(level: str, keys: Mapping[Tag, str], returned: Collection[Tag]) -> bytes:
    elements: dict[Tag, bytes] = dict.fromkeys(returned, b"")
    elements[QUERY_LEVEL] = _padded(level)
    for tag, value in keys.items():
        if tag in _UIDS:
            assert set(value) <= _UID_LIST_CHARACTERS
            elements[tag] = commands.encode_uid(value)
        else:
            elements[tag] = _padded(value)
            if not value.isascii():
                elements[CHARACTER_SET] = b"ISO_IR 192"
    return commands.encode_identifier((*tag, value) for tag, value in elements.items())


def _padded(value: str) -> bytes:
    encoded = value.encode("utf-8", "replace")
    return encoded + b" " * (len(encoded) % 2)


def _read_row(data_set: bytes, wanted: Collection[Tag]) -> Row:
    """Read the text of what was asked for, without interpreting anything else."""
    raw = {
        tag: value[:_LONGEST_VALUE]
        for tag, value in commands.decode_flat(data_set)
        if tag in wanted
    }
    character_set = raw.pop(CHARACTER_SET, b"")
    return {
        tag: decode_text(value, b"" if tag in _UIDS else character_set).strip("\0 ")
        for tag, value in raw.items()
    }
