"""Asking a peer what it holds: C-FIND in the Study Root model, by UIDs only (PS3.4 Annex C).

Answers are read as sets of UIDs. Peers repeat a UID once per frame, split a series in two, give
counts that include objects of their own, or leave counts out: a count is only a hint.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dcmvault.dicom import command as commands
from dcmvault.dicom.association import IMPLICIT_VR_LITTLE_ENDIAN, PeerAssociation
from dcmvault.dicom.messages import Answer, Request
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.errors import DestinationError, MalformedDicomError

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
#: Implicit VR little endian is the syntax that every peer must take (PS3.5 section 10.1).
FIND_PROPOSAL = ContextProposal(STUDY_ROOT_FIND, (IMPLICIT_VR_LITTLE_ENDIAN,))

_Tag = tuple[int, int]
_SOP_INSTANCE_UID: _Tag = (0x0008, 0x0018)
_QUERY_LEVEL: _Tag = (0x0008, 0x0052)
_STUDY_INSTANCE_UID: _Tag = (0x0020, 0x000D)
_SERIES_INSTANCE_UID: _Tag = (0x0020, 0x000E)
_STUDY_RELATED_SERIES: _Tag = (0x0020, 0x1206)
_STUDY_RELATED_INSTANCES: _Tag = (0x0020, 0x1208)

_UID_LIST_CHARACTERS = frozenset("0123456789.\\")
#: UIDs asked for in one question; lists grow quickly (PS3.4 section C.2.2.2.2).
_UIDS_PER_QUESTION = 50
#: More answers to one question are a defect of the peer (OsiriX answers once per frame).
_MAX_ANSWERS = 500_000
#: Seconds that all questions about one study may take; every answer has a limit of its own, too.
_LONGEST_QUERY_S = 2 * 3600.0
#: No UID is longer, nor a count; more of a value is not looked at.
_LONGEST_VALUE = 66


@dataclass(frozen=True, slots=True)
class StudyCounts:
    """What a peer says about one study; None where it does not say.

    `answers` is the number of its answers: 0 means that it knows no such study.
    """

    answers: int
    series: int | None
    instances: int | None


@dataclass
class StudyQuery:
    """Questions about studies over one association, each noted in `asked` as raw proof.

    Raises DestinationError when the peer refuses a question or caps its answer, and
    AssociationLostError when it does not answer.
    """

    association: PeerAssociation
    #: One row per question: level, UIDs asked for, number of answers, final status. JSON-able.
    asked: list[Mapping[str, object]] = field(default_factory=list)
    #: Seconds from now within which all questions must be answered.
    longest_s: float = _LONGEST_QUERY_S

    def __post_init__(self) -> None:
        self._deadline = time.monotonic() + self.longest_s

    @property
    def peer_name(self) -> str:
        """How messages call the peer."""
        return self.association.peer.name

    @property
    def is_open(self) -> bool:
        """Whether a further question can be asked."""
        return self.association.is_open

    def study_counts(self, study_instance_uid: str) -> StudyCounts:
        """Ask for (0020,1206) and (0020,1208) of one study.

        Where a peer gives several rows for one study, the highest counts are returned: the sum
        could count an instance twice.
        """
        answers = 0
        series: int | None = None
        instances: int | None = None
        for row in self._ask(
            "STUDY",
            {_STUDY_INSTANCE_UID: study_instance_uid},
            (_STUDY_RELATED_SERIES, _STUDY_RELATED_INSTANCES),
        ):
            answers += 1
            # A row that does not say which study it counts proves nothing about ours.
            if row.get(_STUDY_INSTANCE_UID) == study_instance_uid:
                series = _highest(series, row.get(_STUDY_RELATED_SERIES))
                instances = _highest(instances, row.get(_STUDY_RELATED_INSTANCES))
        return StudyCounts(answers, series, instances)

    def series_uids(self, study_instance_uid: str) -> frozenset[str]:
        """Return the Series Instance UIDs of one study."""
        rows = self._ask(
            "SERIES", {_STUDY_INSTANCE_UID: study_instance_uid}, (_SERIES_INSTANCE_UID,)
        )
        return frozenset(_uids(rows, _SERIES_INSTANCE_UID))

    def instance_uids(
        self,
        study_instance_uid: str,
        series_instance_uid: str,
        among: Collection[str] = (),
    ) -> frozenset[str]:
        """Return the SOP Instance UIDs of one series.

        `among` asks for these UIDs only, which finds what a capped answer left out.
        """
        keys = {
            _STUDY_INSTANCE_UID: study_instance_uid,
            _SERIES_INSTANCE_UID: series_instance_uid,
        }
        wanted = sorted(among)
        questions = [
            keys | {_SOP_INSTANCE_UID: "\\".join(wanted[start : start + _UIDS_PER_QUESTION])}
            for start in range(0, len(wanted), _UIDS_PER_QUESTION)
        ] or [keys]
        found: set[str] = set()
        for question in questions:
            rows = self._ask("IMAGE", question, (_SOP_INSTANCE_UID,))
            found.update(_uids(rows, _SOP_INSTANCE_UID))
        return frozenset(found)

    def _ask(
        self, level: str, keys: Mapping[_Tag, str], returned: Sequence[_Tag]
    ) -> Iterator[Mapping[_Tag, str]]:
        """Ask one question and yield the answers that match its keys, as they come."""
        peer = self.association.peer.name
        context_id = self.association.contexts.id_of(STUDY_ROOT_FIND, IMPLICIT_VR_LITTLE_ENDIAN)
        if context_id is None:
            raise DestinationError(
                f"{peer} offers no query (C-FIND, Study Root)",
                hint="Allow our AE title to query at the peer, or ask for the level `sent`.",
            )
        if not all(value and set(value) <= _UID_LIST_CHARACTERS for value in keys.values()):
            return  # no instance has such a UID; empty, it would ask for everything there is
        elements: dict[_Tag, bytes] = dict.fromkeys(returned, b"")
        elements[_QUERY_LEVEL] = level.encode("ascii") + b" " * (len(level) % 2)
        elements |= {tag: commands.encode_uid(value) for tag, value in keys.items()}
        identifier = commands.encode_identifier((*tag, value) for tag, value in elements.items())
        # A peer that ignores a key answers with more than was asked for.
        fixed = {tag: value for tag, value in keys.items() if tag != _SOP_INSTANCE_UID}
        total = 0
        status = 0
        try:
            for answer in self.association.ask(find_request(context_id, identifier)):
                status = answer.status
                if status not in (0xFF00, 0xFF01):
                    break
                total += 1
                if total > _MAX_ANSWERS or time.monotonic() > self._deadline:
                    raise MalformedDicomError("it answers without end")
                row = _read_row(answer)
                if all(row.get(tag) in (value, "", None) for tag, value in fixed.items()):
                    yield row
        except MalformedDicomError as error:
            self.association.abort()
            raise DestinationError(
                f"{peer} answers queries with what is not DICOM: {error.message}",
                hint="Look for a defect of the peer.",
            ) from error
        self.asked.append(
            {
                "level": level,
                "series_instance_uid": keys.get(_SERIES_INSTANCE_UID, ""),
                "uids_asked": len(keys.get(_SOP_INSTANCE_UID, "").split("\\"))
                if _SOP_INSTANCE_UID in keys
                else 0,
                "answers": total,
                "status": f"{status:04X}",
            }
        )
        if status != 0:
            raise refusal_of_query(peer, level, status, total)


def find_request(
    context_id: int, identifier: bytes, sop_class_uid: str = STUDY_ROOT_FIND
) -> Request:
    """Make a C-FIND request, in the Study Root model if no other is said."""
    return Request(
        context_id,
        commands.C_FIND_RQ,
        sop_class_uid,
        chunks=(identifier,),
        length=len(identifier),
    )


def refusal_of_query(peer: str, level: str, status: int, answers: int) -> DestinationError:
    """Explain a final status of C-FIND (PS3.4 table C.4-1)."""
    if 0xA700 <= status <= 0xA7FF:
        return DestinationError(
            f"{peer} answered {status:04X} (out of resources) to a query at {level} level after"
            f" {answers} answers: its list is not complete",
            hint="Raise the peer's limit of query answers.",
        )
    if 0xA900 <= status <= 0xA9FF:
        meaning = "it does not support this query"
    elif status == 0xFE00:
        meaning = "it cancelled the query"
    else:
        meaning = "it could not process the query"
    return DestinationError(
        f"{peer} answered {status:04X} to a query at {level} level: {meaning}",
        hint="Look at the peer's log and at what its conformance statement says about queries.",
    )


def _read_row(answer: Answer) -> Mapping[_Tag, str]:
    """Read the text of what we asked for, without interpreting anything else."""
    return {
        tag: value[:_LONGEST_VALUE].decode("ascii", "replace").strip("\0 ")
        for tag, value in commands.decode_flat(answer.data_set)
        if tag in _RETURNED
    }


_RETURNED = frozenset(
    (
        _SOP_INSTANCE_UID,
        _STUDY_INSTANCE_UID,
        _SERIES_INSTANCE_UID,
        _STUDY_RELATED_SERIES,
        _STUDY_RELATED_INSTANCES,
    )
)


def _uids(rows: Iterator[Mapping[_Tag, str]], tag: _Tag) -> Iterator[str]:
    """Take the UIDs out of answers; whatever else a peer puts in their place is left out."""
    return (uid for row in rows if commands.is_usable_uid(uid := row.get(tag, "")))


def _highest(known: int | None, text: str | None) -> int | None:
    """Return the higher of a count and an IS value, which may be empty or no number."""
    if not text or not text.isdecimal():
        return known
    return max(int(text), known or 0)
