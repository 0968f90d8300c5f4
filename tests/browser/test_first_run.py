"""The first run in a browser: from nothing to a proven backup; and its pages for everybody."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from scripts.dashboard_demo import axe, serving
from scripts.peer_processes import Orthanc
from tests.browser.conftest import OpenPage
from tests.browser.story_world import GENEROUS_MS, asked, ended, make_account, until

from dcmvault.testing.dicom_files import make_study

pytestmark = pytest.mark.peers

_WORDS = "a passphrase to be kept"


def _press(page: Page, form: str, **typed: str) -> None:
    """Fill a form that is found by where it leads, opening what hides it, and send it."""
    found = page.locator(form).first
    found.evaluate("form => form.closest('details')?.setAttribute('open', '')")
    for name, value in typed.items():
        found.locator(f"[name='{name.replace('_', '-')}']").fill(value)
    found.locator("button").first.click()


@pytest.mark.parametrize("width", [360])
def test_from_nothing_to_a_first_proven_backup(
    chromium: Browser, orthanc: Orthanc, tmp_path: Path, width: int
) -> None:
    """On a phone's screen: a folder goes to a real Orthanc, and proven to a vault that is made."""
    make_study(tmp_path / "studies", key="first", instances=3)
    with serving(tmp_path / "home", tmp_path / "home") as told:
        context = chromium.new_context(
            base_url=told["address"], locale="en", viewport={"width": width, "height": 760}
        )
        context.set_default_timeout(GENEROUS_MS)
        page = context.new_page()
        make_account(page, told)
        page.locator("main form button").click()
        page.wait_for_url("**/wizard/studies")
        _press(page, "form:has([value='address'])", address=str(tmp_path / "studies"))
        page.get_by_role("link", name="Go on").click()
        page.wait_for_url("**/wizard/copies")
        _press(
            page,
            "form:has([value='pacs'])",
            host="127.0.0.1",
            port=str(orthanc.port),
            called=orthanc.ae_title,
        )
        _press(
            page,
            "form:has([value='vault'])",
            path=str(tmp_path / "vault"),
            vault_passphrase=_WORDS,
            vault_again=_WORDS,
        )
        _press(page, "form[action='/trial']:has([value='pacs'])")
        expect(page.locator("#verdict")).to_have_attribute("data-outcome", "good")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_role("link", name="Back").last.click()
        page.get_by_role("link", name="Go on").click()
        page.wait_for_url("**/wizard/when")
        page.check("[name=when][value=always]")
        page.get_by_role("button", name="Go on").click()
        page.wait_for_url("**/wizard/check")
        page.get_by_role("button", name="Write it down").click()
        expect(page.locator(".recovery li")).to_have_count(4)
        page.get_by_role("link", name="I have it on paper").click()
        page.get_by_role("button", name="Look").click()
        expect(page.locator("#expectation b").first).to_have_text("1")
        page.get_by_role("button", name="Start all").click()
        page.wait_for_url("**/runs")
        (run,) = ended(told, 1)
        assert len(orthanc.instances()) == 3
        summary = asked(told, f"/api/runs/{run['run']}")["summary"]
        assert summary["exit_status"] == 0

        def levels() -> object:
            sources = asked(told, "/api/status")["sources"]
            places = {one["name"]: one for one in sources[0]["destinations"]}
            return places[f"vault:{tmp_path / 'vault'}"]["by_level"]

        # Where counting takes long, as on a busy machine, status tells what was counted last.
        until("status has counted anew", lambda: levels() == {"proven": 3})
        context.close()


@pytest.mark.parametrize(
    ("language", "theme", "width"), [("pt-BR", "dark", 360), ("en", "light", 1280)]
)
def test_first_steps_and_settings_can_be_used_by_everybody(
    open_page: OpenPage, language: str, theme: str, width: int
) -> None:
    page = open_page("/settings", language=language, theme=theme, width=width)
    links = page.locator("main a[href^='/settings/']").evaluate_all(
        "all => all.map(a => a.getAttribute('href'))"
    )
    steps = [f"/wizard/{step}" for step in ("language", "studies", "copies", "when", "check")]
    for path in ("/settings", *steps, "/settings/destinations/pacs", "/settings/general"):
        assert path in ("/settings", *steps) or path in links
        page.goto(path)
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        page.evaluate("document.querySelectorAll('.menu').forEach(one => one.open = false)")
        assert page.locator("h1").count() == 1, path
        assert axe(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert "None" not in page.locator("body").inner_text().split(), path
