"""The ways by which copies come back from a PACS: C-GET, C-MOVE, WADO-RS, Orthanc's REST.

Each asks for instances of one series and hands on the files that come, in unnamed temporary files
within limits (`dicom/returning.py`); it judges nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from dcmvault.dicom.association import PeerAssociation
from dcmvault.dicom.channel import Peer, resolve
from dcmvault.dicom.dicomweb import DicomwebConnection, ServiceBusyError
from dcmvault.dicom.get_and_move import MOVE_PROPOSALS, InstancesOfSeries, move_instances
from dcmvault.dicom.move_receiver import MoveReceiver
from dcmvault.dicom.orthanc_rest import OrthancRest, Patience
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.dicom.retrieve import (
    MAX_ASKED,
    Retrieved,
    require_retrieval,
    retrieval_proposals,
    retrieve,
    was_proposed,
)
from dcmvault.dicom.returning import (
    MAX_COPIES,
    NotKeptError,
    ReturnedFile,
    Returning,
    TooLargeError,
)
from dcmvault.dicom.wado import retrieve_instance
from dcmvault.dicom.web_access import WebAccess
from dcmvault.errors import (
    AssociationLostError,
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    EntryUnreadableError,
    EntryVanishedError,
    SourceUnavailableError,
)
from dcmvault.model.instance import InstanceIdentity, InstanceKind

#: Study Root alone: in the other model a patient would have to be named.
_STUDY_ROOT_MOVE = MOVE_PROPOSALS[:1]
#: Gives an association with the peer.
Associate = Callable[[Sequence[ContextProposal]], PeerAssociation]
#: Instances asked for one after the other over HTTP, before any is judged.
_WEB_BATCH = 40
#: Bytes of one file that Orthanc may hand over; what may come in all is less.
_LONGEST_FILE = 1 << 40
#: What a service answers that cannot read the file of one instance.
_ABOUT_ONE = 500
#: Answers, one after the other, that break off before the service is given up.
_BROKEN_OFF = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """Instances of one series that are asked for together."""

    study_instance_uid: str
    series_instance_uid: str
    #: What the source's files are.
    kinds: Collection[InstanceKind]


class WayBack(Protocol):
    """How copies come back. Used by one thread, until `end`."""

    #: As the evidence calls it.
    method: str
    #: Instances that may be asked for at once.
    most: int
    #: Whether each is a request of its own, so that asking for it alone says nothing more.
    singly: bool

    def fetch(self, asked: Asked, returning: Returning) -> Retrieved:
        """Ask for what is wanted, and hand on every copy that comes.

        Raises DestinationUnreachableError when the peer cannot be asked (any more), and
        DestinationError where it offers no such way or nothing can be kept.
        """
        ...

    def end(self, *, sound: bool) -> None:
        """Give up what was used; not `sound` after an error. Harmless when nothing is used."""
        ...


@dataclass(frozen=True, slots=True)
class Lending:
    """How to come by an association with the peer; each is given back when it has ended."""

    associate: Associate
    give_back: Callable[[], None]


@dataclass(slots=True)
class _Lent:
    """The association that a way uses, made anew if need be."""

    lending: Lending
    association: PeerAssociation | None = None

    def standing(self, serves: Callable[[PeerAssociation], bool]) -> PeerAssociation | None:
        one = self.association
        return one if one is not None and one.still_stands() and serves(one) else None

    def make(self, proposals: Sequence[ContextProposal]) -> PeerAssociation:
        self.end(sound=True)
        self.association = self.lending.associate(proposals)
        return self.association

    def end(self, *, sound: bool) -> None:
        if self.association is not None:
            association, self.association = self.association, None
            try:
                if sound:
                    association.release()
                else:
                    association.abort()
            finally:
                self.lending.give_back()


class ByGet:
    """C-GET: copies come on the association that asks."""

    method = "C-GET"
    most = MAX_ASKED
    singly = False

    def __init__(self, lending: Lending) -> None:
        self._lent = _Lent(lending)

    def fetch(self, asked: Asked, returning: Returning) -> Retrieved:
        """Ask; RetrievalNotOfferedError where the peer offers no C-GET."""
        association = self._lent.standing(lambda one: was_proposed(one, asked.kinds))
        if association is None:
            association = self._lent.make(retrieval_proposals(asked.kinds))
            require_retrieval(association)
        return retrieve(association, asked.study_instance_uid, asked.series_instance_uid, returning)

    def end(self, *, sound: bool) -> None:
        """Release the association, or abort it."""
        self._lent.end(sound=sound)


@dataclass(slots=True)
class MovePort:
    """A port of ours for C-MOVE that is open while anybody uses it. Safe for threads."""

    peer: Peer
    #: Our AE title as the peer knows it with our address.
    ae_title: str
    host: str
    port: int
    _receiver: MoveReceiver | None = None
    _users: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def used(self) -> Iterator[MoveReceiver]:
        """Have it open; ConfigurationError where it cannot be had."""
        with self._lock:
            if self._receiver is None:
                senders = {str(address[0]) for _family, address in resolve(self.peer)}
                receiver = MoveReceiver(
                    self.ae_title, self.host, self.port, senders, self.peer.dimse_timeout_s
                )
                self._receiver = receiver.__enter__()
            receiver = self._receiver
            self._users += 1
        try:
            yield receiver
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._receiver = None
                    receiver.__exit__(None, None, None)


class ByMove:
    """C-MOVE: copies come to a port of ours."""

    method = "C-MOVE"
    most = MAX_ASKED
    singly = False

    def __init__(self, lending: Lending, move_port: MovePort) -> None:
        self._lent = _Lent(lending)
        self._port = move_port
        self._stack = ExitStack()
        self._receiver: MoveReceiver | None = None

    def fetch(self, asked: Asked, returning: Returning) -> Retrieved:
        """Ask; RetrievalNotOfferedError where the peer offers no C-MOVE."""
        if self._receiver is None:
            self._receiver = self._stack.enter_context(self._port.used())
        association = self._lent.standing(lambda _one: True) or self._lent.make(_STUDY_ROOT_MOVE)
        instances = InstancesOfSeries(
            asked.study_instance_uid,
            asked.series_instance_uid,
            [one.sop_instance_uid for one in returning.wanted],
        )
        with self._receiver.expecting(returning):
            moved = move_instances(association, instances, self._port.ae_title, returning)
        if returning.failure is not None:
            raise returning.failure
        return moved

    def end(self, *, sound: bool) -> None:
        """Release the association, or abort it, and close the port if nobody else uses it."""
        try:
            self._lent.end(sound=sound)
        finally:
            self._receiver = None
            self._stack.close()


@contextmanager
def _copy(returning: Returning, uid: str) -> Iterator[ReturnedFile]:
    """Begin a copy, and hand it on when it came to its end."""
    file = returning.file()
    try:
        yield file
    except BaseException:
        file.drop()
        raise
    file.finish(uid)


class _OneByOne:
    """Asks for one instance after the other over HTTP."""

    most = _WEB_BATCH
    singly = True

    def __init__(self) -> None:
        self._broken_off = 0

    def fetch(self, asked: Asked, returning: Returning) -> Retrieved:
        """Ask for each; what one request brings has nothing to do with the others."""
        refused: dict[str, str] = {}
        gone: set[str] = set()
        completed = 0
        for one in returning.wanted:
            uid = one.sop_instance_uid
            identity = InstanceIdentity(asked.study_instance_uid, asked.series_instance_uid, uid)
            try:
                completed += self._fetch_one(identity, returning)
                self._broken_off = 0
            except TooLargeError:
                returning.too_large.add(uid)
            except AssociationLostError as error:
                self._broken_off += 1
                if self._broken_off >= _BROKEN_OFF:
                    raise
                refused[uid] = error.message
            except ServiceBusyError as error:
                if error.status != _ABOUT_ONE:
                    raise
                refused[uid] = error.message
            except (NotKeptError, DestinationUnreachableError, DestinationStoppedError):
                raise
            except EntryVanishedError as error:
                gone.add(uid)
                refused[uid] = error.message
            except (DestinationError, EntryUnreadableError) as error:
                refused[uid] = error.message
        return Retrieved("", "", completed, len(refused), refused, frozenset(gone))

    def _fetch_one(self, identity: InstanceIdentity, returning: Returning) -> int:
        """Hand on the copies of one instance; return how many there are."""
        raise NotImplementedError


class ByWado(_OneByOne):
    """WADO-RS: one request for each instance."""

    method = "WADO-RS"

    def __init__(self, connect: Callable[[], AbstractContextManager[DicomwebConnection]]) -> None:
        """Take what lends a connection to the service."""
        super().__init__()
        self._connect = connect
        self._stack = ExitStack()
        self._service: DicomwebConnection | None = None

    def _fetch_one(self, identity: InstanceIdentity, returning: Returning) -> int:
        if self._service is None:
            self._service = self._stack.enter_context(self._connect())
        with _copy(returning, identity.sop_instance_uid) as file:
            retrieve_instance(self._service, identity, file.write)
        return 1

    def end(self, *, sound: bool) -> None:  # noqa: ARG002 - the protocol
        """Give the connection back."""
        self._service = None
        self._stack.close()


class ByOrthancRest(_OneByOne):
    """Orthanc's REST interface: the stored file itself, once more for each patient it is under."""

    method = "Orthanc REST"

    def __init__(self, access: Callable[[], WebAccess]) -> None:
        """Take what looks up how Orthanc is reached."""
        super().__init__()
        self._access = access
        self._rest: OrthancRest | None = None

    def _fetch_one(self, identity: InstanceIdentity, returning: Returning) -> int:
        try:
            if self._rest is None:
                self._rest = OrthancRest(self._access(), Patience())
            found = self._rest.lookup(identity.sop_instance_uid)
            if not found:
                raise EntryVanishedError("Orthanc knows no such instance")
            for instance_id in found[:MAX_COPIES]:
                self._attachment(instance_id, identity.sop_instance_uid, returning)
        except SourceUnavailableError as error:
            raise DestinationUnreachableError(error.message, hint=error.hint) from error
        return min(len(found), MAX_COPIES)

    def _attachment(self, instance_id: str, uid: str, returning: Returning) -> None:
        assert self._rest is not None
        path = f"/instances/{instance_id}/attachments/dicom/data"
        with _copy(returning, uid) as file:
            self._rest.fetch(path, file.write, longest=_LONGEST_FILE)

    def end(self, *, sound: bool) -> None:  # noqa: ARG002 - the protocol
        """Close the connection."""
        if self._rest is not None:
            self._rest.close()
            self._rest = None
