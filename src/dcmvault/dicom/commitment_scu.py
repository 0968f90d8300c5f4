"""Storage commitment as its SCU: ask a peer to commit to instances, and wait for its word.

PS3.4 Annex J, Push Model. The answer to the N-ACTION says only that the question was understood;
what counts is the N-EVENT-REPORT, which comes on the same association or on one that the peer
opens to a port of ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from dcmvault.dicom.association import IMPLICIT_VR_LITTLE_ENDIAN, PeerAssociation
from dcmvault.dicom.channel import Peer, resolve
from dcmvault.dicom.commitment_coding import (
    COMMITMENT,
    COMMITMENT_INSTANCE,
    COMMITMENT_PROPOSAL,
    REQUEST_COMMITMENT,
    Reference,
    encode_references,
)
from dcmvault.dicom.commitment_receiver import CommitmentReceiver
from dcmvault.dicom.commitment_transactions import CommitmentTransactions, Reported
from dcmvault.dicom.messages import Action
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.errors import AssociationLostError, DestinationError, DestinationUnreachableError

#: Instances named in one request: some peers have limits, and a lost report costs less.
MOST_IN_ONE = 500
#: Seconds for which the association is kept for a report where it may also come to our port: some
#: peers report only when it has ended.
_LINGER_S = 5.0
_NOT_KNOWN = "Enter our AE title with address and port at the peer; some give up at others."
SAME_ASSOCIATION = "on the association of the request"
NEW_ASSOCIATION = "on an association of the peer's"


class Way(Protocol):
    """How to come by an association with the peer; each is given back when it has ended."""

    @property
    def associate(self) -> Callable[[Sequence[ContextProposal]], PeerAssociation]:
        """Open one."""
        ...

    @property
    def give_back(self) -> Callable[[], None]:
        """Say that it has ended."""
        ...


@dataclass(frozen=True, slots=True)
class AskedFor:
    """One request, and what became of it.

    `status` is the answer to the N-ACTION, four hexadecimal digits, empty where none came; `lost`
    says why. Without `reported` no report came in time.
    """

    transaction_uid: str
    references: Sequence[Reference]
    status: str = ""
    lost: str = ""
    reported: Reported | None = None

    @property
    def is_understood(self) -> bool:
        """Whether the peer promised a report."""
        return self.status == "0000"


@dataclass(frozen=True, slots=True)
class CommitmentWaiting:
    """How reports are waited for: for how many seconds each, and where."""

    transactions: CommitmentTransactions
    timeout_s: float
    #: None: they come on the association of the request only.
    receiver: CommitmentReceiver | None = None


def require_commitment(association: PeerAssociation) -> None:
    """Raise DestinationError where the peer offers no storage commitment."""
    if association.contexts.id_of(COMMITMENT, IMPLICIT_VR_LITTLE_ENDIAN) is None:
        raise DestinationError(
            f"{association.peer.name} offers no storage commitment",
            hint="Allow our AE title to ask for it at the peer, or ask for `complete` or `proven`.",
        )


def ask_for_commitment(
    peer: Peer, way: Way, references: Sequence[Reference], waiting: CommitmentWaiting
) -> list[AskedFor]:
    """Ask a peer to commit to instances, `MOST_IN_ONE` at once, and wait for its reports.

    Raises DestinationUnreachableError where not even one request was answered, and
    DestinationError where the peer does not offer the service, or our port cannot be had.
    """
    with _listening(peer, waiting):
        requests = _Requests(waiting)
        try:
            with ExitStack() as standing:
                association = way.associate((COMMITMENT_PROPOSAL,))
                standing.callback(way.give_back)
                standing.enter_context(association)
                require_commitment(association)
                requests.ask(association, references)
                requests.linger(association)
            requests.await_reports()
        finally:
            asked = requests.end()
    return asked


def _listening(peer: Peer, waiting: CommitmentWaiting) -> AbstractContextManager[None]:
    if waiting.receiver is None:
        return nullcontext()
    return waiting.receiver.listening(
        lambda: {str(address[0]) for _family, address in resolve(peer)}, waiting.timeout_s
    )


@dataclass(slots=True)
class _Requests:
    """The requests to one peer, by Transaction UID."""

    waiting: CommitmentWaiting
    asked: dict[str, AskedFor] = field(default_factory=dict)
    #: Reports that were missing when it was looked last, and until when they are waited for.
    missing: int = 0
    ends_at: float = 0.0

    def ask(self, association: PeerAssociation, references: Sequence[Reference]) -> None:
        """Send the requests one after the other, until the association is lost."""
        for start in range(0, len(references), MOST_IN_ONE):
            some = references[start : start + MOST_IN_ONE]
            uid = self.waiting.transactions.begin(some)
            self.asked[uid] = AskedFor(uid, some)
            try:
                self.asked[uid] = AskedFor(uid, some, self._act(association, uid, some))
            except DestinationUnreachableError as error:
                if not start:
                    raise AssociationLostError(error.message, hint=_NOT_KNOWN) from error
                self.asked[uid] = AskedFor(uid, some, lost=error.message)
        self.missing = len(self._open())
        self.ends_at = time.monotonic() + self.waiting.timeout_s

    def _act(
        self, association: PeerAssociation, transaction_uid: str, references: Sequence[Reference]
    ) -> str:
        context_id = association.contexts.id_of(COMMITMENT, IMPLICIT_VR_LITTLE_ENDIAN)
        assert context_id is not None
        action = Action(
            context_id,
            COMMITMENT,
            COMMITMENT_INSTANCE,
            REQUEST_COMMITMENT,
            encode_references(transaction_uid, references),
        )
        answer = association.converse(lambda talk: talk.act(action, self._take))
        return f"{answer.status:04X}"

    def linger(self, association: PeerAssociation) -> None:
        """Wait for reports on the association, briefly where they may come elsewhere, too."""
        timeout_s = self.waiting.timeout_s
        until = float("inf")
        if self.waiting.receiver is not None:
            until = time.monotonic() + min(_LINGER_S, timeout_s)

        def goes_on() -> bool:
            return self._goes_on() and time.monotonic() < until

        # What is not reported when it ends may still be, elsewhere.
        with suppress(DestinationUnreachableError):
            if association.is_open:
                association.converse(lambda talk: talk.take_reports(self._take, goes_on, timeout_s))

    def await_reports(self) -> None:
        """Wait for reports at our port."""
        while self.waiting.receiver is not None and self._goes_on():
            left_s = self.ends_at - time.monotonic()
            self.waiting.transactions.await_report(self._open(), left_s)

    def end(self) -> list[AskedFor]:
        """Stop waiting; return what became of each request."""
        return [
            replace(one, reported=self.waiting.transactions.end(uid))
            for uid, one in self.asked.items()
        ]

    def _goes_on(self) -> bool:
        """Say whether a report is missing, and in time; each gives the next one as much time."""
        missing = len(self._open())
        if missing < self.missing:
            self.missing = missing
            self.ends_at = time.monotonic() + self.waiting.timeout_s
        return missing > 0 and time.monotonic() < self.ends_at

    def _open(self) -> list[str]:
        """Return the requests whose report was promised, and has not come yet."""
        promised = [uid for uid, one in self.asked.items() if one.is_understood]
        return self.waiting.transactions.open(promised)

    def _take(self, command: Mapping[int, bytes], data: bytes) -> int:
        return self.waiting.transactions.take(command, data, SAME_ASSOCIATION)
