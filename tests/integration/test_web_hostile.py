"""The API's port and peers that mean no good: none of them keeps others out."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from http.client import HTTPResponse
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.integration.daemon_world import GENEROUS_S, Events

from dcmvault.config.web_section import WebSection
from dcmvault.ports.events import Topic
from dcmvault.web import server
from dcmvault.web.api import build_api
from dcmvault.web.backstage import Backstage
from dcmvault.web.event_stream import EventStream

TOKEN = "open"


class World:
    """An API with nothing but events behind it."""

    def __init__(self) -> None:
        self.stream = EventStream()
        backstage = Backstage(
            cast(Any, SimpleNamespace(home=Path("nowhere"))),
            cast(Any, None),
            self.stream,
            lambda: ([], datetime(2026, 1, 31, tzinfo=UTC)),
            dict,
            cast(Any, None),
            cast(Any, None),
            cast(Any, None),
        )
        api = build_api(backstage, lets_in=lambda token: token == TOKEN, names=())
        self.port = server.ApiPort(api, WebSection(), 0)
        host, number = self.port.address.removeprefix("http://").split(":")
        self._place = (host, int(number))

    def connect(self) -> socket.socket:
        """Open a connection and say nothing."""
        return socket.create_connection(self._place, timeout=GENEROUS_S)

    def say(self, head: str) -> socket.socket:
        """Open a connection and say something."""
        connection = self.connect()
        connection.sendall(head.encode())
        return connection

    def listen(self) -> Events:
        """Follow the events as one should."""
        return Events(self.port.address, TOKEN)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.stream.close()
    assert made.port.stop(GENEROUS_S)


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GENEROUS_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_who_takes_no_events_is_dropped_and_others_are_not(world: World) -> None:
    head = f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    with closing(world.say(head)) as slow, closing(world.listen()) as quick:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        _until(lambda: world.stream.listeners == 2)
        heard = iter(quick)
        number = 0
        # More than the buffers of both ends hold, until it is too much.
        while world.stream.listeners == 2:
            number += 1
            world.stream.announce(Topic.RUN, {"number": number, "padding": "x" * 50_000})
            assert next(heard)[1]["number"] == number
        world.stream.announce(Topic.ALERT, {"last": True})
        assert next(heard) == ("alert", {"last": True})


@pytest.mark.parametrize("said", ["", "GET / HTTP/1.1\r\nHost: ", "POST /healthz HTTP/1.1\r\n"])
def test_those_who_say_nothing_more_keep_nobody_out(
    monkeypatch: pytest.MonkeyPatch, world: World, said: str
) -> None:
    monkeypatch.setattr(server, "_WAITING_LOOK_S", 0.05)
    with ExitStack() as stack:
        for _number in range(140):
            stack.enter_context(closing(world.say(said)))

        def is_answered() -> bool:
            try:
                with closing(world.say("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")) as one:
                    return b"200 OK" in one.recv(4096)
            except ConnectionError:
                return False

        _until(is_answered)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 2_000_000 + "\r\n\r\n", 400),
        ("rubbish\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n", 413),
        ("POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", 405),
        ("GET /api/runs HTTP/1.1\r\nHost: localhost\r\n\r\n", 401),
    ],
)
def test_rubbish_is_refused(world: World, sent: str, status: int) -> None:
    with closing(world.say(sent)) as connection, closing(HTTPResponse(connection)) as answer:
        answer.begin()
        assert answer.status == status
        if answer.getheader("Content-Type") == "application/json":
            assert json.loads(answer.read())["error"]["message"]


def test_a_stop_does_not_wait_for_those_who_take_nothing(world: World) -> None:
    head = f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    with closing(world.say(head)), closing(world.connect()):
        _until(lambda: world.stream.listeners == 1)
        for number in range(100):
            world.stream.announce(Topic.RUN, {"number": number, "padding": "x" * 50_000})
        world.stream.close()
        assert world.port.stop(GENEROUS_S)
