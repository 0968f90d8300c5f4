"""The query/retrieve models, and which of them a peer serves in what way (PS3.4 Annex C.3)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from dcmvault.dicom.association import (
    IMPLICIT_VR_LITTLE_ENDIAN,
    PeerAssociation,
    negotiate,
    open_association,
)
from dcmvault.dicom.channel import Peer, connect, resolve, secure
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.errors import AssociationDeferredError, DestinationUnreachableError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QueryRetrieveModel:
    """An information model, with the SOP classes that query and retrieve in it."""

    name: str
    find_uid: str
    move_uid: str
    get_uid: str


STUDY_ROOT = QueryRetrieveModel(
    "Study Root",
    "1.2.840.10008.5.1.4.1.2.2.1",
    "1.2.840.10008.5.1.4.1.2.2.2",
    "1.2.840.10008.5.1.4.1.2.2.3",
)
PATIENT_ROOT = QueryRetrieveModel(
    "Patient Root",
    "1.2.840.10008.5.1.4.1.2.1.1",
    "1.2.840.10008.5.1.4.1.2.1.2",
    "1.2.840.10008.5.1.4.1.2.1.3",
)
#: In the order in which they are used: what is asked without patients needs no list of them.
MODELS = (STUDY_ROOT, PATIENT_ROOT)


@dataclass(frozen=True, slots=True)
class GrantedQueries:
    """How queries may be asked over an association."""

    model: QueryRetrieveModel
    context_id: int
    #: A question needs no unique keys of the levels above its own (PS3.4 section C.4.1.2.2.1).
    is_relational: bool

    @property
    def needs_patient(self) -> bool:
        """Whether each question about studies and what they contain must name the patient."""
        return self.model is PATIENT_ROOT and not self.is_relational


def find_proposals(*, relational: bool) -> tuple[ContextProposal, ...]:
    """Propose C-FIND in all models, and ask for relational queries or not."""
    return tuple(
        ContextProposal(model.find_uid, (IMPLICIT_VR_LITTLE_ENDIAN,), relational=relational)
        for model in MODELS
    )


def open_for_queries(peer: Peer, *, relational: bool) -> PeerAssociation:
    """Open an association for C-FIND; without relational queries where it fails with them.

    Some equipment ends the connection when extended negotiation is proposed. Raises as
    `open_association` does.
    """
    if relational:
        connection = secure(peer, connect(peer, resolve(peer)))
        try:
            return negotiate(peer, connection, find_proposals(relational=True))
        except AssociationDeferredError:
            raise  # it has no room now, whatever is proposed
        except DestinationUnreachableError as error:
            _log.info("%s: no association with extended negotiation (%s)", peer.name, error.code)
    return open_association(peer, find_proposals(relational=False))


def granted_queries(association: PeerAssociation) -> GrantedQueries | None:
    """Return the best way in which a peer answers queries; None where it answers none."""
    contexts = association.contexts
    for model in MODELS:
        context_id = contexts.id_of(model.find_uid, IMPLICIT_VR_LITTLE_ENDIAN)
        if context_id is not None:
            return GrantedQueries(model, context_id, model.find_uid in contexts.relational)
    return None
