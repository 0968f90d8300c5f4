"""The guard: who is let in, whom a request was meant for, how large it may be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dcmvault.web.guard import MAX_BODY, Guard

Headers = Sequence[tuple[str, str]]


async def _taker(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the whole body, then answers."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


async def _forgiving(scope: Scope, receive: Receive, send: Send) -> None:
    """Takes whatever ends the body for a mistake in it, as web frameworks do."""
    try:
        await _taker(scope, receive, send)
    except Exception:  # noqa: BLE001 - as they do
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b"a mistake"})


def _ask(
    headers: Headers,
    *,
    path: str = "/api/runs",
    body: Sequence[bytes] = (b"",),
    inner: ASGIApp = _taker,
) -> Message:
    """Return the start of the answer."""
    parts = [
        {"type": "http.request", "body": part, "more_body": number < len(body)}
        for number, part in enumerate(body, 1)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return parts.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }
    guard = Guard(inner, lets_in=lambda token: token == "right", names=["backup.example.org"])
    asyncio.run(guard(scope, receive, send))
    assert sent[0]["type"] == "http.response.start"
    return sent[0]


HOST = ("Host", "127.0.0.1:8765")
TOKEN = ("Authorization", "Bearer right")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost", 200),
        ("LOCALHOST.:80", 200),
        ("[::1]:8765", 200),
        ("192.168.1.7", 200),
        ("backup.example.org:443", 200),
        ("rebound.example", 421),
        ("127.0.0.1.rebound.example", 421),
        ("localhost:80@rebound.example", 421),
        ("", 421),
    ],
)
def test_a_name_of_somebody_elses_leads_nowhere(host: str, status: int) -> None:
    assert _ask([("Host", host), TOKEN])["status"] == status


def test_a_request_names_one_host() -> None:
    assert _ask([TOKEN])["status"] == 421
    assert _ask([HOST, HOST, TOKEN])["status"] == 421


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer right", 200),
        ("bearer  right ", 200),
        ("Bearer wrong", 401),
        ("Basic right", 401),
        ("right", 401),
        ("Bearer ", 401),
        ("", 401),
    ],
)
def test_only_the_token_lets_in(authorization: str, status: int) -> None:
    assert _ask([HOST, ("Authorization", authorization)])["status"] == status


def test_health_needs_no_token_but_the_right_name() -> None:
    assert _ask([HOST], path="/healthz")["status"] == 200
    assert _ask([("Host", "rebound.example")], path="/healthz")["status"] == 421
    assert _ask([HOST], path="/healthz/x")["status"] == 401


def test_a_large_body_is_refused_whether_or_not_it_is_declared() -> None:
    declared = [HOST, TOKEN, ("Content-Length", str(MAX_BODY + 1))]
    assert _ask(declared)["status"] == 413
    assert _ask([HOST, TOKEN], body=[b"x" * MAX_BODY, b"x"])["status"] == 413
    large = [b"x" * MAX_BODY, b"x"]
    assert _ask([HOST, TOKEN], body=large, inner=_forgiving)["status"] == 413
    assert _ask([HOST, TOKEN], body=[b"x" * MAX_BODY])["status"] == 200


def test_every_answer_keeps_browsers_from_guessing() -> None:
    for answer in (_ask([HOST, TOKEN]), _ask([HOST]), _ask([])):
        names = dict(answer["headers"])
        assert names[b"x-content-type-options"] == b"nosniff"
        assert names[b"cache-control"] == b"no-store"
        assert b"default-src 'none'" in names[b"content-security-policy"]
