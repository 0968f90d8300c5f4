"""What every request passes first: whom it was meant for, how large it is, and its token.

The Host is checked against DNS rebinding: a page of somebody else's, whose name was made to lead
here, names itself there. Addresses cannot be rebound, so they are always accepted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What needs no token: it says that the daemon answers, and nothing else.
OPEN_PATHS = frozenset({"/healthz"})
#: Style and scripts of pages, also of those that somebody sees who is not let in yet.
OPEN_FOLDER = "/assets/"
#: Bytes of a request's body, at most: bodies name a destination, a run or a job.
MAX_BODY = 65_536
_BEARER = "bearer "
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::[0-9]{0,5})?")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _TooLargeError(Exception):
    """More came than may."""


class Guard:
    """Refuses what must not come in (ASGI middleware); answers get the headers of safety."""

    def __init__(
        self, inner: ASGIApp, *, lets_in: Callable[[str], bool], names: Collection[str]
    ) -> None:
        self._inner = inner
        self._lets_in = lets_in
        self._names = frozenset(names) | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it (ASGI)."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._inner(scope, receive, send)
            return
        headers = Headers(scope=scope)
        safe_send = _with_headers(send)
        if not self._is_meant_for_us(headers):
            hint = "name this machine by its address, or add its name to [web] names"
            await _refuse(safe_send, 421, "wrong_host", "this daemon has another name", hint)
        elif not _is_open(scope["path"]) and not self._lets_in(_token(headers)):
            hint = "send the header Authorization: Bearer TOKEN"
            await _refuse(safe_send, 401, "token", "the token is missing or wrong", hint)
        elif _declared(headers) > MAX_BODY:
            await _refuse_size(safe_send)
        else:
            await self._pass(scope, receive, safe_send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        body = _LimitedBody(receive)

        async def watching_send(message: Message) -> None:
            nonlocal begun
            # Who reads a body may take our error for one of the body, and answer that.
            if body.is_too_large and not begun:
                raise _TooLargeError
            begun = True
            await send(message)

        try:
            await self._inner(scope, body.receive, watching_send)
        except _TooLargeError:
            if not begun:
                await _refuse_size(send)

    def _is_meant_for_us(self, headers: Headers) -> bool:
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            return False
        name = _without_port(hosts[0].strip().lower()).rstrip(".")
        return name in self._names or _is_address(name)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def _without_port(host: str) -> str:
    """Return the name or address; nothing for what is no host (RFC 9110 section 7.2)."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]) if found else ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _token(headers: Headers) -> str:
    value = headers.get("authorization", "")
    return value[len(_BEARER) :].strip() if value.lower().startswith(_BEARER) else ""


def _declared(headers: Headers) -> int:
    """Return how many bytes a body is said to have; the server refuses what is no number."""
    text = headers.get("content-length", "")
    return int(text) if text.isdecimal() and len(text) < 20 else 0


class _LimitedBody:
    """A body of which no more is taken than may come."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._taken = 0

    @property
    def is_too_large(self) -> bool:
        return self._taken > MAX_BODY

    async def receive(self) -> Message:
        message = await self._receive()
        self._taken += len(message.get("body", b""))
        if self.is_too_large:
            raise _TooLargeError
        return message


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                # Pages have a policy of their own, and assets are kept.
                headers.setdefault(name, value)
        await send(message)

    return sent


async def _refuse_size(send: Send) -> None:
    hint = f"a body has at most {MAX_BODY} bytes"
    await _refuse(send, 413, "too_large", "the request is too large", hint)


async def _refuse(send: Send, status: int, code: str, message: str, hint: str) -> None:
    body = json.dumps({"error": {"code": code, "message": message, "hint": hint}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="dcmvault"'))
    else:
        # The rest of a body is not read.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
