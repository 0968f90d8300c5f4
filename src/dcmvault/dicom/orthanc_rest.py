"""Orthanc's REST interface: one request at a time, every answer with a limit and a status."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

from dcmvault.dicom.http_connection import HttpConnection, HttpRequest, HttpStream
from dcmvault.dicom.sentences import sentence
from dcmvault.dicom.web_access import WebAccess
from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    EntryUnreadableError,
    EntryVanishedError,
    SourceUnavailableError,
    TlsRefusedError,
)

#: Bytes of an answer that describes resources; an instance takes about 450.
LONGEST_ROWS = 16 << 20
#: Bytes of a list of identifiers; each takes 51, so that it has 1.3 million.
LONGEST_LIST = 64 << 20
#: Bytes of a short text.
_LONGEST_TEXT = 64 << 10
#: Bytes of a file that are handed over at once.
_PIECE = 256 << 10
#: Orthanc's answers have more bytes than so many for each bracket. One with more brackets would
#: take much more memory than it has bytes.
_BYTES_PER_BRACKET = 32
_FEW_BRACKETS = 1000

#: The public identifier of a patient, study, series or instance: a SHA-1 in five groups.
ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}\Z")
_ID_IN_LIST = re.compile(rb'"([0-9a-f]{8}(?:-[0-9a-f]{8}){4})"')
_BETWEEN_IDS = re.compile(rb"\s*\[[\s,]*\]\s*\Z")

#: Statuses of an Orthanc, or of a proxy before it, that is busy or starts again.
_BUSY = frozenset({429, 502, 503, 504})
#: Seconds between attempts; an Orthanc that starts again is back within them.
_WAITS_S = (0.25, 0.5, 1.0, 2.0, 4.0)

_T = TypeVar("_T")


#: Takes a piece of a file, which is overwritten afterwards.
Take = Callable[[memoryview], None]


class OrthancBusyError(SourceUnavailableError):
    """Orthanc does not answer now: it is not there, the connection broke, or it is busy."""


class ResourceGoneError(EntryVanishedError):
    """Orthanc has no such resource (any more)."""


class ResourceUnreadableError(EntryUnreadableError):
    """Orthanc does not hand out one resource; others it may."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    etag: str


@dataclass
class Patience:
    """How long an Orthanc that is busy or away is waited for; shared by all connections to it.

    One that never answered, or did not come back, is not waited for until it has answered.
    `answered` may be said by who knows that it did so before.
    """

    waits_s: tuple[float, ...] = _WAITS_S
    _is_over: bool = field(default=True, init=False)

    def answered(self) -> None:
        """Note an answer."""
        self._is_over = False

    def apply(self, action: Callable[[], _T]) -> _T:
        """Do something until it meets no busy Orthanc; OrthancBusyError when it was waited for."""
        for wait_s in self.waits_s:
            if self._is_over:
                break
            try:
                return action()
            except OrthancBusyError:
                time.sleep(wait_s)
        try:
            return action()
        except OrthancBusyError:
            self._is_over = True
            raise


class OrthancRest:
    """Requests to one Orthanc over one connection, which is kept alive. Used by one thread.

    Every request raises SourceUnavailableError where Orthanc as a whole cannot be read,
    ResourceGoneError for status 404, and ResourceUnreadableError for what else is wrong with one
    resource.
    """

    def __init__(self, access: WebAccess, patience: Patience) -> None:
        self._access = access
        self.patience = patience
        self._connection = HttpConnection(access.peer)

    def json(self, path: str) -> object:
        """Return the JSON that a resource answers with."""
        body = self._get(path, LONGEST_ROWS)
        brackets = body.count(b"{") + body.count(b"[")
        if brackets > _FEW_BRACKETS + len(body) // _BYTES_PER_BRACKET:
            raise self._nonsense()
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._nonsense() from error

    def ids(self, path: str) -> list[str]:
        """Return a list of identifiers, each once, in the order of their digits."""
        body = self._get(path, LONGEST_LIST)
        if not _BETWEEN_IDS.match(_ID_IN_LIST.sub(b"", body)):
            raise self._nonsense()
        return sorted({found[1].decode("ascii") for found in _ID_IN_LIST.finditer(body)})

    def text(self, path: str) -> str:
        """Return a short text."""
        return self._get(path, _LONGEST_TEXT).decode("utf-8", "replace").strip()

    def lookup(self, uid: str) -> list[str]:
        """Return the identifiers of all instances that are stored under a SOP Instance UID."""
        body = uid.encode("ascii")
        answer = self.patience.apply(lambda: self._ask("/tools/lookup", _LONGEST_TEXT, body=body))
        try:
            found = json.loads(answer.body)
            ids = [str(one["ID"]) for one in found if one["Type"] == "Instance"]
        except (ValueError, RecursionError, TypeError, KeyError) as error:
            raise self._nonsense() from error
        if not all(map(ID.match, ids)):
            raise self._nonsense()
        return ids

    def fetch(self, path: str, take: Take, *, longest: int) -> str:
        """Hand over the bytes of an attachment piece by piece, and return its entity tag.

        A busy Orthanc is not waited for. What `take` raises passes through.
        """
        return self._ask(path, longest, take).etag

    def close(self) -> None:
        """Close the connection; harmless when it is closed."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _get(self, path: str, longest: int) -> bytes:
        return self.patience.apply(lambda: self._ask(path, longest)).body

    def _ask(
        self, path: str, longest: int, take: Take | None = None, body: bytes | None = None
    ) -> _Answer:
        try:
            answer = self._logged_in(path, longest, take, body)
        except TlsRefusedError as error:
            raise unavailable(error) from error
        except DestinationUnreachableError as error:
            raise OrthancBusyError(sentence(error.message), hint=_hint(error)) from error
        except DestinationStoppedError as error:
            raise unavailable(error) from error
        except DestinationError as error:
            raise ResourceUnreadableError(sentence(error.message), hint=error.hint) from error
        self._check_status(answer.status)
        self.patience.answered()
        return answer

    def _logged_in(self, path: str, longest: int, take: Take | None, body: bytes | None) -> _Answer:
        """Make a request; where the login is refused, once more with a renewed one."""
        login = self._access.login
        value = login.header()
        answer = self._try(path, longest, take, body, value)
        if answer.status == 401 and login.renew(value):
            answer = self._try(path, longest, take, body, login.header())
        return answer

    def _try(
        self, path: str, longest: int, take: Take | None, body: bytes | None, login: str
    ) -> _Answer:
        headers: Mapping[str, str] = {"Authorization": login} if login else {}
        target = f"{self._access.root}{path}"
        request = HttpRequest("GET", target, headers)
        if body is not None:
            request = HttpRequest("POST", target, headers, lambda: (body,), len(body))
        with self._connection.answering(request) as stream:
            if take is None or stream.status != 200:
                return _Answer(stream.status, stream.read(longest), "")
            _hand_over(stream, take, longest)
            return _Answer(stream.status, b"", stream.header("ETag"))

    def _check_status(self, status: int) -> None:
        if status == 200:
            return
        peer = self._access.peer.name
        if status == 404:
            self.patience.answered()
            raise ResourceGoneError("Orthanc does not have it (any more).")
        if status == 401:
            raise SourceUnavailableError(
                f"{peer} answered 401: it wants to know who we are, or does not believe it.",
                hint="Check user and password, or what else is configured for logging in.",
            )
        if status == 403:
            raise SourceUnavailableError(
                f"{peer} answered 403: it does not allow us to read.",
                hint="Allow this user to read, or access from other machines"
                " (`RemoteAccessAllowed` in Orthanc's configuration).",
            )
        if 300 <= status < 400:
            raise SourceUnavailableError(
                f"{peer} answered {status}: it refers to another address.",
                hint="Write the address of Orthanc itself; dcmvault follows no redirection,"
                " because secrets would go along.",
            )
        if status in _BUSY:
            raise OrthancBusyError(
                f"{peer} answered {status}: it is busy, or a proxy does not reach it.",
                hint="Run again later; look at Orthanc's log if it keeps happening.",
            )
        self.patience.answered()
        raise ResourceUnreadableError(f"Orthanc answered {status}.", hint="Look at Orthanc's log.")

    def _nonsense(self) -> ResourceUnreadableError:
        return ResourceUnreadableError(
            f"What {self._access.peer.name} answers is not what an Orthanc answers.",
            hint="Check host, port and path in the address: orthanc+https://host",
        )


#: Makes a connection.
Connect = Callable[[], OrthancRest]


class Connections:
    """Connections to one Orthanc, one for each thread that needs one; closed all together."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._of_thread = threading.local()
        self._all: list[OrthancRest] = []

    def mine(self) -> OrthancRest:
        """Return the connection of this thread; SourceUnavailableError where none can be made."""
        rest: OrthancRest | None = getattr(self._of_thread, "rest", None)
        if rest is None:
            rest = self._of_thread.rest = self._connect()
            self._all.append(rest)
        return rest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for rest in self._all:
            rest.close()


def _hand_over(stream: HttpStream, take: Take, longest: int) -> None:
    buffer = memoryview(bytearray(_PIECE))
    taken = 0
    while read := stream.read_into(buffer):
        taken += read
        if taken > longest:
            raise ResourceUnreadableError(
                f"Orthanc sends more than the {longest:,} bytes that it announced.",
                hint="Look for a defect of Orthanc, or of a proxy before it.",
            )
        take(buffer[:read])


def unavailable(error: DestinationError) -> SourceUnavailableError:
    """Say of Orthanc as a source what was said of a peer."""
    return SourceUnavailableError(sentence(error.message), hint=_hint(error))


def _hint(error: DestinationError) -> str:
    return error.hint or "Check that Orthanc runs, and the address."
