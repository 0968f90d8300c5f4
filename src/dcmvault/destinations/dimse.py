"""A PACS as a destination: C-STORE delivers, queries, commitment and read-back give evidence."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.commitment_evidence import ask_to_commit, waiting_for
from dcmvault.destinations.dimse_pool import AssociationSlots, IdleAssociations
from dcmvault.destinations.dimse_probe import DimseProbe
from dcmvault.destinations.dimse_proof import DimseProof
from dcmvault.destinations.measures import MeasuredPacer, Measures
from dcmvault.destinations.query_evidence import find_evidence
from dcmvault.destinations.ways_back import Lending
from dcmvault.dicom.association import PeerAssociation, open_association
from dcmvault.dicom.configured_peer import peer_of
from dcmvault.dicom.contexts import other_syntax, plan_contexts
from dcmvault.dicom.find import FIND_PROPOSAL, StudyQuery
from dcmvault.dicom.messages import Answer
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.dicom.store import Begun, begin_file, begin_transcoded, check_sendable
from dcmvault.errors import (
    AssociationDeferredError,
    AssociationRejectedError,
    DcmvaultError,
    DestinationStoppedError,
    DestinationUnreachableError,
    LevelNotSupportedError,
)
from dcmvault.model.evidence import ExpectedStudy, Level, Verification
from dcmvault.model.instance import InstanceFile, InstanceHeader, InstanceKind
from dcmvault.model.probe import ProbeStep
from dcmvault.model.receipt import Receipt
from dcmvault.model.snapshot import Origin
from dcmvault.ports.clock import Clock
from dcmvault.ports.pacing import Pacer, Pacing

#: A peer may count an association for so long after its end; then it is asked again so often.
_JUST_ENDED_S = 2.0
_PAUSES_AFTER_END_S = (0.05, 0.1, 0.2, 0.4, 0.8)
_LEVELS = frozenset(Level) - {Level.NONE}
#: Deliveries at once before anything was measured, by what lies between.
_FIRST_DELIVERIES = {"": 2, "ethernet": 6, "wifi": 3, "cellular": 2}


class DimseDestination:
    """A storage and query service spoken to by DIMSE. Safe for several threads.

    At most `max_associations` associations stand at once, for deliveries and questions
    (verification, listing) together; another one waits for its turn.
    """

    keeps_versions = False
    takes_opaque_files = False
    default_level = Level.COMPLETE
    levels = _LEVELS
    flush_interval_s = 0.5

    def __init__(
        self, section: DimseDestinationSection, clock: Clock, pacing: Pacing | None = None
    ) -> None:
        """Connect nothing yet; ConfigurationError for files of TLS that cannot be used."""
        self._name = section.address
        self._peer = peer_of(section, async_window=section.async_window)
        self._transcodes = section.transcode == "lossless"
        self._clock = clock
        self._pacing = pacing
        self.measures = Measures()
        self._max_associations = section.max_associations
        self._network = section.network
        self._idle = IdleAssociations(clock)
        self.slots = AssociationSlots(section.max_associations, clock, self._idle.standing)
        self._lending = Lending(self._associated, self.slots.give_back)
        self._proof = DimseProof(section, self._peer, self._lending, clock)
        self._commitment = waiting_for(section, clock)

    @property
    def name(self) -> str:
        """The address in canonical form."""
        return self._name

    @property
    def first_deliveries(self) -> int:
        """As many as suit what lies between, where that was said."""
        return min(_FIRST_DELIVERIES[self._network], self._max_associations)

    @property
    def max_deliveries(self) -> int:
        """An association each."""
        return self._max_associations

    def close_idle(self) -> None:
        """Release the associations that wait for further deliveries."""
        self._idle.close()

    def open(self, kinds: Collection[InstanceKind], origin: Origin) -> DimseDelivery:
        """Open an association for files of these kinds; others are negotiated when they come.

        One that was left open by an earlier delivery is taken where it serves.
        Raises DestinationUnreachableError with its subclasses.
        """
        pacer = None
        if self._pacing is not None:
            pacer = MeasuredPacer(self._pacing.pacer(origin.priority), self.measures)
        proposals = propose(kinds, transcodes=self._transcodes)
        return DimseDelivery(
            self._associated(proposals),
            kinds,
            self._clock,
            self._idle,
            self.slots.give_back,
            pacer,
            self.measures,
            transcodes=self._transcodes,
        )

    def instances(self, study_instance_uid: str, series_instance_uid: str = "") -> frozenset[str]:
        """Return the SOP Instance UIDs that the peer names at IMAGE level, each once.

        Raises DestinationError when the peer has no query, refuses the question or caps the
        answer, DestinationUnreachableError when it cannot be reached.
        """
        with self._question() as query:
            series = (
                frozenset({series_instance_uid})
                if series_instance_uid
                else query.series_uids(study_instance_uid)
            )
            found = [query.instance_uids(study_instance_uid, uid) for uid in sorted(series)]
            return frozenset().union(*found)

    def verify(self, study: ExpectedStudy, level: Level) -> Verification:
        """Look for evidence by C-FIND: PRESENT by counts, COMPLETE by sets of UIDs per series.

        COMMITTED also asks for storage commitment of what is listed, and waits for the report.
        PROVEN reads back and compares with `study.originals`, which it needs.
        """
        if level not in self.levels or level <= Level.SENT:
            raise LevelNotSupportedError(
                f"{self._peer.name} cannot give evidence of the level `{level.word}` by DIMSE",
                hint="Ask for `present`, `complete`, `committed` or `proven`.",
            )
        listed_level = min(level, Level.COMPLETE)
        with self._question() as query:
            listed = find_evidence(query, study, listed_level, self._clock)
        if level is Level.COMMITTED:
            lent, waiting = self._lending, self._commitment
            return ask_to_commit(self._peer, lent, study, listed, self._clock, waiting)
        if level is not Level.PROVEN:
            return listed
        return self._proof.read_back(study, listed)

    def probe(self) -> tuple[ProbeStep, ...]:
        """Try name, connection, TLS (if so), association and C-ECHO in order."""
        return DimseProbe(self._peer, self._clock).climb()

    def survey(self, *, stores: bool) -> tuple[ProbeStep, ...]:
        """Find out round trip, accepted kinds and syntaxes, query, commitment, and bandwidth."""
        return DimseProbe(self._peer, self._clock).survey(stores=stores)

    @contextmanager
    def _question(self) -> Iterator[StudyQuery]:
        """Lend an association for queries; a sound one is kept for whoever comes next."""
        with ExitStack() as stack:
            association = self._associated((FIND_PROPOSAL,))
            stack.callback(self.slots.give_back)
            with ExitStack() as closing:
                closing.enter_context(association)
                yield StudyQuery(association)
                if association.is_at_rest:
                    closing.pop_all()
                    self._idle.keep(association)

    def _opened(self, proposals: Sequence[ContextProposal]) -> PeerAssociation:
        began = self._clock.monotonic()
        with self._idle.opening():
            association = open_association(self._peer, proposals)
        self.slots.waited(self._clock.monotonic() - began)
        return association

    def _has_just_ended(self) -> bool:
        ends = (self.slots.given_back_at, self._idle.released_at)
        now = self._clock.monotonic()
        return any(end is not None and now - end < _JUST_ENDED_S for end in ends)

    def _associated(self, proposals: Sequence[ContextProposal]) -> PeerAssociation:
        """Return an association, with its slot; one that waits for more work where it serves.

        A peer that serves fewer than were configured is not asked for more: whoever is refused
        beside others of ours waits for one of them to end; and a little, where one just ended, for
        the peer to notice.
        """
        pauses = iter(_PAUSES_AFTER_END_S)
        while True:
            self.slots.take()
            try:
                return self._idle.take(proposals) or self._opened(proposals)
            except (AssociationDeferredError, AssociationRejectedError):
                if self.slots.refused():
                    continue
                pause_s = next(pauses, None) if self._has_just_ended() else None
                if pause_s is None:
                    raise
                time.sleep(pause_s)
            except BaseException:
                self.slots.give_back()
                raise


class DimseDelivery:
    """One association of a destination; made anew for kinds that it did not negotiate.

    Several files may be on their way, where the peer granted it (`ports.destination.Pipelined`).
    """

    def __init__(
        self,
        association: PeerAssociation,
        kinds: Collection[InstanceKind],
        clock: Clock,
        idle: IdleAssociations,
        on_close: Callable[[], None],
        pacer: Pacer | None,
        measures: Measures,
        *,
        transcodes: bool,
    ) -> None:
        self._association = association
        self._peer = association.peer
        self._transcodes = transcodes
        self._clock = clock
        self._idle = idle
        self._on_close = on_close
        self._pacer = pacer
        self._measures = measures
        self._kinds = sorted(set(kinds))
        self._is_over = False
        self._is_closed = False
        #: Files without an answer, by the message ids of their requests.
        self._begun: dict[int, tuple[InstanceFile, Begun]] = {}
        #: What came of files that nobody has heard of yet.
        self._done: deque[tuple[InstanceFile, Receipt | DcmvaultError]] = deque()

    def put(self, file: InstanceFile) -> Receipt:
        """Send one file by C-STORE; the receipt carries the peer's status.

        After AssociationLostError the file's fate is unknown, and the delivery is over.
        """
        self.begin(file)
        _file, came = self.finish()
        if isinstance(came, DcmvaultError):
            raise came
        return came

    @property
    def window(self) -> int:
        """What the peer granted to the association that stands."""
        return self._association.window

    def begin(self, file: InstanceFile) -> None:
        """Send one file by C-STORE, and hash it.

        After an AssociationLostError all files on their way are unknown, and the delivery is over.
        """
        header = check_sendable(file)
        self._require_going_on()
        try:
            with self._measures.timed("send"):
                begun = self._send(file, header)
        except DestinationUnreachableError as error:
            self._lose_all(error)
            raise
        self._begun[begun.message_id] = (file, begun)

    def finish(self) -> tuple[InstanceFile, Receipt | DcmvaultError]:
        """Wait for the next answer; the receipt carries the peer's status."""
        if not self._done:
            self._hear()
        return self._done.popleft()

    def _hear(self) -> None:
        """Note what came of one file on its way, or of all when they are lost."""
        try:
            with self._measures.timed("wait"):
                answer = self._association.stored()
        except DestinationUnreachableError as error:
            self._lose_all(error)
            return
        file, begun = self._begun.pop(answer.message_id)
        came: Receipt | DcmvaultError
        try:
            came = self._receipt(file, begun, answer)
        except DcmvaultError as error:
            self._is_over = self._is_over or isinstance(error, DestinationStoppedError)
            came = error
        self._done.append((file, came))

    def _lose_all(self, error: DestinationUnreachableError) -> None:
        self._is_over = True
        self._done.extend((file, error) for file, _begun in self._begun.values())
        self._begun.clear()

    def _receipt(self, file: InstanceFile, begun: Begun, answer: Answer) -> Receipt:
        sent = begun.sent(self._peer.name, answer)
        return Receipt(
            locator=file.entry.locator,
            fingerprint=file.fingerprint,
            file_sha256=sent.file_sha256,
            status=sent.status,
            object_key="",
            transferred_bytes=sent.transferred_bytes,
            received_at=self._clock.now(),
            warning=sent.warning,
            hint=sent.hint,
            already_there=sent.already_there,
            transfer_syntax_uid=sent.transfer_syntax_uid,
            transcoding=sent.transcoding,
        )

    def flush(self) -> int:
        """Do nothing: each file was heard of with the peer's answer, and DIMSE can ask no more."""
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
        sound = error is None and not self._is_over and self._association.is_at_rest
        self._is_closed = self._is_over = True
        try:
            if sound:
                self._idle.keep(self._association)
            else:
                self._association.__exit__(kind, error, traceback)
        finally:
            self._on_close()

    def _send(self, file: InstanceFile, header: InstanceHeader) -> Begun:
        """Send a file as it stands or, if the peer refused its kind, in another transfer syntax."""
        kind, pacer = header.kind, self._pacer
        association = self._association_for(kind)
        if association.contexts.id_of(kind.sop_class_uid, kind.transfer_syntax_uid) is not None:
            return begin_file(association, file, header, pacer)
        syntax = other_syntax(association, kind, transcodes=self._transcodes)
        return begin_transcoded(lambda: self._association_for(kind), file, header, syntax, pacer)

    def _association_for(self, kind: InstanceKind) -> PeerAssociation:
        own = ContextProposal(kind.sop_class_uid, (kind.transfer_syntax_uid,))
        if self._association.still_stands() and own in self._association.contexts.proposed:
            return self._association
        while self._begun:
            self._hear()
        self._require_going_on()
        self._association.release()
        if kind not in self._kinds:
            self._kinds.append(kind)
        start = self._kinds.index(kind)
        kinds = [*self._kinds[start:], *self._kinds[:start]]
        proposals = propose(kinds, transcodes=self._transcodes)
        self._association = open_association(self._peer, proposals)
        return self._association

    def _require_going_on(self) -> None:
        if self._is_over:
            raise DestinationUnreachableError(f"the delivery to {self._peer.name} is over")


def propose(kinds: Collection[InstanceKind], *, transcodes: bool) -> tuple[ContextProposal, ...]:
    """Propose the first kinds of the list, as many as fit beside the query."""
    return (*plan_contexts(kinds, transcodes=transcodes), FIND_PROPOSAL)
