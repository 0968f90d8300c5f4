"""Storage commitment as its SCP: what is asked, what of it we keep, and the report of it.

PS3.4 Annex J, Storage Commitment Push Model. Success is said only of instances that are durable
in the spool, or that a destination is known by evidence to hold.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from dcmvault.dicom import command as commands
from dcmvault.errors import MalformedDicomError

_log = logging.getLogger(__name__)

#: Storage Commitment Push Model, and its well-known instance (PS3.4 section J.3).
COMMITMENT = "1.2.840.10008.1.20.1"
_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
_REQUEST_COMMITMENT = 1

_SUCCESS = 0x0000
#: PS3.7 Annex C.
_NO_SUCH_INSTANCE = 0x0112
_INVALID_ARGUMENT = 0x0115
_NO_SUCH_ACTION = 0x0123
#: Failure Reasons (PS3.3 section C.14.1.1).
NO_SUCH_OBJECT_INSTANCE = 0x0112
CLASS_INSTANCE_CONFLICT = 0x0119

_ALL_COMMITTED = 1
_FAILURES_EXIST = 2

_TRANSACTION_UID = (0x0008, 0x1195)
_REFERENCED_SOP_CLASS_UID = (0x0008, 0x1150)
_REFERENCED_SOP_INSTANCE_UID = (0x0008, 0x1155)
_FAILURE_REASON = (0x0008, 0x1197)
_FAILED_SOP_SEQUENCE = (0x0008, 0x1198)
_REFERENCED_SOP_SEQUENCE = (0x0008, 0x1199)
#: Instances that are asked for in one request; more is an attack or a defect.
_MOST_INSTANCES = 100_000

#: Tells which SOP classes the contents that are held under these SOP Instance UIDs have.
Held = Callable[[Collection[str]], Mapping[str, Collection[str]]]
#: Takes an outcome for the application entity that asked; False when it has no address.
Report = Callable[[str, "Outcome"], bool]


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance as a request names it."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is said of one request: what is committed to, and what not, each with its reason."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """The status that answers an N-ACTION, and what is to be reported, if it is a success."""

    status: int
    outcome: Outcome | None = None


class CommitmentScp:
    """Judges requests for commitment. Safe for several threads.

    Who holds an instance is asked in order, the spool first.
    """

    def __init__(self, held: Sequence[Held], report: Report = lambda _ae_title, _outcome: False):
        self._held = held
        #: Where an outcome goes that is not reported on the association of its request.
        self.report_elsewhere = report

    def judge(self, command: Mapping[int, bytes], data: bytes) -> Judged:
        """Judge an N-ACTION request with its data set (implicit VR little endian)."""
        if commands.uid(command, commands.REQUESTED_SOP_INSTANCE_UID) != _COMMITMENT_INSTANCE:
            return Judged(_NO_SUCH_INSTANCE)
        if command.get(commands.ACTION_TYPE_ID) != _REQUEST_COMMITMENT.to_bytes(2, "little"):
            return Judged(_NO_SUCH_ACTION)
        try:
            transaction_uid, references = _read(data)
        except MalformedDicomError as error:
            _log.warning("a request for storage commitment cannot be read: %s", error.message)
            return Judged(_INVALID_ARGUMENT)
        outcome = self._outcome(transaction_uid, references)
        _log.info(
            "storage commitment asked for: %d committed, %d failed",
            len(outcome.committed),
            len(outcome.failed),
        )
        return Judged(_SUCCESS, outcome)

    def _outcome(self, transaction_uid: str, references: Sequence[Reference]) -> Outcome:
        classes: dict[str, Collection[str]] = {}
        for held in self._held:
            missing = {one.sop_instance_uid for one in references} - set(classes)
            if missing:
                classes |= held(missing)
        committed: list[Reference] = []
        failed: list[tuple[Reference, int]] = []
        for one in references:
            if one.sop_instance_uid not in classes:
                failed.append((one, NO_SUCH_OBJECT_INSTANCE))
            elif one.sop_class_uid not in classes[one.sop_instance_uid]:
                failed.append((one, CLASS_INSTANCE_CONFLICT))
            else:
                committed.append(one)
        return Outcome(transaction_uid, tuple(committed), tuple(failed))


def _read(data: bytes) -> tuple[str, list[Reference]]:
    elements = dict(commands.decode_whole(data))
    transaction_uid = _uid(elements, _TRANSACTION_UID)
    references = [
        Reference(_uid(item, _REFERENCED_SOP_CLASS_UID), _uid(item, _REFERENCED_SOP_INSTANCE_UID))
        for item in (
            dict(commands.decode_whole(one))
            for one in commands.items_of(elements.get(_REFERENCED_SOP_SEQUENCE, b""))
        )
    ]
    if not references or len(references) > _MOST_INSTANCES:
        raise MalformedDicomError("it names no instance, or too many")
    return transaction_uid, references


def _uid(elements: Mapping[tuple[int, int], bytes], tag: tuple[int, int]) -> str:
    text = elements.get(tag, b"").decode("ascii", "replace").strip("\0 ")
    if not commands.is_usable_uid(text):
        raise MalformedDicomError("a UID is missing or broken")
    return text


def event_report(message_id: int, outcome: Outcome) -> tuple[bytes, bytes]:
    """Encode the command set and data set of the N-EVENT-REPORT (PS3.4 table J.3-3)."""
    event = _FAILURES_EXIST if outcome.failed else _ALL_COMMITTED
    command = commands.encode_event_report(message_id, COMMITMENT, _COMMITMENT_INSTANCE, event)
    data = commands.encode_element(*_TRANSACTION_UID, commands.encode_uid(outcome.transaction_uid))
    if outcome.failed:
        data += commands.encode_sequence(
            *_FAILED_SOP_SEQUENCE,
            (
                _reference(one)
                + commands.encode_element(*_FAILURE_REASON, reason.to_bytes(2, "little"))
                for one, reason in outcome.failed
            ),
        )
    if outcome.committed:
        data += commands.encode_sequence(
            *_REFERENCED_SOP_SEQUENCE, map(_reference, outcome.committed)
        )
    return command, data


def _reference(one: Reference) -> bytes:
    return commands.encode_element(
        *_REFERENCED_SOP_CLASS_UID, commands.encode_uid(one.sop_class_uid)
    ) + commands.encode_element(
        *_REFERENCED_SOP_INSTANCE_UID, commands.encode_uid(one.sop_instance_uid)
    )
