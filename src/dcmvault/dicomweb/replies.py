"""What a service answers: a status, headers, and a body in pieces; and what it refuses to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

DICOM_JSON = "application/dicom+json"
JSON = "application/json"


class RefusedError(Exception):
    """A request that is not carried out: an HTTP status and a sentence for people."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Request:
    """A GET or HEAD whose target was read."""

    #: Parts of the path below the root of the service, decoded.
    path: tuple[str, ...]
    #: Names and values as they came, decoded.
    parameters: tuple[tuple[str, str], ...]
    #: The root of the service as the client calls it, for addresses that are told.
    root: str
    accept: str = ""

    def values(self, name: str) -> list[str]:
        """Return all values of a parameter."""
        return [value for key, value in self.parameters if key.lower() == name]


@dataclass(slots=True)
class Outcome:
    """What may be written down of one request, filled in while it is answered."""

    service: str = ""
    level: str = ""
    keys: tuple[str, ...] = ()
    study_instance_uids: tuple[str, ...] = ()
    series_instance_uids: tuple[str, ...] = ()
    sop_instance_uids: tuple[str, ...] = ()
    answers: int = 0
    sent: int = 0
    failed: int = 0
    #: Of those that failed: what is not damaged, but cannot be given as it is accepted.
    unaccepted: int = 0
    bytes: int = 0
    #: Whether damage may hide more of what was asked for, without a name.
    hidden: bool = False


@dataclass(slots=True)
class Reply:
    """An answer; its body is made while it is sent."""

    status: int
    content_type: str = ""
    pieces: Iterator[bytes | memoryview] | Sequence[bytes] = ()
    headers: dict[str, str] = field(default_factory=dict)
    #: Asked after the body for what could not be known before: a value of Warning, or nothing.
    warning: Callable[[], str] | None = None

    def close(self) -> None:
        """Stop making the body."""
        close = getattr(self.pieces, "close", None)
        if close is not None:
            close()


def json_reply(value: object, content_type: str = DICOM_JSON) -> Reply:
    """Answer one JSON document."""
    body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return Reply(200, content_type, [body], {"Content-Length": str(len(body))})


def refusal(error: RefusedError) -> Reply:
    """Answer why a request is refused."""
    reply = json_reply({"status": error.status, "error": error.reason}, JSON)
    reply.status = error.status
    reply.headers |= error.headers
    return reply
