"""The page of studies as somebody uses it: on a phone, by keyboard, and with saved views."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from scripts.dashboard_demo import axe
from tests.browser.conftest import OpenPage

pytestmark = pytest.mark.peers


def test_a_ticked_study_is_excluded_and_included_again(open_page: OpenPage) -> None:
    page = open_page("/studies", width=360)
    page.locator(".tick").first.focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Exclude").click()
    expect(page.locator("h1")).to_have_text("Exclude 1 study from backups?")
    page.get_by_label("Reason").fill("a phantom")
    page.get_by_role("button", name="Exclude").click()
    expect(page.locator("h1")).to_have_text("1 study is excluded from backups", timeout=30_000)
    assert axe(page) == []
    page.goto("/studies?state=excluded")
    for _ in range(400):  # it is counted beside
        if page.locator(".row-link").count():
            break
        page.wait_for_timeout(250)
        page.reload()
    expect(page.locator("main")).to_contain_text("excluded from backups")
    page.locator(".row-link").first.click()
    expect(page.locator("main")).to_contain_text("a phantom")
    assert axe(page) == []
    page.get_by_role("link", name="Include again").click()
    page.get_by_role("button", name="Include again").click()
    expect(page.locator("h1")).to_have_text("1 study is included again", timeout=30_000)


def test_a_view_is_saved_by_keyboard(open_page: OpenPage) -> None:
    page = open_page("/studies?modality=CT", width=360)
    for closed in ("Save this view", "Columns"):
        page.get_by_text(closed, exact=True).focus()
        page.keyboard.press("Enter")
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_label("Name", exact=True).fill("all CTs")
    page.keyboard.press("Enter")
    chosen = page.get_by_role("navigation", name="Saved views").get_by_role("link")
    expect(chosen).to_have_attribute("aria-current", "true")
    page.get_by_text("Save this view", exact=True).click()
    page.get_by_role("button", name="Remove the view").click()
    expect(chosen).to_have_count(0)
