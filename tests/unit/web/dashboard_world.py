"""The dashboard of a real state folder, asked without a network, and browsers that ask it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlencode, urlsplit

from starlette.types import ASGIApp, Message

from dcmvault.app.live import LiveWatch
from dcmvault.app.one_time_codes import code_of, new_secret, step_at
from dcmvault.app.overview import OverviewWatch
from dcmvault.app.passwords import PasswordCost, Passwords
from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.config.load import load_settings
from dcmvault.model.account import Role
from dcmvault.testing.clock import FakeClock
from dcmvault.web.api import build_api
from dcmvault.web.background import Background
from dcmvault.web.backstage import Backstage
from dcmvault.web.doors import Doors, doors_of
from dcmvault.web.event_stream import EventStream

TOKEN = "dcmvault_right"
PASSWORD = "correct horse battery"
HOST = "127.0.0.1:8765"
_CSRF = re.compile(r'name="csrf" value="([0-9a-f]+)"')


@dataclass(slots=True)
class Answer:
    """What was answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str:
        """Return a header; empty for none."""
        return next((value for key, value in self.headers if key == name), "")

    @property
    def cookies(self) -> list[str]:
        """The cookies that are set, as they are written."""
        return [value for key, value in self.headers if key == "set-cookie"]


class NothingMeasured:
    """Metrics of nothing."""

    def render(self) -> str:
        return ""


@dataclass(slots=True)
class Dashboard:
    """A dashboard that nobody has been to."""

    workplace: Workplace
    clock: FakeClock
    doors: Doors
    app: ASGIApp
    stream: EventStream
    background: Background

    def add(self, name: str, role: Role, password: str = PASSWORD) -> None:
        """Make an account."""
        self.doors.accounts.add(name, password, role)

    def add_totp(self, name: str) -> bytes:
        """Ask an account for one-time codes; return its secret."""
        secret = new_secret()
        self.doors.accounts.set_totp(name, secret, ["aaaa-bbbb-cccc-dddd"])
        return secret

    def code(self, secret: bytes) -> str:
        """Return the code that an authenticator shows now."""
        return code_of(secret, step_at(self.clock.now()))

    def journal(self) -> list[dict[str, Any]]:
        """Return the lines of the audit journal."""
        files = sorted((self.workplace.home / "audit").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def browser(self, address: str = "127.0.0.1") -> Browser:
        """Open a browser without cookies."""
        return Browser(self, address)

    def logged_in(self, role: Role, address: str = "127.0.0.1") -> Browser:
        """Open a browser and log in with an account of this role, made where there is none."""
        if all(one.name != role.value for one in self.doors.accounts.accounts()):
            self.add(role.value, role)
        browser = self.browser(address)
        assert browser.log_in(role.value).status == 303
        return browser


@dataclass(slots=True)
class Browser:
    """Sends what browsers send: cookies, and where a form comes from."""

    dashboard: Dashboard
    address: str
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def csrf(self) -> str:
        """The token for forms of the session."""
        opened = self.dashboard.doors.sessions.open(self.cookies.get("dcmvault", ""))
        return opened.csrf if opened else ""

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for a page."""
        return self.ask("GET", path, headers={"Accept": "text/html", **(headers or {})})

    def post(
        self, path: str, fields: Mapping[str, str] | None = None, *, csrf: str | None = None
    ) -> Answer:
        """Send a form as a page of ours does."""
        shown = self.csrf if csrf is None else csrf
        body = urlencode({"csrf": shown, **(fields or {})}).encode()
        headers = {
            "Accept": "text/html",
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": f"http://{HOST}",
            "Sec-Fetch-Site": "same-origin",
        }
        return self.ask("POST", path, body, headers)

    def log_in(self, name: str, password: str = PASSWORD, **fields: str) -> Answer:
        """Send the login form."""
        return self.post("/login", {"name": name, "password": password, **fields})

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send anything, with the cookies; keep those that come."""
        sent = {"Host": HOST, **(headers or {})}
        if self.cookies and "Cookie" not in sent:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = asyncio.run(self._asked(method, path, body, sent))
        for line in answer.cookies:
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                if morsel["max-age"] == "0":
                    del self.cookies[name]
        return answer

    async def _asked(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        parts = urlsplit(path)
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            # Whoever asks for more hears that the browser went away.
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            # As uvicorn says it: a page that is streamed is not ended by what `receive` tells.
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "method": method,
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "client": (self.address, 40000),
            "server": ("127.0.0.1", 8765),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        await self.dashboard.app(scope, receive, send)
        start = sent[0]
        told = [(name.decode(), value.decode()) for name, value in start["headers"]]
        return Answer(start["status"], told, b"".join(one.get("body", b"") for one in sent[1:]))


@contextmanager
def dashboard_in(home: Path) -> Iterator[Dashboard]:
    """Open a state folder and make its dashboard; passwords cost next to nothing."""
    settings = load_settings(home / "config.toml")
    with open_workplace(home, settings) as workplace:
        clock = FakeClock()
        workplace.clock = clock
        passwords = Passwords(PasswordCost(memory_kib=32, passes=1, lanes=1))
        doors = doors_of(workplace, passwords)
        stream = EventStream()
        backstage = Backstage(
            workplace,
            cast(Any, NothingMeasured()),
            stream,
            lambda: ([], clock.now()),
            lambda: {"version": "test"},
            doors,
            OverviewWatch(workplace, lambda: None).look,
            LiveWatch(workplace).look,
        )
        app = build_api(backstage, lets_in=lambda token: token == TOKEN, names=())
        try:
            yield Dashboard(workplace, clock, doors, app, stream, backstage.background)
        finally:
            stream.close()
            assert backstage.background.close(60.0)
