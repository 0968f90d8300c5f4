"""One DICOMweb service (PS3.18): storing an instance (STOW-RS), searching (QIDO-RS), a dry try.

One instance per request: then a status of the whole request is the status of that instance, and
memory stays small however large it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from dcmvault.dicom.http_connection import (
    HttpAnswer,
    HttpConnection,
    HttpPeer,
    HttpRequest,
    HttpStream,
)
from dcmvault.dicom.http_login import Login
from dcmvault.dicom.http_status import failure_reason, http_status
from dcmvault.dicom.status import StatusKind, StatusMeaning, store_status
from dcmvault.dicom.web_answers import StoreAnswer, read_store_answer
from dcmvault.errors import (
    AssociationLostError,
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    InstanceDeferredError,
    InstanceRefusedError,
    MalformedDicomError,
)
from dcmvault.ports.pacing import Pacer

#: An answer about one instance has about a kilobyte.
_LONGEST_STORE_ANSWER = 1 << 20
_LONGEST_SEARCH_ANSWER = 8 << 20
_JSON = "application/dicom+json"
_LONGEST_NUMBER = 10
#: Seconds before a second attempt, and before any.
_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0
_K = StatusKind


class ServiceBusyError(DestinationUnreachableError):
    """The service answered that it cannot serve now; `wait_s` is when it wants us back, or 0."""

    def __init__(
        self, message: str, *, hint: str = "", wait_s: float = 0.0, status: int = 503
    ) -> None:
        super().__init__(message, hint=hint)
        self.wait_s = wait_s
        self.status = status


def seconds_until_next(error: DestinationUnreachableError, attempt: int) -> float:
    """Say how long to wait before the next attempt: as the service asks, within reason."""
    asked_s = error.wait_s if isinstance(error, ServiceBusyError) else 0.0
    return min(asked_s or _WAIT_S * 2 ** (attempt - 1), _LONGEST_WAIT_S)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the peer said of one instance: four hexadecimal digits, and words for a warning."""

    status: str
    warning: str
    #: What a warning means and what to do about it.
    hint: str
    #: The peer said that it had something under this UID before.
    already_there: bool
    transferred_bytes: int


@dataclass
class DicomwebConnection:
    """Requests to one service over one connection. Used by one thread."""

    connection: HttpConnection
    #: The path of the service, without a slash at the end.
    root: str
    login: Login

    @property
    def peer(self) -> HttpPeer:
        """Who is spoken to."""
        return self.connection.peer

    def open(self) -> None:
        """Connect and log in as far as that needs another service.

        Raises DestinationUnreachableError or DestinationStoppedError.
        """
        self.connection.open()
        self.login.header()

    def store(
        self,
        sop_instance_uid: str,
        chunks: Callable[[], Iterable[memoryview]],
        length: int,
        pacer: Pacer | None = None,
    ) -> Stored:
        """Send one Part 10 file of `length` bytes and return what became of it.

        `chunks` gives the file from its start, again if the request has to be made again. All
        bytes wait for the `pacer`, if any.
        Raises InstanceRefusedError and InstanceDeferredError for the peer's word,
        DestinationStoppedError where it takes nothing, AssociationLostError when the fate of the
        instance is unknown. What `chunks` raises passes through.
        """
        # 128 random bits are in no file.
        boundary = f"dcmvault-{secrets.token_hex(16)}"
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
        tail = f"\r\n--{boundary}--\r\n".encode("ascii")

        def body() -> Iterable[bytes | memoryview]:
            yield head
            yield from chunks()
            yield tail

        total = len(head) + length + len(tail)
        answer = self._post(boundary, body, total, pacer)
        return self._judge(sop_instance_uid, answer, total)

    def store_nothing(self) -> int:
        """Ask to store no instance at all; return the HTTP status.

        Whoever offers STOW-RS finds fault with it or does nothing. Raises DestinationError for
        who does not offer it, or not to us.
        """
        boundary = "dcmvault-nothing"
        body = f"--{boundary}--\r\n".encode("ascii")
        answer = self._post(boundary, lambda: (body,), len(body))
        meaning = http_status(answer.status)
        if meaning.kind in (_K.STOP_DESTINATION, _K.RETRY_LATER):
            raise self.failure(answer.status)
        return answer.status

    def search(self, resource: str, parameters: Iterable[tuple[str, str]]) -> HttpAnswer:
        """Ask a search resource such as `/studies` and return the answer, whatever its status.

        Raises DestinationUnreachableError when none comes.
        """
        query = urlencode(list(parameters), safe=",")
        target = f"{self.root}{resource}" + (f"?{query}" if query else "")
        request = HttpRequest("GET", target, {"Accept": _JSON})
        return self._logged_in(request, _LONGEST_SEARCH_ANSWER)

    @contextmanager
    def retrieving(self, resource: str, accept: str) -> Iterator[HttpStream]:
        """Ask for a resource and hand out the answer, whatever its status; read it in the context.

        Raises DestinationUnreachableError when none comes, or not to its end.
        """
        # What is compressed on the way could become any size.
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        request = HttpRequest("GET", f"{self.root}{resource}", headers)
        login = self.login.header()
        with self.connection.answering(_with_login(request, login)) as answer:
            if answer.status != 401 or not self.login.renew(login):
                yield answer
                return
        login = self.login.header()
        with self.connection.answering(_with_login(request, login)) as answer:
            yield answer

    def failure(self, status: int, retry_after: str = "") -> DestinationError:
        """Return what an HTTP status means for the whole service, as an error."""
        meaning = http_status(status)
        message = f"{self.peer.name} answered {status}: {meaning.meaning}"
        hint = _hint(meaning)
        if meaning.kind is _K.STOP_DESTINATION:
            return DestinationStoppedError(message, hint=hint)
        if meaning.kind is _K.RETRY_LATER:
            return ServiceBusyError(message, hint=hint, wait_s=_seconds(retry_after), status=status)
        return DestinationError(message, hint=hint)

    def _post(
        self,
        boundary: str,
        body: Callable[[], Iterable[bytes | memoryview]],
        length: int,
        pacer: Pacer | None = None,
    ) -> HttpAnswer:
        kind = ("multipart/related", 'type="application/dicom"', f"boundary={boundary}")
        headers = {"Accept": _JSON, "Content-Type": "; ".join(kind)}
        request = HttpRequest("POST", f"{self.root}/studies", headers, body, length, pacer)
        try:
            return self._logged_in(request, _LONGEST_STORE_ANSWER)
        except (DestinationUnreachableError, DestinationStoppedError):
            raise
        except DestinationError as error:
            raise AssociationLostError(error.message, hint=error.hint) from error

    def _logged_in(self, request: HttpRequest, longest_answer: int) -> HttpAnswer:
        """Make a request; where the login is refused, once more with a renewed one."""
        login = self.login.header()
        for is_last in (False, True):
            answer = self.connection.exchange(
                _with_login(request, login), longest_answer=longest_answer
            )
            if answer.status != 401 or is_last or not self.login.renew(login):
                break
            login = self.login.header()
        return answer

    def _judge(self, uid: str, answer: HttpAnswer, length: int) -> Stored:
        peer, status = self.peer.name, answer.status
        of_all = http_status(status)
        if of_all.kind is _K.STOP_DESTINATION:
            raise self.failure(status)
        try:
            said = read_store_answer(answer.body)
        except MalformedDicomError as error:
            if of_all.kind is _K.STORED:
                raise InstanceRefusedError(
                    f"{peer} answered {status}, but not what became of the instance:"
                    f" {error.message}",
                    hint="Look for a defect of the peer.",
                ) from error
            said = StoreAnswer({}, {}, ())
        reason = said.failed.get(uid, next(iter(said.other_failures), None))
        # It holds this instance already only where it says so of this one.
        if reason and uid in said.failed and failure_reason(reason).kind is _K.DUPLICATE:
            return _stored_before(reason, length)
        if reason:
            raise self._failure_of_one(reason)
        if uid in said.stored and of_all.kind is _K.STORED:
            return _stored(said.stored[uid], length)
        if reason == 0 and of_all.kind is _K.STORED:
            message = f"{peer} answered {status} and names the instance as failed, without a reason"
            raise InstanceRefusedError(message, hint="Look at the peer's log for the reason.")
        if of_all.kind is _K.STORED:
            message = f"{peer} answered {status}, but does not name the instance as stored"
            raise InstanceRefusedError(message, hint="Look at the peer's log for the reason.")
        kind = InstanceDeferredError if of_all.kind is _K.RETRY_LATER else InstanceRefusedError
        raise kind(f"{peer} answered {status}: {of_all.meaning}", hint=_hint(of_all))

    def _failure_of_one(self, reason: int) -> InstanceRefusedError | DestinationStoppedError:
        meaning = failure_reason(reason)
        status = f"{reason:04X}"
        message = f"{self.peer.name} answered {status}: {meaning.meaning}"
        if meaning.kind is _K.STOP_DESTINATION:
            return DestinationStoppedError(message, hint=_hint(meaning), status=status)
        kind = InstanceDeferredError if meaning.kind is _K.RETRY_LATER else InstanceRefusedError
        return kind(message, hint=_hint(meaning), status=status)

    def give_up(self) -> HttpConnection:
        """Return the connection for somebody else; here another one takes its place."""
        given, self.connection = self.connection, HttpConnection(self.peer)
        return given

    def close(self) -> None:
        """Close the connection; harmless when it is closed."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _with_login(request: HttpRequest, login: str) -> HttpRequest:
    if not login:
        return request
    return replace(request, headers={**request.headers, "Authorization": login})


def _seconds(retry_after: str) -> float:
    """Return how long to wait, in seconds or until a date (RFC 9110 section 10.2.3); 0 for none."""
    text = retry_after.strip()
    if text.isascii() and text.isdecimal() and len(text) < _LONGEST_NUMBER:
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    now = datetime.now(UTC) if until.tzinfo is not None else datetime.now(UTC).replace(tzinfo=None)
    return max(0.0, (until - now).total_seconds())


def _stored(warning: int, length: int) -> Stored:
    """Return what a Warning Reason means (PS3.18 table I.2-1); the instance is stored."""
    if not warning:
        return Stored("0000", "", "", False, length)
    meaning = store_status(warning)
    known = meaning.kind is _K.STORED_WITH_CHANGES
    words = meaning.meaning if known else "stored with a warning of the peer's own"
    status = f"{warning & 0xFFFF:04X}"
    hint = _hint(meaning) if known else "Look at the peer's log for the reason."
    return Stored(status, f"{status}: {words}", hint, False, length)


def _stored_before(reason: int, length: int) -> Stored:
    meaning = failure_reason(reason)
    status = f"{reason:04X}"
    return Stored(status, f"{status}: {meaning.meaning}", _hint(meaning), True, length)


def _hint(meaning: StatusMeaning) -> str:
    return f"{meaning.cause} {meaning.remedy}".strip()
