"""Wild forms and addresses for every route of the dashboard, by everybody: no defect, no change.

Words to try come from the pages' own modules, so that what is asked gets past the first check.
"""

from __future__ import annotations

import ast
import inspect
import random
import re
import socket
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import quote, urlencode, urlsplit

import pytest
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.security.fuzz_world import application, fuzz_dashboard
from tests.unit.web.dashboard_world import HOST, TOKEN, Answer, Browser, Dashboard

from dcmvault.model.account import Role
from dcmvault.web import place_forms, roles
from dcmvault.web.pages import places_offered, restore_form, study_asking

#: Read by several pages.
_SHARED = (place_forms, restore_form, places_offered, study_asking)
_HOSTILE = (
    *("", " ", "\0", "a\0b", "\r\n", "a\r\nSet-Cookie: x=1", "\x1b[2J", "\u202e", "\ufffd"),
    *(
        "..",
        "../..",
        "..\\..",
        "%2e%2e%2f",
        "=1+1",
        "@x",
        "<xss-mark>",
        "'\"><b>",
        "{{7*7}}",
        "${x}",
    ),
    *("0", "-1", "9" * 20, "9" * 5000, "1e999", "NaN", "٣", "²", "1" * 64, "x" * 3000, "🩻" * 300),
    *("[]", "{}", "[[]]", '[{"path":["x"],"value":1}]', "[" * 3000, "null", "true", "﻿1"),
    *(
        "dicom://A@127.0.0.1:1",
        "dicom://A@127.0.0.1:99999999",
        "dicom://@:",
        "dicom://[::1",
        "http://",
    ),
    *(
        "dicomweb+http://127.0.0.1:1/x",
        "orthanc+http://127.0.0.1:1",
        "vault:",
        "vault:s3://",
        "horos:",
    ),
    *(
        "vault:copies",
        "sftp://",
        "vault:sftp://x",
        "vault:az://",
        "listener:",
        "file:x",
        "env:X",
        "tar:x",
    ),
    *(
        "2026-01-01",
        "9999-12-31",
        "0000-00-00",
        "99999999999",
        "-1d",
        "1w",
        "today",
        "2026-01-01..x",
    ),
    *("latest", "copies", "kept", "workstation", "nightly", "complete", "proven", "1.2.3"),
)
_KNOWN = ("nightly", "copies", "kept", "latest", "backup", "verify", "csv", "json", "x", "plans")


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """One in a folder of its own, from where nothing leads to another machine."""
    folder = tmp_path_factory.mktemp("forms")
    with pytest.MonkeyPatch.context() as patch, fuzz_dashboard(folder) as opened:
        (folder / "here").mkdir()
        patch.chdir(folder / "here")
        patch.setenv("HOME", str(folder / "here"))
        patch.setattr(socket, "getaddrinfo", _on_loopback)
        yield opened


_getaddrinfo = socket.getaddrinfo
#: Hosts that were asked for since a test began to look.
_ASKED_FOR: list[str] = []


def _on_loopback(host: str, *others: object, **more: object) -> object:
    _ASKED_FOR.append(host)
    if host not in {"127.0.0.1", "::1"}:
        raise socket.gaierror(socket.EAI_NONAME, "no such host here")
    return _getaddrinfo(host, *others, **more)  # type: ignore[arg-type]


def _routes(dashboard: Dashboard) -> list[tuple[str, APIRoute]]:
    """List what is not in the OpenAPI document; a stream of events is no form."""
    found = []
    for route in roles.every_route(application(dashboard.app).routes):
        assert isinstance(route, APIRoute)
        if not route.include_in_schema:
            found += [(method, route) for method in sorted(route.methods or ())]
    return found


def _words(*modules: ModuleType) -> list[str]:
    """List the words of modules, none of which leads to a place on the machine's disk."""
    found = set()
    for module in modules:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return sorted(one for one in found if re.fullmatch(r"[a-z][a-z0-9_.:-]{0,30}", one))


def _values(words: list[str]) -> st.SearchStrategy[str]:
    drawn = st.sampled_from(words) | st.sampled_from(_HOSTILE) | st.text(max_size=60)
    # Tests write nowhere but below their folder.
    return drawn.filter(
        lambda one: (not one.strip().startswith("/") and ":/" not in one) or "127." in one
    )


@st.composite
def _asking(draw: st.DrawFn, routes: list[tuple[str, APIRoute]]) -> tuple[str, str, dict[str, str]]:
    """Make up a request: its method, its address, and the fields of its form."""
    method, route = draw(st.sampled_from(routes))
    module = inspect.getmodule(route.endpoint)
    assert module is not None
    words = [*_words(module), *_words(*_SHARED)] if module not in _SHARED else _words(*_SHARED)
    values = _values(words)
    names = st.sampled_from(words) | st.text(max_size=10)
    path = re.sub(
        r"\{[^}]+\}",
        lambda _place: quote(draw(st.sampled_from(_KNOWN) | values), safe="") or "x",
        route.path,
    )
    query = draw(st.dictionaries(names, values, max_size=4))
    address = f"{path}?{urlencode(query)}" if query else path
    fields = draw(st.dictionaries(names, values, max_size=8)) if method == "POST" else {}
    return method, address, fields


def _looks_right(answer: Answer) -> None:
    """Check what holds for every answer."""
    assert answer.status < 500, (answer.status, answer.text[-500:])
    for name, value in answer.headers:
        assert not re.search(r"[\r\n\0]", value), (name, value)
    for name in ("location", "hx-redirect"):
        if value := answer.header(name):
            assert value.startswith("/"), value
            assert not value.startswith(("//", "/\\")), value
            assert not urlsplit(value).netloc
    if answer.body and answer.status != 303:
        assert answer.header("content-type"), answer.status
    if answer.header("content-type").startswith("text/html"):
        policy = answer.header("content-security-policy")
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "<xss-mark>" not in answer.text
    assert answer.header("x-content-type-options") == "nosniff"


def _send(
    browser: Browser, method: str, address: str, fields: dict[str, str], csrf: str, token: str = ""
) -> Answer:
    headers = {"Accept": "text/html", "Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if method == "GET":
        return browser.ask("GET", address, headers=headers)
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    body = urlencode({**fields, "csrf": csrf}, errors="replace").encode()
    return browser.ask(method, address, body, headers)


def _let_in(dashboard: Dashboard, browser: Browser, role: Role) -> None:
    """Let a browser in again, whatever its last request ended or locked."""
    if not browser.csrf:
        if all(one.name != role.value for one in dashboard.doors.accounts.accounts()):
            dashboard.add(role.value, role)
        browser.cookies["dcmvault"] = dashboard.doors.sessions.begin(role.value, "127.0.0.1")


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        deadline=None,
        database=None,
    )


def _campaign(dashboard: Dashboard, who: str, examples: int) -> None:
    """Ask for anything; who is no administrator has no host asked for (SSRF)."""
    _ASKED_FOR.clear()
    browser = dashboard.browser()
    role = Role(who) if who in set(Role) else None

    @_settings(examples)
    @given(asking=_asking(_routes(dashboard)))
    def asked(asking: tuple[str, str, dict[str, str]]) -> None:
        method, address, fields = asking
        if role is not None:
            _let_in(dashboard, browser, role)
        token = TOKEN if who == "token" else ""
        _looks_right(_send(browser, method, address, fields, browser.csrf, token))

    asked()
    # What is configured lies on this machine's disk.
    assert who in {"administrator", "token"} or _ASKED_FOR == []


_WHO = ("nobody", "viewer", "operator", "administrator", "token")


#: Whoever may ask for any host comes last: what they ask for goes on in the background.
@pytest.mark.parametrize("who", _WHO)
def test_no_form_and_no_address_finds_a_defect(dashboard: Dashboard, who: str) -> None:
    _campaign(dashboard, who, 250 if who == "administrator" else 80)


@pytest.mark.nightly
@pytest.mark.parametrize("who", _WHO)
def test_no_form_and_no_address_finds_a_defect_for_long(dashboard: Dashboard, who: str) -> None:
    _campaign(dashboard, who, 10_000 if who == "administrator" else 3_000)


class _Page(HTMLParser):
    """Gathers links of ours, and forms with what they send as they stand."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.forms: list[tuple[str, str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        if tag == "a" and told.get("href", "").startswith("/"):
            self.links.append(told["href"].partition("#")[0])
        elif tag == "form":
            self.forms.append((told.get("method", "get").upper(), told.get("action", ""), {}))
        elif tag in {"input", "button", "select", "textarea"} and self.forms and "name" in told:
            self.forms[-1][2].setdefault(told["name"], told.get("value", ""))


def _wander(dashboard: Dashboard, role: Role, steps: int, seed: int) -> None:
    """Follow links and send forms as pages show them, but for fields that are made worse."""
    chance, browser = random.Random(seed), dashboard.browser()
    links, forms = ["/"], list[tuple[str, str, dict[str, str]]]()
    words = [*_HOSTILE, *_words(*_SHARED)]
    for step in range(steps):
        _let_in(dashboard, browser, role)
        if forms and chance.random() < 0.7:
            method, address, fields = chance.choice(forms)
            fields = dict(fields)
            for name in chance.sample(sorted(fields), min(len(fields), chance.randrange(3))):
                fields[name] = chance.choice(words)
            if method == "GET":
                address = f"{address}?{urlencode(fields, errors='replace')}"
        else:
            method, address, fields = "GET", chance.choice(links), {}
        answer = _send(browser, method, address, fields, browser.csrf)
        try:
            _looks_right(answer)
        except AssertionError as error:
            raise AssertionError((seed, step, method, address, fields)) from error
        if where := answer.header("location"):
            links.append(where)
        if answer.header("content-type").startswith("text/html"):
            page = _Page()
            page.feed(answer.text)
            links += page.links
            forms += [one for one in page.forms if one[1].startswith("/")]
        # What was seen last is looked at most: forms are answered by forms.
        links, forms = list(dict.fromkeys(links))[-400:], forms[-60:]


_SEEDS = [1, 2, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(3, 13))]


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMINISTRATOR])
@pytest.mark.parametrize("seed", _SEEDS)
def test_who_wanders_through_the_pages_finds_no_defect(
    dashboard: Dashboard, role: Role, seed: int
) -> None:
    """The forms that pages show, filled in a little wrong, over and over: states follow states."""
    _wander(dashboard, role, 150 if seed < 3 else 3_000, seed)


def _state_of(home: Path) -> dict[str, str]:
    """Return what every file of a state folder holds, but for what readers of it keep."""
    return {
        str(path.relative_to(home)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", ".opening"))
    }


@pytest.mark.parametrize("examples", [120, pytest.param(5_000, marks=pytest.mark.nightly)])
def test_nothing_is_changed_without_the_proof(dashboard: Dashboard, examples: int) -> None:
    """CSRF: whatever a form says, and whosever proof it shows."""
    browser = dashboard.browser()
    other = dashboard.browser()
    dashboard.background.close(60.0)
    _let_in(dashboard, other, Role.OPERATOR)
    _let_in(dashboard, browser, Role.ADMINISTRATOR)
    before = _state_of(dashboard.workplace.home)
    posts = [(method, route) for method, route in _routes(dashboard) if method == "POST"]
    guarded = [one for one in posts if roles.needed_role(one[1]) is not None]

    @_settings(examples)
    @given(
        asking=_asking(guarded),
        shown=st.sampled_from(["", "0" * 64, other.csrf, browser.csrf[:-1]]) | st.text(max_size=70),
    )
    def asked(asking: tuple[str, str, dict[str, str]], shown: str) -> None:
        method, address, fields = asking
        answer = _send(browser, method, address, fields, shown)
        assert answer.status == 403, address

    asked()
    assert _state_of(dashboard.workplace.home) == before
    assert browser.csrf
