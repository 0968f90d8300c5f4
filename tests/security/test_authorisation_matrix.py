"""Who may what: a table that people wrote, held against every route that the application has.

A route that is in no list here fails: whoever adds one says for whom it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest
from fastapi.routing import APIRoute
from tests.security.fuzz_world import application
from tests.unit.web.dashboard_world import HOST, TOKEN, Answer, Browser, Dashboard, dashboard_in

from dcmvault.model.account import Role
from dcmvault.web.asset_files import assets
from dcmvault.web.roles import every_route

VIEWER = """\
GET /
GET /account
POST /account/codes
POST /account/codes/confirm
POST /account/codes/remove
POST /account/logout-everywhere
POST /account/password
GET /api/alerts
GET /api/events
GET /api/openapi.json
GET /api/plans
GET /api/queue
GET /api/runs
GET /api/runs/{run_id}
GET /api/schedules
GET /api/status
GET /api/workers
GET /live
GET /live/now
POST /logout
GET /metrics
GET /overview/now
GET /runs
GET /runs/{run_id}
GET /schedules
GET /schedules/suggestions
GET /studies
POST /studies/columns
POST /studies/views
POST /studies/views/remove
GET /studies/{study_instance_uid}
"""
ANYBODY = """\
POST /appearance
GET /assets/{name:path}
GET /healthz
GET /login
POST /login
GET /login/code
POST /login/code
GET /login/oidc
GET /login/oidc/back
GET /welcome/{token}
POST /welcome/{token}
"""
OPERATOR = """\
POST /api/plans/{name}/runs
POST /api/queue/cancel
POST /api/queue/pause
POST /api/queue/prioritise
POST /api/queue/resume
POST /api/schedules/{name}/disable
POST /api/schedules/{name}/enable
GET /compare
GET /compare/act/{work_id}
POST /compare/act/{work_id}
GET /compare/done/{work_id}
GET /compare/done/{work_id}/comparison.csv
POST /compare/start
GET /destinations/{name}/try
POST /destinations/{name}/try
POST /live
POST /patients/hide
POST /patients/reveal
GET /plans/{name}/start
POST /plans/{name}/start
GET /restore
POST /restore/check
GET /restore/checked/{work_id}
GET /restore/done/{work_id}
GET /restore/done/{work_id}/certificate
GET /restore/done/{work_id}/certificate.{ending}
GET /restore/done/{work_id}/files.zip
POST /restore/drill
GET /restore/drilled/{work_id}
POST /restore/start
GET /runs/reports
GET /runs/reports/file.{format_}
GET /runs/reports/read
GET /runs/{run_id}/report
GET /runs/{run_id}/report.{format_}
GET /schedules/plans/{name}
POST /schedules/plans/{name}/look
POST /schedules/plans/{name}/run
POST /schedules/{name}/disable
POST /schedules/{name}/enable
GET /studies.csv
GET /studies.json
GET /studies/actions/{action}
POST /studies/actions/{action}
GET /studies/done
GET /studies/done/{work_id}
GET /studies/{study_instance_uid}/series/{series_instance_uid}/picture
GET /vault
POST /vault/check
GET /vault/checked/{work_id}
POST /vault/look
GET /vault/looked/{work_id}
GET /work/{work_id}
POST /work/{work_id}/forget
POST /work/{work_id}/stop
"""
ADMINISTRATOR = """\
GET /accounts
POST /accounts/add
GET /accounts/{name}
GET /accounts/{name}/{deed}
POST /accounts/{name}/{deed}
GET /audit
GET /audit/export.csv
GET /audit/export.jsonl
POST /audit/verify
GET /settings
GET /settings/general
POST /settings/propose
POST /settings/save
POST /settings/told
GET /settings/text/{name}
POST /settings/text/{name}
GET /settings/{family}/{name}
GET /settings/{table}
POST /trial
GET /wizard
GET /wizard/check
GET /wizard/copies
POST /wizard/copies/add
POST /wizard/copies/remove
POST /wizard/find
GET /wizard/language
POST /wizard/language
POST /wizard/look
POST /wizard/save
POST /wizard/start
GET /wizard/studies
POST /wizard/studies/add
POST /wizard/studies/remove
POST /wizard/told
POST /wizard/told/test
GET /wizard/when
POST /wizard/when
"""

#: The least role for each route; None: no login.
EXPECTED: Mapping[str, Role | None] = {
    line: role
    for role, lines in (
        (None, ANYBODY),
        (Role.VIEWER, VIEWER),
        (Role.OPERATOR, OPERATOR),
        (Role.ADMINISTRATOR, ADMINISTRATOR),
    )
    for line in lines.splitlines()
}
_OFF_LIMITS = {401, 403}


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with dashboard_in(tmp_path_factory.mktemp("home")) as opened:
        for role in Role:
            opened.add(role.value, role)
        yield opened


def _routes(dashboard: Dashboard) -> list[str]:
    """List all there is, whatever kind of route it is."""
    found = []
    for route in every_route(application(dashboard.app).routes):
        methods = route.methods if isinstance(route, APIRoute) else None
        found += [f"{method} {route.path}" for method in methods or ("?",)]  # type: ignore[attr-defined]
    return sorted(found)


def _session(dashboard: Dashboard, role: Role, *, is_half: bool = False) -> Browser:
    browser = dashboard.browser()
    token = dashboard.doors.sessions.begin(role.value, "127.0.0.1", is_half=is_half)
    browser.cookies["dcmvault"] = token
    return browser


def _ask(browser: Browser, line: str, **headers: str) -> Answer:
    method, path = line.split()
    told = {
        "Origin": f"http://{HOST}",
        "Sec-Fetch-Site": "same-origin",
        "Content-Type": "application/json",
        "X-CSRF-Token": browser.csrf,
        **headers,
    }
    filled = re.sub(r"\{[^}]+\}", "x", path)
    return browser.ask(method, filled, b"" if method == "GET" else b"{}", told)


def test_every_route_is_in_the_table(dashboard: Dashboard) -> None:
    """And nothing else: no page of the framework's own, no folder that is mounted."""
    assert _routes(dashboard) == sorted(EXPECTED)


@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_what_the_table_says_and_no_more(dashboard: Dashboard, role: Role) -> None:
    wrong = []
    for line, needed in EXPECTED.items():
        # Some routes end the session that asks.
        status = _ask(_session(dashboard, role), line).status
        if needed is None:
            fits = status < 500
        else:
            fits = (status not in _OFF_LIMITS) if role.may(needed) else (status == 403)
        if not fits:
            wrong.append((line, role, status))
    assert wrong == []


def _strangers(dashboard: Dashboard) -> Mapping[str, tuple[Browser, dict[str, str]]]:
    ended = _session(dashboard, Role.ADMINISTRATOR)
    dashboard.doors.sessions.end(ended.cookies["dcmvault"])
    forged = dashboard.browser()
    forged.cookies["dcmvault"] = "x" * 43
    right = _session(dashboard, Role.ADMINISTRATOR)
    return {
        "nobody": (dashboard.browser(), {}),
        "who has yet to type a code": (_session(dashboard, Role.ADMINISTRATOR, is_half=True), {}),
        "who was logged out": (ended, {}),
        "who guesses": (forged, {}),
        "a wrong token, with a right cookie": (right, {"Authorization": "Bearer wrong"}),
        "another scheme": (dashboard.browser(), {"Authorization": f"Basic {TOKEN}"}),
        "an empty token": (dashboard.browser(), {"Authorization": "Bearer "}),
    }


def test_strangers_may_nothing_that_needs_a_login(dashboard: Dashboard) -> None:
    wrong = []
    for who, (browser, headers) in _strangers(dashboard).items():
        for line, needed in EXPECTED.items():
            answer = _ask(browser, line, **headers)
            if needed is not None and answer.status != 401:
                wrong.append((who, line, answer.status))
            assert answer.status < 500, line
    assert wrong == []


def test_who_holds_the_token_of_the_api_may_everything(dashboard: Dashboard) -> None:
    """It needs no proof of where it comes from: no browser sends it by itself."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for line in EXPECTED:
        answer = _ask(dashboard.browser(), line, **bearer)
        assert answer.status not in _OFF_LIMITS or EXPECTED[line] is None, line
        assert answer.status < 500, line


def test_every_asset_can_be_had_by_everybody_and_nothing_beside(dashboard: Dashboard) -> None:
    """Assets need no login: so nothing but files for pages is among them."""
    for name, asset in assets().items():
        answer = dashboard.browser().get(f"/assets/{name}")
        assert (answer.status, answer.body) == (200, asset.body)
    for name in ("", ".", "vendor", "vendor.toml", "../api.py", "../templates/base.html", "%00"):
        assert dashboard.browser().get(f"/assets/{name}").status == 404, name


@pytest.mark.parametrize("method", ["DELETE", "HEAD", "OPTIONS"])
def test_no_other_method_does_anything(dashboard: Dashboard, method: str) -> None:
    """Nor does one say to strangers what there is."""
    # Those of an administrator are like many others.
    for line in [*ANYBODY.splitlines(), *VIEWER.splitlines(), *OPERATOR.splitlines()]:
        path = line.split()[1]
        stranger = _ask(dashboard.browser(), f"{method} {path}").status
        known = _ask(_session(dashboard, Role.ADMINISTRATOR), f"{method} {path}").status
        assert known in {404, 405}, line
        assert stranger in ({404, 405} if EXPECTED[line] is None else {401}), line
