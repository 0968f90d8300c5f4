"""What every request passes first: whom it was meant for, how large it is, and who sends it.

The Host is checked against DNS rebinding: a page of somebody else's, whose name was made to lead
here, names itself there. Addresses cannot be rebound, so they are always accepted.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dcmvault.errors import DcmvaultError
from dcmvault.model.account import Role
from dcmvault.web.doors import Doors, address_of
from dcmvault.web.forms import FORM_TYPE, fields_of
from dcmvault.web.origin import comes_from_us
from dcmvault.web.visitors import TOKEN_HOLDER, Visitor

#: What needs no login: that the daemon answers, the login itself, and what its page is made of.
_HEALTH = "/healthz"
_OPEN_PATHS = frozenset(
    {_HEALTH, "/login", "/login/code", "/login/oidc", "/login/oidc/back", "/appearance"}
)
_OPEN_FOLDERS = ("/assets/", "/welcome/")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Where programs ask, not people: they get a status, not the login page.
_FOR_PROGRAMS = ("/api/", "/metrics", "/healthz")
#: Bytes of a request's body, at most: bodies name a destination, a run or a job.
MAX_BODY = 65_536
_BEARER = "bearer "
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::[0-9]{0,5})?")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # Browsers name the origin of a form only with a policy that lets them.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class _TooLargeError(Exception):
    """More came than may."""


class Guard:
    """Refuses what must not come in (ASGI middleware); answers get the headers of safety."""

    def __init__(
        self,
        inner: ASGIApp,
        *,
        lets_in: Callable[[str], bool],
        names: Collection[str],
        doors: Doors | None = None,
    ) -> None:
        self._inner = inner
        self._lets_in = lets_in
        self._doors = doors
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
        elif _declared(headers) > MAX_BODY:
            await _refuse_size(safe_send)
        else:
            await self._receive(scope, headers, _LimitedBody(receive), safe_send)

    async def _receive(
        self, scope: Scope, headers: Headers, body: _LimitedBody, send: Send
    ) -> None:
        """Let in who may come in, and who asks for what is open to all."""
        try:
            visitor = await self._visitor(scope, headers)
        except DcmvaultError as error:
            await _refuse(send, 503, error.code, error.message, error.hint)
            return
        is_open = is_open_to_all(scope["path"])
        if visitor is None and not is_open:
            await _refuse_stranger(scope, headers, send)
            return
        try:
            is_ours = await _is_ours(scope, headers, body, visitor, is_open=is_open)
        except _TooLargeError:
            await _refuse_size(send)
            return
        if not is_ours:
            hint = "go back to the page, load it again, and press its button there"
            await _refuse(send, 403, "csrf", "the request does not come from a page of ours", hint)
            return
        state: dict[str, object] = {"visitor": visitor}
        if visitor is not None and visitor.opened is not None:
            state |= {"csrf": visitor.csrf, "person": visitor.name}
        scope.setdefault("state", {}).update(state)
        await self._pass(scope, body, send)

    async def _visitor(self, scope: Scope, headers: Headers) -> Visitor | None:
        """Find out who comes: with the token of the API, or with the cookie of a session."""
        if "authorization" in headers:
            if self._lets_in(_token(headers)):
                return Visitor(TOKEN_HOLDER, Role.ADMINISTRATOR, address_of(scope))
            return None
        if self._doors is None or not self._doors.token(headers):
            return None
        return await run_in_threadpool(self._doors.visitor, headers, scope)

    async def _pass(self, scope: Scope, body: _LimitedBody, send: Send) -> None:
        begun = False

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


def is_open_to_all(path: str) -> bool:
    """Say whether a path can be asked for without a login."""
    return path in _OPEN_PATHS or path.startswith(_OPEN_FOLDERS)


async def _is_ours(
    scope: Scope, headers: Headers, body: _LimitedBody, visitor: Visitor | None, *, is_open: bool
) -> bool:
    """Say whether a request may change something: a browser sends cookies with anybody's.

    So it comes from a page of ours and shows the session's second token, in a header or in the
    field `csrf` of a form. Who shows the token of the API sent it on purpose.
    """
    if scope["method"] in _SAFE_METHODS or (visitor is not None and visitor.opened is None):
        return True
    if scope["path"] == _HEALTH:
        return True  # there is nothing to change, and nobody to be
    if not comes_from_us(headers):
        return False
    if is_open or visitor is None:
        return True
    shown = headers.get("x-csrf-token", "")
    if not shown and headers.get("content-type", "").startswith(FORM_TYPE):
        with suppress(ValueError):
            shown = fields_of(await body.kept()).get("csrf", "")
    return hmac.compare_digest(shown.encode("utf-8", "replace"), visitor.csrf.encode())


async def _refuse_stranger(scope: Scope, headers: Headers, send: Send) -> None:
    path = scope["path"]
    is_for_people = "text/html" in headers.get("accept", "") and "authorization" not in headers
    if not is_for_people or path.startswith(_FOR_PROGRAMS):
        hint = "send the header Authorization: Bearer TOKEN"
        await _refuse(send, 401, "token", "the token is missing or wrong", hint)
        return
    here = path
    if query := scope.get("query_string", b""):
        here += "?" + query.decode("latin-1")
    target = f"/login?next={quote(here)}" if scope["method"] in _SAFE_METHODS else "/login"
    location = [(b"location", target.encode()), (b"content-length", b"0")]
    if headers.get("hx-request") == "true":
        # A fragment asked for it: the whole page goes to the login.
        location = [(b"hx-redirect", b"/login"), (b"content-length", b"0")]
    status = 303 if location[0][0] == b"location" else 200
    await send({"type": "http.response.start", "status": status, "headers": location})
    await send({"type": "http.response.body", "body": b""})


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
        self._kept: list[Message] = []

    @property
    def is_too_large(self) -> bool:
        return self._taken > MAX_BODY

    async def kept(self) -> bytes:
        """Take the whole body, and give it again to whoever receives it."""
        messages = [await self.receive()]
        while messages[-1].get("more_body", False):
            messages.append(await self.receive())
        self._kept = messages
        return b"".join(message.get("body", b"") for message in messages)

    async def receive(self) -> Message:
        """Return the next part; _TooLargeError once too much has come (ASGI)."""
        if self._kept:
            return self._kept.pop(0)
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
                # Pages have a policy of their own, and what they are made of is kept.
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
