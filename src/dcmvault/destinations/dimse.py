"""A PACS as a destination: C-STORE delivers, C-FIND gives evidence, C-ECHO tries the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Self, TypeVar

from dcmvault.config.sections import DimseDestinationSection
from dcmvault.destinations.query_evidence import find_evidence
from dcmvault.dicom.association import (
    MAX_CONTEXTS,
    PeerAssociation,
    negotiate,
    open_association,
)
from dcmvault.dicom.channel import Peer, connect, resolve
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.find import FIND_PROPOSAL, STUDY_ROOT_FIND, StudyQuery
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.dicom.store import check_sendable, send_file
from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    LevelNotSupportedError,
)
from dcmvault.model.evidence import ExpectedStudy, Level, Verification
from dcmvault.model.instance import InstanceFile, InstanceKind
from dcmvault.model.probe import ProbeStep
from dcmvault.model.receipt import Receipt
from dcmvault.model.snapshot import Origin
from dcmvault.ports.clock import Clock

_T = TypeVar("_T")
_LEVELS = frozenset({Level.SENT, Level.PRESENT, Level.COMPLETE})


class DimseDestination:
    """A storage and query service spoken to by DIMSE. Safe for several threads.

    At most `max_associations` deliveries are open at once; another `open` waits for its turn.
    Questions (verification, listing) use one more association, one at a time.
    """

    keeps_versions = False
    takes_opaque_files = False
    default_level = Level.COMPLETE
    levels = _LEVELS
    flush_interval_s = 0.5

    def __init__(self, section: DimseDestinationSection, clock: Clock) -> None:
        self._name = section.address
        self._peer = Peer(
            host=section.host,
            port=section.port,
            called_ae_title=section.called_ae_title,
            calling_ae_title=section.calling_ae_title,
            connect_timeout_s=section.connect_timeout_s,
            association_timeout_s=section.association_timeout_s,
            dimse_timeout_s=section.dimse_timeout_s,
        )
        self._clock = clock
        self._delivery_slots = threading.BoundedSemaphore(section.max_associations)
        self._question_slot = threading.Lock()

    @property
    def name(self) -> str:
        """The address in canonical form."""
        return self._name

    def open(self, kinds: Collection[InstanceKind], origin: Origin) -> DimseDelivery:  # noqa: ARG002 - the port
        """Open an association for files of these kinds; others are negotiated when they come.

        Raises DestinationUnreachableError with its subclasses.
        """
        self._delivery_slots.acquire()
        try:
            return DimseDelivery(self._peer, kinds, self._clock, self._delivery_slots.release)
        except BaseException:
            self._delivery_slots.release()
            raise

    def instances(self, study_instance_uid: str, series_instance_uid: str = "") -> frozenset[str]:
        """Return the SOP Instance UIDs that the peer names at IMAGE level, each once.

        Raises DestinationError when the peer has no query, refuses the question or caps the
        answer, DestinationUnreachableError when it cannot be reached.
        """
        with self._question_slot, open_association(self._peer, (FIND_PROPOSAL,)) as association:
            query = StudyQuery(association)
            series = (
                frozenset({series_instance_uid})
                if series_instance_uid
                else query.series_uids(study_instance_uid)
            )
            found = [query.instance_uids(study_instance_uid, uid) for uid in sorted(series)]
            return frozenset().union(*found)

    def verify(self, study: ExpectedStudy, level: Level) -> Verification:
        """Look for evidence by C-FIND: PRESENT by counts, COMPLETE by sets of UIDs per series."""
        if level not in self.levels or level <= Level.SENT:
            raise LevelNotSupportedError(
                f"{self._peer.name} cannot give evidence of the level `{level.word}` by DIMSE",
                hint="Ask for `present` or `complete`.",
            )
        with self._question_slot, open_association(self._peer, (FIND_PROPOSAL,)) as association:
            return find_evidence(StudyQuery(association), study, level, self._clock)

    def probe(self) -> tuple[ProbeStep, ...]:
        """Try name, connection, association and C-ECHO in order."""
        steps: list[ProbeStep] = []
        peer = self._peer
        try:
            addresses = self._step(
                steps, "resolve", lambda: resolve(peer), lambda found: str(found[0][1][0])
            )
            connection = self._step(
                steps, "connect", lambda: connect(peer, addresses), lambda _: f"port {peer.port}"
            )
            association = self._step(
                steps,
                "associate",
                lambda: negotiate(peer, connection, (FIND_PROPOSAL,)),
                _offers,
            )
            with association:
                self._step(steps, "echo", lambda: _echo(association), lambda _: "C-ECHO 0000")
        except DestinationError:
            pass  # the failed step says it
        return tuple(steps)

    def _step(
        self,
        steps: list[ProbeStep],
        name: str,
        attempt: Callable[[], _T],
        describe: Callable[[_T], str],
    ) -> _T:
        started = self._clock.monotonic()
        try:
            result = attempt()
        except DestinationError as error:
            duration_s = self._clock.monotonic() - started
            steps.append(ProbeStep(name, False, error.message, duration_s, error.hint))
            raise
        duration_s = self._clock.monotonic() - started
        steps.append(ProbeStep(name, True, describe(result), duration_s))
        return result


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


class DimseDelivery:
    """One association of a destination; made anew for kinds that it did not negotiate."""

    def __init__(
        self,
        peer: Peer,
        kinds: Collection[InstanceKind],
        clock: Clock,
        on_close: Callable[[], None],
    ) -> None:
        self._peer = peer
        self._clock = clock
        self._on_close = on_close
        self._kinds = sorted(set(kinds))
        self._is_over = False
        self._is_closed = False
        self._association = self._associate(self._kinds)

    def put(self, file: InstanceFile) -> Receipt:
        """Send one file by C-STORE; the receipt carries the peer's status.

        After AssociationLostError the file's fate is unknown, and the delivery is over.
        """
        header = check_sendable(file)
        if self._is_over:
            raise DestinationUnreachableError(f"the delivery to {self._peer.name} is over")
        try:
            sent = send_file(self._association_for(header.kind), file, header)
        except (DestinationUnreachableError, DestinationStoppedError):
            self._is_over = True
            raise
        return Receipt(
            locator=file.entry.locator,
            fingerprint=file.entry.fingerprint,
            file_sha256=sent.file_sha256,
            status=sent.status,
            object_key="",
            transferred_bytes=sent.transferred_bytes,
            received_at=self._clock.now(),
            warning=sent.warning,
            already_there=sent.already_there,
        )

    def flush(self) -> int:
        """Do nothing: each put returned with the peer's answer, and DIMSE can ask no more."""
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_closed:
            return
        self._is_closed = self._is_over = True
        try:
            self._association.__exit__(kind, error, traceback)
        finally:
            self._on_close()

    def _association_for(self, kind: InstanceKind) -> PeerAssociation:
        pair = (kind.sop_class_uid, kind.transfer_syntax_uid)
        if self._association.still_stands() and pair in self._association.contexts.negotiated():
            return self._association
        self._association.release()
        if kind not in self._kinds:
            self._kinds.append(kind)
        start = self._kinds.index(kind)
        self._association = self._associate([*self._kinds[start:], *self._kinds[:start]])
        return self._association

    def _associate(self, kinds: Collection[InstanceKind]) -> PeerAssociation:
        """Associate for the first kinds of the list, as many as fit beside Verification."""
        proposals = [
            ContextProposal(kind.sop_class_uid, (kind.transfer_syntax_uid,))
            for kind in kinds
            if is_usable_uid(kind.sop_class_uid) and is_usable_uid(kind.transfer_syntax_uid)
        ]
        return open_association(self._peer, proposals[: MAX_CONTEXTS - 1])
