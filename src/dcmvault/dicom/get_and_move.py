"""Asking a peer to send instances: C-GET on our association, or C-MOVE to a port of ours.

In the first of the models that the peer serves (PS3.4 Annex C.4.2 and C.4.3). What comes goes to an
Intake; what these say is only the peer's last word. Every wait ends.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from dcmvault.dicom import command as commands
from dcmvault.dicom.association import IMPLICIT_VR_LITTLE_ENDIAN, PeerAssociation
from dcmvault.dicom.intake import Intake, Wanted
from dcmvault.dicom.messages import Request
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.dicom.query_model import MODELS, PATIENT_ROOT, QueryRetrieveModel
from dcmvault.dicom.retrieve import Retrieved, refusal_of_retrieval, retrieved
from dcmvault.errors import AssociationLostError, DestinationError, RetrievalNotOfferedError

GET_PROPOSALS = tuple(
    ContextProposal(model.get_uid, (IMPLICIT_VR_LITTLE_ENDIAN,)) for model in MODELS
)
MOVE_PROPOSALS = tuple(
    ContextProposal(model.move_uid, (IMPLICIT_VR_LITTLE_ENDIAN,)) for model in MODELS
)

#: Seconds that one request may take in all; each part has a limit of its own, too.
_LONGEST_S = 2 * 3600.0
_PENDING = (0xFF00, 0xFF01)
#: Answers "it goes on" for each instance asked for, and as many more.
_MAX_PENDING = 1000
#: Move destination unknown (PS3.4 table C.4-2).
_UNKNOWN_DESTINATION = 0xA801


@dataclass(frozen=True, slots=True)
class InstancesOfSeries:
    """Instances of one series, by UID."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uids: Sequence[str]
    #: Needed in the Patient Root model only.
    patient_id: str = ""

    def identifier(self, model: QueryRetrieveModel) -> bytes:
        """Encode what a C-GET or C-MOVE for them asks (PS3.4 section C.4.2.1.4)."""
        uids = {
            (0x0008, 0x0018): "\\".join(self.sop_instance_uids),
            (0x0020, 0x000D): self.study_instance_uid,
            (0x0020, 0x000E): self.series_instance_uid,
        }
        return commands.encode_identifier(
            [
                (0x0008, 0x0052, b"IMAGE "),
                *((*tag, commands.encode_uid(value)) for tag, value in uids.items()),
                *(self._patient() if model is PATIENT_ROOT else ()),
            ]
        )

    def _patient(self) -> Iterator[tuple[int, int, bytes]]:
        encoded = self.patient_id.encode("utf-8", "replace")
        if not encoded.isascii():
            yield (0x0008, 0x0005, b"ISO_IR 192")
        yield (0x0010, 0x0020, encoded + b" " * (len(encoded) % 2))


class Arriving(Protocol):
    """What comes while a peer is asked to send."""

    @property
    def arrived(self) -> int:
        """Bytes that came so far."""
        ...


def get_instances(
    association: PeerAssociation, instances: InstancesOfSeries, wanted: Wanted
) -> str:
    """Retrieve by C-GET; return why the peer refused or ended early, empty where it did its best.

    Raises AssociationLostError; what came before was taken. DestinationError for no C-GET there.
    """
    for model in MODELS:
        context_id = association.contexts.id_of(model.get_uid, IMPLICIT_VR_LITTLE_ENDIAN)
        if context_id is not None:
            break
    else:
        raise RetrievalNotOfferedError(
            f"{association.peer.name} offers no retrieval by C-GET",
            hint='Allow our AE title to retrieve at the peer, or set retrieve = "move".',
        )
    intake = Intake(association.contexts.named_by, wanted)
    try:
        answer = association.get(
            context_id, model.get_uid, instances.identifier(model), intake, _LONGEST_S
        )
    finally:
        intake.drop()
    return refusal_of_retrieval(answer.status)


def move_instances(
    association: PeerAssociation, instances: InstancesOfSeries, destination: str, wanted: Arriving
) -> Retrieved:
    """Retrieve by C-MOVE to the AE title `destination`, at which somebody takes what is wanted.

    Raises AssociationLostError, RetrievalNotOfferedError for no C-MOVE there, and DestinationError
    where the peer does not know that title. As long as bytes arrive the peer need not answer.
    """
    peer = association.peer
    for model in MODELS:
        context_id = association.contexts.id_of(model.move_uid, IMPLICIT_VR_LITTLE_ENDIAN)
        if context_id is not None:
            break
    else:
        raise RetrievalNotOfferedError(
            f"{peer.name} offers no retrieval by C-MOVE",
            hint='Allow our AE title to retrieve at the peer, or set retrieve = "get".',
        )
    identifier = instances.identifier(model)
    request = Request(
        context_id,
        commands.C_MOVE_RQ,
        model.move_uid,
        chunks=(identifier,),
        length=len(identifier),
        move_destination=destination,
    )
    progress = _Progress(wanted, peer.dimse_timeout_s)
    most = _MAX_PENDING + len(instances.sop_instance_uids)
    for number, answer in enumerate(association.ask(request, progress.goes_on)):
        if answer.status not in _PENDING:
            break
        if number > most or progress.is_over():
            association.abort()
            raise AssociationLostError(
                f"{peer.name} says without end that it goes on",
                hint="Look for a defect of the peer.",
            )
    if answer.status == _UNKNOWN_DESTINATION:
        raise DestinationError(
            f"{peer.name} does not know the AE title {destination} that it is to send to",
            hint="Enter it there with the address of this machine and the port (move_port).",
        )
    return retrieved(answer)


class _Progress:
    """Whether something arrived within the time that a peer may be silent."""

    def __init__(self, wanted: Arriving, patience_s: float) -> None:
        self._wanted = wanted
        self._patience_s = patience_s
        self._seen = wanted.arrived
        self._since = self._began = time.monotonic()

    def goes_on(self) -> bool:
        """Look; False when nothing came for too long, or all takes too long."""
        now = time.monotonic()
        if self._wanted.arrived != self._seen:
            self._seen, self._since = self._wanted.arrived, now
        return now - self._since < self._patience_s and now - self._began < _LONGEST_S

    def is_over(self) -> bool:
        """Whether pending answers alone have come for much longer than a peer may be silent."""
        return not self.goes_on() and time.monotonic() - self._since > 10 * self._patience_s
