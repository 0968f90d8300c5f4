"""What administrators do with accounts, and what nobody may do with the last administrator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from tests.unit.web.dashboard_world import PASSWORD, Answer, Browser, Dashboard, dashboard_in

from dcmvault.model.account import Account, Role
from dcmvault.web.origin import address_asked

PROOF = {"current": PASSWORD}


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    with dashboard_in(tmp_path) as opened:
        yield opened


@pytest.fixture
def browser(dashboard: Dashboard) -> Browser:
    return dashboard.logged_in(Role.ADMINISTRATOR, "10.0.0.7")


def _account(dashboard: Dashboard, name: str) -> Account:
    return dashboard.doors.accounts.known(name).account


def _told(dashboard: Dashboard) -> list[tuple[str, dict[str, str]]]:
    """Return who changed accounts, and how, as the audit journal tells it."""
    return [
        (line["actor"]["name"], line["details"])
        for line in dashboard.journal()
        if line["event"] == "accounts.changed"
    ]


def _link(answer: Answer) -> str:
    found = re.search(r"<code>http://[^/]+(/welcome/[\w-]+)</code>", answer.text)
    assert found is not None
    return found[1]


def test_who_is_added_chooses_a_password_by_a_link(dashboard: Dashboard, browser: Browser) -> None:
    asked = {"name": "Ana", "role": "operator"}
    assert browser.post("/accounts/add", {**asked, "current": "wrong"}).status == 422
    assert browser.post("/accounts/add", {**asked, **PROOF, "role": "owner"}).status == 422
    wrong = browser.post("/accounts/add", {**asked, **PROOF, "name": "<b>a"})
    assert wrong.status == 422
    assert "<b>a" not in wrong.text
    assert _told(dashboard) == []
    answer = browser.post("/accounts/add", {**asked, **PROOF})
    assert answer.status == 200
    assert "no-store" in answer.header("cache-control")
    assert _account(dashboard, "ana").role is Role.OPERATOR
    assert _told(dashboard) == [
        ("administrator", {"how": "add", "account": "ana", "role": "operator"})
    ]
    assert browser.post("/accounts/add", {**asked, **PROOF}).status == 422, "the name is taken"
    person = dashboard.browser("10.0.0.9")
    chosen = {"password": "another horse battery", "again": "another horse battery"}
    assert person.post(_link(answer), chosen).status == 303
    assert person.get("/api/runs").status == 200
    assert person.get("/accounts").status == 403
    assert "ana" in browser.get("/accounts").text


def test_a_link_for_who_forgot_the_password(dashboard: Dashboard, browser: Browser) -> None:
    dashboard.add("viewer", Role.VIEWER)
    link = _link(browser.post("/accounts/viewer/link", PROOF))
    assert dashboard.browser("10.0.0.9").get(link).status == 200
    assert _told(dashboard) == [("administrator", {"how": "link", "account": "viewer"})]


@pytest.mark.parametrize(
    ("deed", "fields"),
    [
        ("role", {"role": "operator"}),
        ("codes", {}),
        ("sessions", {}),
        ("disable", {}),
        ("remove", {}),
    ],
)
def test_each_deed_is_confirmed_done_and_told(
    dashboard: Dashboard, browser: Browser, deed: str, fields: dict[str, str]
) -> None:
    other = dashboard.logged_in(Role.VIEWER)
    secret = dashboard.add_totp("viewer") if deed == "codes" else b""
    path = f"/accounts/viewer/{deed}"
    assert path in browser.get("/accounts/viewer").text
    assert f'action="{path}"' in browser.get(path).text
    assert other.get("/account").status == 200, "looking changes nothing"
    assert browser.post(path, {**fields, "current": "wrong"}).status == 422
    assert other.get("/account").status == 200
    assert _told(dashboard) == []
    assert browser.post(path, {**fields, **PROOF}).status == 200
    assert other.get("/api/runs").status == 401, "its sessions end"
    assert _told(dashboard) == [("administrator", {"how": deed, "account": "viewer", **fields})]
    login = dashboard.browser().log_in("viewer")
    if deed in {"disable", "remove"}:
        assert login.status == 401
    else:
        assert login.header("location") == "/", secret
    if deed == "role":
        assert _account(dashboard, "viewer").role is Role.OPERATOR
    if deed == "disable":
        assert browser.post("/accounts/viewer/enable", PROOF).status == 200
        assert dashboard.browser().log_in("viewer").status == 303
    if deed == "remove":
        assert browser.get("/accounts/viewer").status == 404


def test_the_last_administrator_stays_one(dashboard: Dashboard, browser: Browser) -> None:
    dashboard.add("gone", Role.ADMINISTRATOR)
    assert browser.post("/accounts/gone/disable", PROOF).status == 200
    before = _told(dashboard)
    for deed, fields in (("role", {"role": "viewer"}), ("disable", {}), ("remove", {})):
        answer = browser.post(f"/accounts/administrator/{deed}", {**fields, **PROOF})
        assert answer.status == 422
        assert "This is the last administrator." in answer.text
    assert _told(dashboard) == before
    assert browser.get("/accounts").status == 200
    browser.post("/accounts/gone/enable", PROOF)
    answer = browser.post("/accounts/administrator/role", {"role": "viewer", **PROOF})
    assert (answer.status, answer.header("location")) == (303, "/login"), "their session ended"
    assert "dcmvault" not in browser.cookies


def test_only_administrators_are_led_there(dashboard: Dashboard, browser: Browser) -> None:
    assert 'href="/accounts"' in browser.get("/account").text
    for role in (Role.VIEWER, Role.OPERATOR):
        other = dashboard.logged_in(role)
        text = other.get("/account").text
        assert 'href="/accounts"' not in text
        assert 'href="/settings"' not in text
        assert 'href="/runs"' in text
        for path in ("/accounts", "/accounts/administrator", "/accounts/administrator/remove"):
            assert other.get(path).status == 403
        assert other.post("/accounts/viewer/role", {"role": "administrator"}).status == 403


def test_what_there_is_not_is_not_found(dashboard: Dashboard, browser: Browser) -> None:
    for path in ("/accounts/nobody", "/accounts/nobody/remove", "/accounts/administrator/crown"):
        assert browser.get(path).status == 404
    assert browser.post("/accounts/nobody/remove", PROOF).status == 404
    assert browser.post("/accounts/administrator/crown", PROOF).status == 404
    assert browser.post("/accounts/administrator/remove", PROOF, csrf="").status == 403
    assert _account(dashboard, "administrator").role is Role.ADMINISTRATOR


def test_the_page_speaks_portuguese(browser: Browser) -> None:
    text = browser.get("/accounts", {"Accept-Language": "pt-BR"}).text
    assert "Contas" in text
    assert "None" not in text


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"host": "127.0.0.1:41234"}, "http://127.0.0.1:41234"),
        ({"host": "pacs.example", "origin": "https://pacs.example"}, "https://pacs.example"),
        ({"host": "pacs.example", "origin": "https://other.example"}, "http://pacs.example"),
        ({"host": "localhost:8765", "origin": "null"}, "http://localhost:8765"),
    ],
)
def test_a_link_names_where_the_administrator_is(headers: dict[str, str], address: str) -> None:
    """Not where the configuration says: the port may be another, and a proxy may stand before."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "scheme": "http", "method": "POST", "path": "/", "headers": raw}
    assert address_asked(Request(scope)) == address
