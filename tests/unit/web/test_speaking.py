"""In which language a request is answered."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from dcmvault import i18n
from dcmvault.web.speaking import Speaking


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/", {}, "en"),
        ("/", {"accept-language": "pt-BR,pt;q=0.9,en;q=0.8"}, "pt_BR"),
        ("/", {"accept-language": "de-DE,pt;q=0.5"}, "pt_BR"),
        ("/", {"accept-language": "de-DE"}, "en"),
        ("/", {"accept-language": "pt-BR", "cookie": "dcmvault_language=en"}, "en"),
        ("/", {"cookie": "dcmvault_language=../../klingon"}, "en"),
        ("/api/runs", {"accept-language": "pt-BR"}, "en"),
    ],
)
def test_the_language_is_the_one_chosen_then_the_one_preferred(
    path: str, headers: dict[str, str], expected: str
) -> None:
    heard = []

    async def inner(_scope: Scope, _receive: Receive, _send: Send) -> None:
        heard.append(i18n.language())

    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    async def nowhere(_message: Message) -> None:
        return None

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "path": path, "headers": raw}
    asyncio.run(Speaking(inner)(scope, nothing, nowhere))
    assert heard == [expected]
    assert i18n.language() == "en"
