"""An association that we request: negotiate, send requests, read answers, release or abort.

One blocking socket and one thread each; every wait is finite. Data sets are streamed as they
are, never decoded. Some equipment drops the connection when extended negotiation is proposed,
hence there is none but what was asked for, role selection for C-GET, which needs it, and relational
queries, for which who proposes them must be ready to do without.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu
from dcmvault.dicom.channel import Channel, Peer, connect, resolve, secure
from dcmvault.dicom.messages import Answer, Messages, Request
from dcmvault.dicom.status import CONTEXT_RESULTS, explain_rejection
from dcmvault.dicom.taking_in import StoreSink
from dcmvault.errors import (
    AssociationDeferredError,
    AssociationLostError,
    AssociationRejectedError,
    DcmvaultError,
    DestinationUnreachableError,
    MalformedDicomError,
)
from dcmvault.ports.pacing import Pacer

#: Our implementation (PS3.7 Annex D.3.3.2): a UID under 2.25 made once from a random UUID.
IMPLEMENTATION_CLASS_UID = "2.25.337977389885011527785760853468765732730"
IMPLEMENTATION_VERSION_NAME = "DCMVAULT_1"

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"

T = TypeVar("T")

#: Odd context ids from 1 to 255 (PS3.8 section 9.3.2.2).
MAX_CONTEXTS = 128
#: What we announce; answers are small.
_OUR_MAXIMUM_LENGTH = 128 * 1024
#: A release is a courtesy: all answers are in hand when it is asked for.
_RELEASE_TIMEOUT_S = 5.0
_ABORT_TIMEOUT_S = 1.0


def open_association(peer: Peer, proposals: Sequence[pdu.ContextProposal] = ()) -> PeerAssociation:
    """Resolve, connect (with TLS, if so) and negotiate in one go, with Verification in any case."""
    return negotiate(peer, secure(peer, connect(peer, resolve(peer))), proposals)


def negotiate(
    peer: Peer, connection: socket.socket, proposals: Sequence[pdu.ContextProposal] = ()
) -> PeerAssociation:
    """Request an association over a connection; it is closed if that fails.

    Proposes Verification and at most 127 more contexts (PS3.8 section 9.3.2.2).
    Raises AssociationRejectedError for a rejection for good or when no context is accepted,
    DestinationUnreachableError otherwise.
    """
    wanted = (pdu.ContextProposal(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)), *proposals)
    if len(wanted) > MAX_CONTEXTS:
        raise ValueError(f"{len(wanted)} presentation contexts, at most {MAX_CONTEXTS}")
    channel = Channel(connection, peer)
    try:
        channel.send(
            [
                pdu.associate_request(
                    peer.called_ae_title,
                    peer.calling_ae_title,
                    wanted,
                    maximum_length=_OUR_MAXIMUM_LENGTH,
                    implementation_class_uid=IMPLEMENTATION_CLASS_UID,
                    implementation_version=IMPLEMENTATION_VERSION_NAME,
                    operations_window=peer.async_window,
                    user_identity=peer.user_identity,
                )
            ]
        )
        kind, body = channel.receive(peer.association_timeout_s)
        if kind == pdu.A_ASSOCIATE_RJ:
            raise _rejected(peer, *pdu.read_rejection(body))
        if kind != pdu.A_ASSOCIATE_AC:
            raise MalformedDicomError(f"PDU type {kind:02X} instead of an answer")
        association = PeerAssociation(peer, channel, wanted, pdu.read_acceptance(body))
    except (AssociationLostError, MalformedDicomError) as error:
        channel.close()
        raise DestinationUnreachableError(
            f"{peer.name}: the connection stands, but no association was made: {error.message}",
            hint="Check that the port is that of a DICOM service (DIMSE, without TLS)."
            if peer.tls is None
            else "Check that the port is that of a DICOM service (DIMSE over TLS); the peer may"
            " also want a certificate from us (tls_certificate_file).",
        ) from error
    except BaseException:
        channel.close()
        raise
    if not association.contexts.accepts_anything:
        association.abort()
        raise AssociationRejectedError(
            f"{peer.name} accepts none of the services asked for",
            hint="Check at the peer what our AE title is allowed to do.",
        )
    return association


def _rejected(peer: Peer, result: int, source: int, reason: int) -> DestinationUnreachableError:
    words = explain_rejection(source, reason)
    if result == 2:
        return AssociationDeferredError(
            f"{peer.name} rejects the association for now: {words.reason}", hint=words.remedy
        )
    return AssociationRejectedError(
        f"{peer.name} rejects the association: {words.reason}", hint=words.remedy
    )


class NegotiatedContexts:
    """Which pairs of abstract and transfer syntax were proposed, and what the peer said."""

    def __init__(
        self, proposals: Sequence[pdu.ContextProposal], acceptance: pdu.Acceptance
    ) -> None:
        #: What was asked for.
        self.proposed = frozenset(proposals)
        #: Models in which the peer grants relational queries that were asked for.
        self.relational = acceptance.relational & {
            one.abstract_syntax_uid for one in proposals if one.relational
        }
        self._accepted: dict[tuple[str, str], int] = {}
        self._named: dict[int, tuple[str, str]] = {}
        self._refused: dict[tuple[str, str], int] = {}
        answers = {answer.context_id: answer for answer in acceptance.answers}
        for position, proposal in enumerate(proposals):
            answer = answers.get(pdu.context_id_of(position))
            for uid in proposal.transfer_syntax_uids:
                pair = (proposal.abstract_syntax_uid, uid)
                if answer is not None and answer.result == 0 and answer.transfer_syntax_uid == uid:
                    self._accepted.setdefault(pair, answer.context_id)
                    self._named[answer.context_id] = pair
                else:
                    # What was said to a pair alone counts; it may be in a list once more.
                    self._refused.setdefault(pair, answer.result if answer is not None else 2)

    @property
    def accepts_anything(self) -> bool:
        """Whether the peer accepted any context at all."""
        return bool(self._accepted)

    def id_of(self, abstract_syntax_uid: str, transfer_syntax_uid: str) -> int | None:
        """Return the accepted presentation context of this pair, None when there is none."""
        return self._accepted.get((abstract_syntax_uid, transfer_syntax_uid))

    def refusal(self, abstract_syntax_uid: str, transfer_syntax_uid: str) -> str | None:
        """Return why a proposed pair was refused, in words; None when it was not."""
        result = self._refused.get((abstract_syntax_uid, transfer_syntax_uid))
        if result is None:
            return None
        return CONTEXT_RESULTS.get(result, "the peer answers with another transfer syntax")

    def named_by(self, context_id: int) -> tuple[str, str] | None:
        """Return the abstract and transfer syntax of an accepted context; None for no such."""
        return self._named.get(context_id)

    def accepted_syntaxes(self, abstract_syntax_uid: str) -> tuple[str, ...]:
        """Return the transfer syntaxes that the peer accepted for an abstract syntax."""
        return tuple(syntax for uid, syntax in self._accepted if uid == abstract_syntax_uid)


class PeerAssociation:
    """An established association, used by one thread.

    One request at a time, but for C-STORE, of which up to `window` may be outstanding. Any
    AssociationLostError or MalformedDicomError ends it. Leaving the context releases it, or
    aborts it when a request is without its answer.
    """

    def __init__(
        self,
        peer: Peer,
        channel: Channel,
        proposals: Sequence[pdu.ContextProposal],
        acceptance: pdu.Acceptance,
    ) -> None:
        self.peer = peer
        self._channel = channel
        self._messages = Messages(peer, channel, acceptance.maximum_length)
        self._open = True
        #: Part of a request was sent, and no more of it will be: only answers can come now.
        self._is_cut = False
        offered = acceptance.operations_window or peer.async_window
        #: Requests to store that may be outstanding at once, as the peer granted.
        self.window = max(min(offered, peer.async_window), 1)
        #: What may be sent under which context.
        self.contexts = NegotiatedContexts(proposals, acceptance)

    @property
    def is_open(self) -> bool:
        """Whether a further request makes sense, as far as we know."""
        return self._open and not self._is_cut

    @property
    def is_at_rest(self) -> bool:
        """Whether it is open and no request is without its answer."""
        return self._open and not self._messages.outstanding

    def still_stands(self) -> bool:
        """Say whether the peer left an idle association alone; one that it ended is closed.

        Peers end idle associations (Orthanc after 30 s); while no request is in flight anything
        that arrives is a release, an abort or the end of the connection.
        """
        if self.is_at_rest and self._channel.has_input():
            self._open = False
            self._channel.close()
        return self.is_open

    def echo(self) -> int:
        """Send a C-ECHO and return its status (PS3.7 section 9.1.5)."""
        context_id = self.contexts.id_of(VERIFICATION, IMPLICIT_VR_LITTLE_ENDIAN)
        if context_id is None:
            raise AssociationRejectedError(
                f"{self.peer.name} does not offer verification (C-ECHO)",
                hint="It may still store; try to send something.",
            )
        self._request(Request(context_id, commands.C_ECHO_RQ, VERIFICATION))
        return self.converse(lambda talk: talk.answer(commands.C_ECHO_RQ)).status

    def begin_store(
        self,
        context_id: int,
        sop_class_uid: str,
        sop_instance_uid: str,
        chunks: Iterable[bytes | memoryview],
        length: int,
        pacer: Pacer | None = None,
        move_originator: tuple[str, int] | None = None,
    ) -> int:
        """Send a C-STORE with `length` encoded data set bytes; return its message id.

        PS3.7 section 9.1.1. At most `window` may be without their answer. When `chunks` raises,
        the peer has part of a message: the association is aborted, as soon as all other requests
        have their answers. Raises AssociationLostError; all without answer are then unknown.
        All bytes wait for the `pacer`, if any.
        """
        return self._request(
            Request(
                context_id,
                commands.C_STORE_RQ,
                sop_class_uid,
                sop_instance_uid,
                chunks,
                length,
                pacer,
                move_originator=move_originator,
            ),
            self.window,
        )

    def stored(self) -> Answer:
        """Return the peer's next answer to a C-STORE, in whatever order it gives them.

        Raises AssociationLostError; all that are without answer are then unknown.
        """
        answer = self.converse(lambda talk: talk.answer(commands.C_STORE_RQ))
        if self._is_cut and not self._messages.outstanding:
            self.abort()
        return answer

    def ask(self, request: Request, goes_on: Callable[[], bool] | None = None) -> Iterator[Answer]:
        """Send a C-FIND or C-MOVE and yield all its answers, the final one last (PS3.7 9.1.2, 4).

        Each answer may take `dimse_timeout_s`, or for as long as it `goes_on`.
        """
        self._request(request)
        while True:
            answer = self.converse(lambda talk: talk.answer(request.field, goes_on))
            yield answer
            if answer.is_last:
                return

    def get(
        self, context_id: int, model_uid: str, identifier: bytes, sink: StoreSink, longest_s: float
    ) -> Answer:
        """Send a C-GET, hand what comes to the sink, return the final answer (PS3.7 9.1.3).

        What the sink raises aborts the association.
        """
        self._request(
            Request(
                context_id,
                commands.C_GET_RQ,
                model_uid,
                chunks=(identifier,),
                length=len(identifier),
            )
        )
        return self.converse(lambda talk: talk.answer_to_get(sink, longest_s))

    def release(self) -> None:
        """End the association in good order; a peer that does not take part is left."""
        if not self._open:
            return
        self._open = False
        # The peer answered everything we asked: what happens to a release changes nothing.
        try:
            with suppress(DestinationUnreachableError, MalformedDicomError):
                self._channel.send([pdu.release_request()])
                limit_s = min(_RELEASE_TIMEOUT_S, self.peer.association_timeout_s)
                kind, _body = self._channel.receive(limit_s)
                if kind == pdu.A_RELEASE_RQ:  # collision (PS3.8 section 7.2.2.7)
                    self._channel.send([pdu.release_response()])
                    self._channel.receive(limit_s)
        finally:
            self._channel.close()

    def abort(self) -> None:
        """End the association at once."""
        if not self._open:
            return
        self._open = False
        try:
            if not self._channel.is_broken:
                # A courtesy again: the peer learns it from the closed connection, too.
                with suppress(DestinationUnreachableError):
                    self._channel.send([pdu.abort()], _ABORT_TIMEOUT_S)
        finally:
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._messages.outstanding:
            self.abort()
        else:
            self.release()

    def _request(self, request: Request, most: int = 1) -> int:
        if not self.is_open or self._messages.outstanding >= most:
            raise _ended(self.peer)
        try:
            return self._messages.send(request)
        except BaseException as error:
            is_ours = isinstance(error, DcmvaultError | OSError) and not self._channel.is_broken
            if is_ours and self._messages.outstanding:
                self._is_cut = True
            else:
                self.abort()
            raise

    def converse(self, talk: Callable[[Messages], T]) -> T:
        """Let something else send and receive messages; any error ends the association.

        Raises AssociationLostError also for what is no DICOM.
        """
        if not self._open:
            raise _ended(self.peer)
        try:
            return talk(self._messages)
        except MalformedDicomError as error:
            self.abort()
            raise AssociationLostError(
                f"{self.peer.name} answered with what is not DICOM: {error.message}",
                hint="Look for a defect of the peer or of the network between.",
            ) from error
        except BaseException:
            self.abort()
            raise


def _ended(peer: Peer) -> AssociationLostError:
    return AssociationLostError(f"the association with {peer.name} has ended")
