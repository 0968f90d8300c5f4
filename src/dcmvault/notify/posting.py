"""One POST to a service: TLS checked, no redirection followed, every wait ends."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from dcmvault.dicom.http_connection import HttpAnswer, HttpConnection, HttpPeer, HttpRequest
from dcmvault.dicom.tls import TlsClient, TlsOptions
from dcmvault.errors import (
    DestinationError,
    NotificationRefusedError,
    NotificationUnreachableError,
    Retry,
)

#: Bytes of an answer that are read; what a service says is short, and is shown in part only.
_LONGEST_ANSWER = 256 * 1024
_CONNECT_S = 10.0
_ANSWER_S = 20.0
_OK = range(200, 300)
_REDIRECTIONS = range(300, 400)
#: Too many requests, or too early: the service wants to be asked again.
_LATER = frozenset({408, 425, 429})
_DEFAULT_PORTS = {"http": 80, "https": 443}


def place_of(url: str) -> str:
    """Return whom a URL names, for people: its path and query may be secrets."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def post(url: str, body: bytes, headers: Mapping[str, str], *, ca_file: str = "") -> HttpAnswer:
    """Send a body to a URL and return the answer, if it is one of success.

    Raises NotificationUnreachableError and NotificationRefusedError; neither tells the path.
    """
    parts = urlsplit(url)
    tls = TlsClient(TlsOptions(ca_file=ca_file)) if parts.scheme == "https" else None
    peer = HttpPeer(
        parts.hostname or "",
        parts.port or _DEFAULT_PORTS[parts.scheme],
        tls,
        connect_timeout_s=_CONNECT_S,
        response_timeout_s=_ANSWER_S,
    )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = HttpRequest(
        "POST",
        target,
        {"User-Agent": "dcmvault", "Connection": "close", **headers},
        lambda: [body],
        len(body),
    )
    connection = HttpConnection(peer)
    try:
        connection.open()
        answer = connection.exchange(request, longest_answer=_LONGEST_ANSWER)
    except DestinationError as error:
        kind = (
            NotificationRefusedError
            if error.retry is Retry.OPERATOR
            else NotificationUnreachableError
        )
        raise kind(error.message, hint=error.hint) from None
    finally:
        connection.close()
    _require_success(answer.status, peer.name)
    return answer


def _require_success(status: int, name: str) -> None:
    if status in _OK:
        return
    if status in _REDIRECTIONS:
        raise NotificationRefusedError(
            f"{name} answers that the address is another one (HTTP {status})",
            hint="write the address that it redirects to; it is not followed by itself",
        )
    if status >= 500 or status in _LATER:
        raise NotificationUnreachableError(f"{name} cannot take it now (HTTP {status})")
    raise NotificationRefusedError(
        f"{name} refuses it (HTTP {status})",
        hint="check the address and its secret",
    )
