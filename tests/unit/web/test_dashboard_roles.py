"""Every route says who may use it, and it is so: all routes of the application x all roles."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from tests.unit.web.dashboard_world import HOST, TOKEN, Answer, Browser, Dashboard, dashboard_in

from dcmvault.model.account import Role
from dcmvault.web.guard import is_open_to_all
from dcmvault.web.roles import every_route, needed_role, undeclared

#: A stream is answered until its reader goes; the reader of these tests is gone already.
_SAFE = {"GET", "HEAD"}
_LEAVE = {"/logout", "/account/logout-everywhere"}


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with dashboard_in(tmp_path_factory.mktemp("home")) as opened:
        yield opened


@pytest.fixture(scope="module")
def browsers(dashboard: Dashboard) -> dict[Role | None, Browser]:
    found: dict[Role | None, Browser] = {role: dashboard.logged_in(role) for role in Role}
    return {**found, None: dashboard.browser()}


def application(app: object) -> FastAPI:
    """Return the application within its guards."""
    while not isinstance(app, FastAPI):
        app = app._inner  # type: ignore[attr-defined]
    return app


def _routes(dashboard: Dashboard) -> list[tuple[str, APIRoute]]:
    return [
        (method, route)
        for route in every_route(application(dashboard.app).routes)
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]


def _ask(browser: Browser, method: str, route: APIRoute, **headers: str) -> Answer:
    """Ask for a route with something in each of its places; for a way in there is no matter."""
    path = re.sub(r"\{[^}]+\}", "x", route.path)
    told = {
        "Content-Type": "application/json",
        "Sec-Fetch-Site": "same-origin",
        "X-CSRF-Token": browser.csrf,
        **headers,
    }
    return browser.ask(method, path, b"{}" if method not in _SAFE else b"", told)


def test_every_route_declares_its_role(dashboard: Dashboard) -> None:
    assert undeclared(application(dashboard.app).routes) == []


def test_a_route_without_a_role_is_found() -> None:
    app = FastAPI(openapi_url=None)

    router = APIRouter()

    @router.get("/forgotten")
    def forgotten() -> None: ...

    app.include_router(router)
    app.mount("/mounted", FastAPI(openapi_url=None))
    assert undeclared(app.routes) == ["/forgotten", "/mounted"]


def test_what_is_open_to_all_and_what_routes_say_is_the_same(dashboard: Dashboard) -> None:
    for _method, route in _routes(dashboard):
        assert is_open_to_all(route.path) == (needed_role(route) is None), route.path


def test_everybody_may_what_their_role_says_and_no_more(
    dashboard: Dashboard, browsers: dict[Role | None, Browser]
) -> None:
    """The matrix: whoever may not gets 401 or 403, whoever may gets neither."""
    wrong = []
    for method, route in _routes(dashboard):
        needed = needed_role(route)
        for role, browser in browsers.items():
            if route.path in _LEAVE and role is not None:
                continue  # tried in their own tests; here they would end the session
            status = _ask(browser, method, route).status
            if role is None:
                fits = (status != 401 or needed is None) if needed is None else status == 401
            elif needed is None or role.may(needed):
                fits = status not in {401, 403} or needed is None
            else:
                fits = status == 403
            if not fits:
                wrong.append((method, route.path, role, status))
    assert wrong == []


def test_without_its_proof_nothing_is_changed(
    dashboard: Dashboard, browsers: dict[Role | None, Browser]
) -> None:
    """CSRF: each unsafe route refuses what a foreign page can make a browser send."""
    administrator = browsers[Role.ADMINISTRATOR]
    attacks = (
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": browsers[Role.VIEWER].csrf},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none", "Origin": "https://evil.example"},
    )
    unsafe = [
        (method, route)
        for method, route in _routes(dashboard)
        if method not in _SAFE and needed_role(route) is not None
    ]
    assert unsafe
    for method, route in unsafe:
        for attack in attacks:
            assert _ask(administrator, method, route, **attack).status == 403, route.path
    assert administrator.get("/api/runs").status == 200


def test_who_holds_the_token_of_the_api_needs_no_proof(dashboard: Dashboard) -> None:
    """And a wrong token is not made good by a cookie."""
    browser = dashboard.logged_in(Role.VIEWER)
    body = json.dumps({"destination": "nowhere"}).encode()
    for token, status in ((TOKEN, 409), ("wrong", 401)):
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        assert browser.ask("POST", "/api/queue/pause", body, headers).status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": f"http://{HOST}"}, 401),
        ({"Origin": f"http://{HOST}".upper()}, 401),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 401),
        ({}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": f"http://{HOST}.evil.example"}, 403),
        ({"Origin": f"http://{HOST}", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_nobody_is_logged_in_by_a_foreign_page(
    dashboard: Dashboard, headers: dict[str, str], status: int
) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    answer = dashboard.browser("10.0.0.77").ask("POST", "/login", b"name=x&password=y", form)
    assert answer.status == status
    dashboard.clock.advance(3600)


def test_a_form_shows_the_proof_in_a_field(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.ADMINISTRATOR)
    assert browser.post("/logout", csrf="0" * 64).status == 403
    assert browser.post("/logout", csrf="").status == 403
    assert browser.post("/logout").status == 303
