"""A restore in a browser: counted, started, proven, its certificate read and its files taken."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from scripts.dashboard_demo import axe
from tests.browser.conftest import OpenPage

pytestmark = pytest.mark.peers

WIDTH = 360


def looked_at(page: Page) -> None:
    """Hold a page against what holds for every page."""
    assert axe(page) == [], page.url
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH, page.url
    words = set(page.locator("body").inner_text().split())
    assert not {"None", "undefined", "NaN"} & words, page.url


def test_everything_is_restored_and_taken_along_on_a_phone(
    open_page: OpenPage, folder_of_downloads: Path
) -> None:
    page = open_page("/restore", width=WIDTH)
    page.get_by_role("button", name="Count first").click()
    page.wait_for_url("**/restore/checked/*")
    expect(page.locator("h1")).to_have_text("This would come back")
    looked_at(page)
    page.get_by_role("button", name="Restore", exact=True).click()
    page.wait_for_url("**/restore/done/*")
    expect(page.locator(".verdict.good h1")).to_contain_text("read back")
    looked_at(page)
    with page.expect_download() as begun:
        page.get_by_role("link", name="Download").click()
    begun.value.save_as(folder_of_downloads / "all.zip")
    with zipfile.ZipFile(folder_of_downloads / "all.zip") as held:
        assert "DICOMDIR" in held.namelist()
    page.get_by_role("link", name="Read it").click()
    expect(page.locator("h1")).to_be_visible()


def test_a_drill_needs_no_script(open_page: OpenPage) -> None:
    """It is looked at by loading the page again, as a browser without scripts does by itself."""
    page = open_page("/restore", language="pt-BR", has_scripts=False)
    page.locator("form[action='/restore/drill'] button").click()
    page.wait_for_url("**/restore/drilled/*")
    expect(page.locator(".verdict.good h1")).to_be_visible()
