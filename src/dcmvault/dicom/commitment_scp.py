"""Storage commitment as its SCP: what is asked, and what of it we keep.

PS3.4 Annex J, Storage Commitment Push Model. Success is said only of instances that are durable
in the spool, or that a destination is known by evidence to hold.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from dcmvault.dicom import command as commands
from dcmvault.dicom.commitment_coding import (
    CLASS_INSTANCE_CONFLICT,
    COMMITMENT_INSTANCE,
    NO_SUCH_OBJECT_INSTANCE,
    REQUEST_COMMITMENT,
    Outcome,
    Reference,
    read_references,
)
from dcmvault.errors import MalformedDicomError

_log = logging.getLogger(__name__)

_SUCCESS = 0x0000
#: PS3.7 Annex C.
_NO_SUCH_INSTANCE = 0x0112
_INVALID_ARGUMENT = 0x0115
_NO_SUCH_ACTION = 0x0123

#: Tells which SOP classes the contents that are held under these SOP Instance UIDs have.
Held = Callable[[Collection[str]], Mapping[str, Collection[str]]]
#: Takes an outcome for the application entity that asked; False when it has no address.
Report = Callable[[str, "Outcome"], bool]


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
        if commands.uid(command, commands.REQUESTED_SOP_INSTANCE_UID) != COMMITMENT_INSTANCE:
            return Judged(_NO_SUCH_INSTANCE)
        if command.get(commands.ACTION_TYPE_ID) != REQUEST_COMMITMENT.to_bytes(2, "little"):
            return Judged(_NO_SUCH_ACTION)
        try:
            transaction_uid, references = read_references(data)
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
