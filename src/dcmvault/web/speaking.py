"""Each request for a page is answered in its language: chosen by cookie, else as browsers ask."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from dcmvault.i18n import normalise_language, speaking

LANGUAGE_COOKIE = "dcmvault_language"
#: Characters of a header that are looked at.
_LONGEST = 200
_API = "/api/"


class Speaking:
    """Lets what is inside speak a request's language (ASGI middleware); the API's stays ours."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI)."""
        if scope["type"] != "http" or scope["path"].startswith(_API):
            await self._inner(scope, receive, send)
            return
        with speaking(_asked(Headers(scope=scope))):
            await self._inner(scope, receive, send)


def _asked(headers: Headers) -> str:
    """Return the language asked for; nothing where none of ours is."""
    chosen = cookie_parser(headers.get("cookie", "")).get(LANGUAGE_COOKIE, "")
    if language := normalise_language(chosen[:_LONGEST]):
        return language
    preferred = headers.get("accept-language", "")[:_LONGEST].split(",")
    for one in preferred:
        if language := normalise_language(one.split(";")[0].strip()):
            return language
    return ""
