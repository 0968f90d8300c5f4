"""Every page that is registered, with an address for each; a page without one fails a test.

Beside what is asked for by an address there are answers to forms: they are pages, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fastapi.routing import APIRoute
from playwright.sync_api import Browser, Page
from scripts.dashboard_demo import Dashboard
from tests.browser.story_world import GENEROUS_S, PASSWORD, until

from dcmvault.web.pages.all_pages import ROUTERS

#: What is answered with no page of its own: parts of pages, files, and ways to a page.
NO_PAGES = frozenset(
    {
        "/assets/{name:path}",
        "/live/now",
        "/login/oidc",
        "/login/oidc/back",
        "/overview/now",
        "/studies.csv",
        "/studies.json",
        "/studies/done",
        "/studies/{study_instance_uid}/series/{series_instance_uid}/picture",
        "/audit/export.csv",
        "/audit/export.jsonl",
        "/compare/done/{work_id}/comparison.csv",
        "/restore/done/{work_id}/certificate.{ending}",
        "/restore/done/{work_id}/files.zip",
        "/runs/{run_id}/report.{format_}",
        "/runs/reports/file.{format_}",
        "/wizard",
    }
)
#: Documents by themselves, which may run no script where they are shown, not even a test's.
DOCUMENTS = frozenset(
    {
        "/restore/done/{work_id}/certificate",
        "/runs/reports/read",
        "/runs/{run_id}/report",
    }
)
#: What stands for a place in a route's path where the demonstration has it.
FIXED: Mapping[str, str] = {
    "/plans/{name}/start": "/plans/nightly/start",
    "/destinations/{name}/try": "/destinations/pacs/try",
    "/schedules/plans/{name}": "/schedules/plans/nightly",
    "/settings/text/{name}": "/settings/text/rules",
    "/settings/{table}": "/settings/retry",
    "/settings/{family}/{name}": "/settings/destinations/pacs",
    "/runs/reports": "/runs/reports?since=2026-01-01",
    "/runs/reports/read": "/runs/reports/read?since=2026-01-01",
}
#: Actions of a form that is answered with a page: where the form is. The button is its first.
FORMS: Mapping[str, str] = {
    "/audit/verify": "/audit",
    "/schedules/plans/nightly/look": "/schedules/plans/nightly",
    "/settings/propose": "/settings/destinations/pacs",
    "/trial": "/settings/destinations/pacs",
    "/wizard/find": "/wizard/studies",
}


def registered() -> set[str]:
    """List the paths of all routes that can be asked for by an address."""
    return {
        route.path
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    }


def addresses(board: Dashboard) -> dict[str, str]:
    """Return an address for each page that is asked for by one and needs no login of its own."""
    found = {path: path for path in registered() - NO_PAGES if "{" not in path}
    found |= FIXED
    found |= dict(_results(board))
    run = _first(board, "/runs?show=short", r'href="(/runs/2[^"/?]+)"')
    found |= {"/runs/{run_id}": run, "/runs/{run_id}/report": f"{run}/report"}
    found["/studies/{study_instance_uid}"] = _first(board, "/studies", r'href="(/studies/2[^"]+)"')
    found["/studies/actions/{action}"] = "/studies/actions/verify"
    link_for(board, "looked-at")
    found["/accounts/{name}"] = "/accounts/looked-at"
    found["/accounts/{name}/{deed}"] = "/accounts/looked-at/role"
    return found


def _results(board: Dashboard) -> Iterator[tuple[str, str]]:
    """Ask for work of each kind, and yield where its result is."""
    counted = _done(board, "/restore/check", {"from": "vault", "to": ":zip"})
    yield "/restore/checked/{work_id}", counted
    restored = _done(board, "/restore/start", {"work": counted.rsplit("/", 1)[-1]})
    yield "/restore/done/{work_id}", restored
    yield "/restore/done/{work_id}/certificate", f"{restored}/certificate"
    drilled = _done(board, "/restore/drill", {"vault": "vault", "count": "1"})
    yield "/restore/drilled/{work_id}", drilled
    compared = _done(board, "/compare/start", {"a": "workstation", "b": "copies"})
    yield "/compare/done/{work_id}", compared
    yield "/compare/act/{work_id}", compared.replace("/done/", "/act/")
    yield "/vault/looked/{work_id}", _done(board, "/vault/look", {"vault": "vault"})
    yield "/vault/checked/{work_id}", _done(board, "/vault/check", {"vault": "vault"})
    uid = _first(board, "/studies", r'href="/studies/(2[^"?]+)"')
    _done(board, f"/studies/actions/exclude?study={uid}", {"reason": "kept elsewhere"})
    yield "/studies/done/{work_id}", _done(board, f"/studies/actions/include?study={uid}", {})
    # The PACS is away: this work fails, and its page says why.
    yield "/work/{work_id}", _done(board, "/compare/start", {"a": "workstation", "b": "pacs"})


def _done(board: Dashboard, path: str, fields: Mapping[str, str]) -> str:
    """Send a form that asks for work; return where its page leads once it ended."""
    body = urllib.parse.urlencode(fields).encode()
    address, text = _fetched(board, path, body)

    def ended() -> str:
        where, now = _fetched(board, address)
        return "" if "/work/" in where and "/stop" in now else where

    assert "/work/" in address or "/done/" in address or "ed/" in address, text
    return str(until("the work ends", ended))


def _first(board: Dashboard, path: str, pattern: str) -> str:
    found = re.search(pattern, _fetched(board, path)[1])
    assert found is not None, path
    return found[1]


def _fetched(board: Dashboard, path: str, body: bytes | None = None) -> tuple[str, str]:
    """Return the path that an answer came from in the end, and its text."""
    headers = {"Authorization": f"Bearer {board.token}"}
    request = urllib.request.Request(board.address + path, body, headers)
    with urllib.request.urlopen(request, timeout=GENEROUS_S) as answer:
        return answer.url.removeprefix(board.address), answer.read().decode()


@contextmanager
def before_a_login(chromium: Browser, board: Dashboard, **how: object) -> Iterator[Page]:
    """Open a window of somebody who is not let in yet."""
    context = chromium.new_context(base_url=board.address, **how)  # type: ignore[arg-type]
    context.set_default_timeout(GENEROUS_S * 1000)
    try:
        yield context.new_page()
    finally:
        context.close()


def first_password(page: Page, link: str) -> None:
    """Follow a link to choose a password: that logs in."""
    page.goto(link)
    for field in ("password", "again"):
        page.fill(f"[name={field}]", PASSWORD)
    page.locator("main form button").first.click()
    page.wait_for_url(lambda where: "/welcome/" not in where)


def link_for(board: Dashboard, name: str) -> str:
    """Make an account, and return the path at which its person chooses a password."""
    done = subprocess.run(
        [sys.executable, "-m", "dcmvault", "web", "user", "add", name, "--link"],
        check=True,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        env={**os.environ, "DCMVAULT_HOME": str(board.home), "NO_COLOR": "1"},
        timeout=GENEROUS_S,
    )
    found = re.search(r"/welcome/[\w-]+", done.stdout)
    assert found is not None, done.stdout
    return found[0]
