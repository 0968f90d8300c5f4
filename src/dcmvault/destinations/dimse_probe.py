"""The way to a PACS tried rung by rung, and what it offers there, found out by asking."""

from __future__ import annotations

import socket
import ssl
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from dcmvault.dicom.association import PeerAssociation, negotiate, open_association
from dcmvault.dicom.channel import Peer, connect, resolve, secure
from dcmvault.dicom.commitment_coding import COMMITMENT_PROPOSAL
from dcmvault.dicom.find import FIND_PROPOSAL, STUDY_ROOT_FIND, StudyQuery
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.dicom.peer_tls import describe_tls, expiry_warning
from dcmvault.dicom.store import send_file
from dcmvault.dicom.survey import (
    STORAGE_PROPOSALS,
    SYNTAX_PROPOSALS,
    accepted,
    make_test_object,
    syntax_name,
)
from dcmvault.dicom.tls import TlsFacts, facts_of
from dcmvault.errors import DestinationError
from dcmvault.model.probe import ProbeStep
from dcmvault.ports.clock import Clock

_T = TypeVar("_T")
#: Round trips that are measured, after one that is not.
_ECHOES = 10
_TEST_BYTES = 32 << 20


@dataclass(slots=True)
class DimseProbe:
    """Tries one peer once."""

    peer: Peer
    clock: Clock
    #: Hears of each step when it ended.
    tell: Callable[[ProbeStep], None] = lambda _step: None
    _steps: list[ProbeStep] = field(default_factory=list)

    def climb(self) -> tuple[ProbeStep, ...]:
        """Try name, connection, TLS (if so), association and C-ECHO in order."""
        peer = self.peer
        try:
            addresses = self._step("resolve", lambda: resolve(peer), lambda a: str(a[0][1][0]))
            connection = self._step(
                "connect", lambda: connect(peer, addresses), lambda _: f"port {peer.port}"
            )
            if peer.tls is not None:
                connection = self._secure(connection)
            association = self._step(
                "associate", lambda: negotiate(peer, connection, (FIND_PROPOSAL,)), _offers
            )
            with association:
                self._step("echo", lambda: _echo(association), lambda _: "C-ECHO 0000")
        except DestinationError:
            pass  # the failed step says it
        return tuple(self._steps)

    def survey(self, *, stores: bool, receives: bool = True) -> tuple[ProbeStep, ...]:
        """Find out what the peer offers; what is lacking ends nothing.

        One that is only read from (not `receives`) is not asked what it takes.
        """
        questions: list[tuple[str, Callable[[], str]]] = [("latency", self._latency)]
        if receives:
            questions += [("storage", self._storage), ("syntaxes", self._syntaxes)]
        questions.append(("query", self._query))
        if receives:
            questions.append(("commitment", self._commitment))
        if stores:
            questions.append(("bandwidth", self._bandwidth))
        for name, ask in questions:
            try:
                self._step(name, ask, str)
            except DestinationError:
                continue  # the step says it
        return tuple(self._steps)

    def _latency(self) -> str:
        with open_association(self.peer) as association:
            _echo(association)
            times_ms = []
            for _ in range(_ECHOES):
                began = self.clock.monotonic()
                _echo(association)
                times_ms.append((self.clock.monotonic() - began) * 1000)
        return (
            f"C-ECHO answered after {statistics.median(times_ms):.1f} ms"
            f" (of {_ECHOES}: {min(times_ms):.1f} to {max(times_ms):.1f} ms)"
        )

    def _storage(self) -> str:
        with open_association(self.peer, STORAGE_PROPOSALS) as association:
            taken = accepted(association, STORAGE_PROPOSALS)
        if not taken:
            raise DestinationError(
                f"{self.peer.name} takes no images",
                hint="Allow our AE title to store (C-STORE) at the peer.",
            )
        return f"takes {len(taken)} of {len(STORAGE_PROPOSALS)} kinds of images and documents"

    def _syntaxes(self) -> str:
        with open_association(self.peer, SYNTAX_PROPOSALS) as association:
            taken = accepted(association, SYNTAX_PROPOSALS)
        names = [syntax_name(one) for one in SYNTAX_PROPOSALS if one in taken]
        others = [syntax_name(one) for one in SYNTAX_PROPOSALS if one not in taken]
        if not others:
            return "takes all usual transfer syntaxes as they are"
        return f"takes as they are: {', '.join(names) or '-'}; not: {', '.join(others)}"

    def _query(self) -> str:
        with open_association(self.peer, (FIND_PROPOSAL,)) as association:
            # A UID that nobody has: a question, and its answer, of the smallest size.
            StudyQuery(association).study_counts("2.25.0")
        return "answers queries (C-FIND, Study Root)"

    def _commitment(self) -> str:
        with open_association(self.peer, (COMMITMENT_PROPOSAL,)) as association:
            if accepted(association, (COMMITMENT_PROPOSAL,)):
                return "offers storage commitment"
        return "offers no storage commitment"

    def _bandwidth(self) -> str:
        with tempfile.TemporaryDirectory(prefix="dcmvault-") as folder:
            file, header = make_test_object(Path(folder, "test"), _TEST_BYTES)
            proposal = ContextProposal(header.sop_class_uid, (header.transfer_syntax_uid,))
            with open_association(self.peer, (proposal,)) as association:
                began = self.clock.monotonic()
                sent = send_file(association, file, header)
                took_s = self.clock.monotonic() - began
        rate = sent.transferred_bytes / max(took_s, 1e-6) / 1e6
        return (
            f"{sent.transferred_bytes / 1e6:.0f} MB in {took_s:.2f} s by one association:"
            f" {rate:.1f} MB/s"
        )

    def _secure(self, connection: socket.socket) -> socket.socket:
        def attempt() -> tuple[socket.socket, TlsFacts]:
            secured = secure(self.peer, connection)
            assert isinstance(secured, ssl.SSLSocket)
            try:
                return secured, facts_of(secured, self.peer.name)
            except BaseException:
                secured.close()
                raise

        now = self.clock.now()
        secured, _facts = self._step(
            "tls",
            attempt,
            lambda done: describe_tls(done[1], now),
            lambda done: expiry_warning(done[1], now),
        )
        return secured

    def _step(
        self,
        name: str,
        attempt: Callable[[], _T],
        describe: Callable[[_T], str],
        warn: Callable[[_T], str] = lambda _result: "",
    ) -> _T:
        started = self.clock.monotonic()
        try:
            result = attempt()
        except DestinationError as error:
            duration_s = self.clock.monotonic() - started
            self._add(ProbeStep(name, False, error.message, duration_s, error.hint))
            raise
        duration_s = self.clock.monotonic() - started
        self._add(ProbeStep(name, True, describe(result), duration_s, warn(result)))
        return result

    def _add(self, step: ProbeStep) -> None:
        self._steps.append(step)
        self.tell(step)


def _offers(association: PeerAssociation) -> str:
    (syntax,) = FIND_PROPOSAL.transfer_syntax_uids
    if association.contexts.id_of(STUDY_ROOT_FIND, syntax) is None:
        return "accepted; no query (C-FIND), so nothing can be verified"
    return "accepted, with query (C-FIND)"


def _echo(association: PeerAssociation) -> None:
    status = association.echo()
    if status != 0:
        raise DestinationError(
            f"{association.peer.name} answered {status:04X} to C-ECHO",
            hint="Look at the peer's log for the reason.",
        )
