"""A DICOMweb service as a destination: STOW-RS delivers, QIDO-RS and WADO-RS give evidence."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from dcmvault.config.peer_sections import StowDestinationSection
from dcmvault.destinations.query_evidence import find_evidence, nothing_listed
from dcmvault.destinations.read_back import read_back
from dcmvault.destinations.shared_slots import SharedSlots
from dcmvault.destinations.source_files import open_source_file, require_unchanged, unreadable
from dcmvault.destinations.ways_back import Asked, ByWado
from dcmvault.destinations.witnesses import Witness, Witnesses
from dcmvault.dicom.dicomweb import DicomwebConnection, ServiceBusyError
from dcmvault.dicom.idle_connections import IdleConnections
from dcmvault.dicom.qido import WebStudyQuery
from dcmvault.dicom.returning import WantedInstance
from dcmvault.dicom.store import check_bytes, check_sendable
from dcmvault.dicom.wado import retrieve_instance
from dcmvault.dicom.web_access import LookedUpAccess
from dcmvault.dicom.web_probe import WebProbe
from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    EntryChangedError,
    EntryUnreadableError,
    EntryVanishedError,
    InstanceUnsendableError,
    LevelNotSupportedError,
)
from dcmvault.model.evidence import ExpectedStudy, Level, Verification
from dcmvault.model.instance import InstanceFile, InstanceHeader, InstanceIdentity, InstanceKind
from dcmvault.model.probe import ProbeStep
from dcmvault.model.receipt import Receipt
from dcmvault.model.snapshot import Origin
from dcmvault.ports.clock import Clock
from dcmvault.ports.pacing import Pacer, Pacing

#: Read and sent at once.
_CHUNK = 256 * 1024
#: What a service answers that has what was asked for, and cannot say so.
_CANNOT_LIST = 500
#: Deliveries at once before anything was measured.
_FIRST_DELIVERIES = 2
#: Other studies of which an instance is asked for, to see whether anything is sent back.
_ELSEWHERE = 5
_LEVELS = frozenset({Level.SENT, Level.PRESENT, Level.COMPLETE, Level.PROVEN})


class StowDestination:
    """A DICOMweb service. Safe for several threads.

    At most `max_connections` deliveries and questions (verification, listing) are open at once,
    of all workers together; another one waits for its turn. Secrets and certificates are looked up
    when the service is first spoken to.
    """

    keeps_versions = False
    takes_opaque_files = False
    default_level = Level.COMPLETE
    levels = _LEVELS
    flush_interval_s = 0.5

    def __init__(
        self, section: StowDestinationSection, clock: Clock, pacing: Pacing | None = None
    ) -> None:
        """Connect nothing yet; `pacing` limits how fast instances are sent."""
        self._section = section
        self._pacing = pacing
        self._clock = clock
        self._idle = IdleConnections(clock)
        self.slots = SharedSlots(section.max_connections, clock, self._idle.standing)
        self._access = LookedUpAccess(section, clock.monotonic)
        self._witnesses = Witnesses(self._witnesses_elsewhere)

    @property
    def name(self) -> str:
        """The address in canonical form."""
        return self._section.address

    @property
    def first_deliveries(self) -> int:
        """Two, while nothing was measured."""
        return min(_FIRST_DELIVERIES, self._section.max_connections)

    @property
    def max_deliveries(self) -> int:
        """A connection each."""
        return self._section.max_connections

    def close_idle(self) -> None:
        """Close the connections that wait for further deliveries."""
        self._idle.close()

    def open(self, kinds: Collection[InstanceKind], origin: Origin) -> StowDelivery:  # noqa: ARG002 - the port
        """Connect and log in; one request carries one instance, of whatever kind.

        A connection that was left open by an earlier delivery is taken where there is one.
        Raises DestinationUnreachableError or DestinationStoppedError.
        """
        access = self._access()
        pacer = self._pacing.pacer(origin.priority) if self._pacing is not None else None
        self.slots.take()
        try:
            service = access.service(self._idle.take(access.peer))
            return StowDelivery(service, self._clock, self._idle, self.slots.give_back, pacer)
        except BaseException:
            self.slots.give_back()
            raise

    def instances(self, study_instance_uid: str, series_instance_uid: str = "") -> frozenset[str]:
        """Return the SOP Instance UIDs that the service names, each once.

        Raises DestinationError when it does not answer the question, DestinationUnreachableError
        when it cannot be reached.
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
        """Look for evidence by QIDO-RS: PRESENT by counts, COMPLETE by sets of UIDs per series.

        PROVEN reads back by WADO-RS and compares with `study.originals`, which it needs.
        """
        if level not in self.levels or level <= Level.SENT:
            raise LevelNotSupportedError(
                f"{self.name} cannot give evidence of the level `{level.word}` by DICOMweb",
                hint="Ask for `present`, `complete` or `proven`.",
            )
        try:
            with self._question() as query:
                listed = find_evidence(query, study, min(level, Level.COMPLETE), self._clock)
        except ServiceBusyError as error:
            # Some read the files to answer a search, and fail for one that is broken.
            if level is not Level.PROVEN or error.status != _CANNOT_LIST:
                raise
            listed = nothing_listed(study, self.name, error.message, self._clock)
        if level is not Level.PROVEN:
            return listed

        def still_lists(series_uid: str, among: Collection[str]) -> Collection[str]:
            with self._question() as query:
                return query.instance_uids(study.study_instance_uid, series_uid, among)

        way, coerced = ByWado(self._service), self._section.coerced_tags
        return read_back(way, study, listed, self._clock, coerced, self._witnesses, still_lists)

    def sends_back(self) -> bool:
        """Ask for an instance of those that it names: only a refusal says that it does not.

        Who cannot be reached now, or is busy, has refused nothing. Where it names none, one is
        asked for that nobody has.
        """
        nobody = (InstanceIdentity(*(f"2.25.{uuid.uuid4().int}" for _level in range(3))),)
        refused = False
        try:
            for identity in self._named_elsewhere("") or nobody:
                try:
                    with self._service() as service:
                        retrieve_instance(service, identity, _take_no_more)
                except EntryVanishedError:
                    refused = identity not in nobody
                except (DestinationUnreachableError, EntryUnreadableError, _EnoughError):
                    return True
                except DestinationError:
                    return False
                else:
                    return True
        finally:
            self.close_idle()
        return not refused

    def _named_elsewhere(self, study_instance_uid: str) -> Sequence[InstanceIdentity]:
        """List instances of a few other studies; none where it does not answer."""
        with suppress(DestinationError), self._question() as query:
            return list(query.elsewhere(study_instance_uid, _ELSEWHERE))
        return ()

    def _witnesses_elsewhere(self, study_instance_uid: str) -> Iterator[Witness]:
        for one in self._named_elsewhere(study_instance_uid):
            asked = Asked(one.study_instance_uid, one.series_instance_uid, ())
            yield Witness(asked, WantedInstance(one.sop_instance_uid, 0))

    def probe(self) -> tuple[ProbeStep, ...]:
        """Try name, connection, TLS, token, HTTP, QIDO-RS and STOW-RS in order."""
        return WebProbe(self._access, self._clock).run()

    @contextmanager
    def _question(self) -> Iterator[WebStudyQuery]:
        """Lend a connection for queries."""
        with self._service() as service:
            yield WebStudyQuery(service)

    @contextmanager
    def _service(self) -> Iterator[DicomwebConnection]:
        """Lend a connection; it is kept for whoever comes next."""
        access = self._access()
        self.slots.take()
        try:
            with access.service(self._idle.take(access.peer)) as service:
                service.open()
                yield service
                self._idle.keep(service.give_up())
        finally:
            self.slots.give_back()


class _EnoughError(Exception):
    """It does send back; nobody wants the rest."""


def _take_no_more(_piece: memoryview) -> None:
    raise _EnoughError


class StowDelivery:
    """One connection of a destination, kept alive from instance to instance."""

    def __init__(
        self,
        service: DicomwebConnection,
        clock: Clock,
        idle: IdleConnections,
        on_close: Callable[[], None],
        pacer: Pacer | None = None,
    ) -> None:
        self._service = service
        self._clock = clock
        self._idle = idle
        self._on_close = on_close
        self._pacer = pacer
        self._is_over = False
        self._is_closed = False
        try:
            service.open()
        except BaseException:
            service.close()
            raise

    def put(self, file: InstanceFile) -> Receipt:
        """Send one file by STOW-RS; the receipt carries the service's status of this instance.

        After AssociationLostError the file's fate is unknown, and the delivery is over.
        """
        header = _require_part10(file)
        if self._is_over:
            raise DestinationUnreachableError(f"the delivery to {self._service.peer.name} is over")
        body = _FileBody(file)
        body.require_sound(header)
        try:
            stored = self._service.store(
                header.sop_instance_uid, body.chunks, file.fingerprint.size, self._pacer
            )
        except (DestinationUnreachableError, DestinationStoppedError):
            self._is_over = True
            raise
        return Receipt(
            locator=file.entry.locator,
            fingerprint=file.fingerprint,
            file_sha256=body.sha256,
            status=stored.status,
            object_key="",
            transferred_bytes=stored.transferred_bytes,
            received_at=self._clock.now(),
            warning=stored.warning,
            hint=stored.hint,
            already_there=stored.already_there,
        )

    def flush(self) -> int:
        """Do nothing: each put returned with the service's answer, and HTTP can ask no more."""
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
        sound = error is None and not self._is_over
        self._is_closed = self._is_over = True
        try:
            if sound:
                self._idle.keep(self._service.give_up())
            else:
                self._service.close()
        finally:
            self._on_close()


def _require_part10(file: InstanceFile) -> InstanceHeader:
    """Return the header of a file that can be sent as it is: STOW-RS takes whole Part 10 files."""
    header = check_sendable(file)
    if not (header.has_preamble and header.has_file_meta):
        raise InstanceUnsendableError(
            "the instance cannot be sent: it is no Part 10 file",
            hint="Send it to a PACS by DIMSE, or keep it in a vault or folder.",
        )
    return header


class _FileBody:
    """The bytes of one file, read anew for each request; `sha256` is of the last reading."""

    def __init__(self, file: InstanceFile) -> None:
        self._file = file
        self.sha256 = b""

    def require_sound(self, header: InstanceHeader) -> None:
        """Raise before anything is sent, where it can be known: it is unreadable or truncated.

        As EntryUnreadableError and InstanceUnsendableError.
        """
        planned = self._file.fingerprint
        with open_source_file(self._file.path) as stream:
            require_unchanged(stream, planned)
            try:
                check_bytes(stream.fileno(), header, planned.size)
            except OSError as error:
                raise unreadable(error) from error

    def chunks(self) -> Iterator[memoryview]:
        """Yield the file, the last part only when the whole is known to be what was planned.

        Each chunk is valid until the next is asked for.
        """
        planned = self._file.fingerprint
        digest = hashlib.sha256()
        left = planned.size
        buffer = bytearray(min(left, _CHUNK))
        with open_source_file(self._file.path) as stream:
            require_unchanged(stream, planned)
            while left:
                view = memoryview(buffer)[: min(left, _CHUNK)]
                filled = 0
                while filled < len(view):
                    try:
                        read = stream.readinto(view[filled:])  # type: ignore[attr-defined]
                    except OSError as error:
                        raise unreadable(error) from error
                    if not read:
                        raise EntryChangedError("The file became shorter while it was read.")
                    filled += read
                digest.update(view)
                left -= len(view)
                if not left:
                    require_unchanged(stream, planned)
                    self.sha256 = digest.digest()
                yield view
