"""The pages of runs: what became of each, why, and its report to read and to take along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import OpenPage

pytestmark = pytest.mark.peers


def test_a_run_that_fell_short_says_why_and_what_to_do(open_page: OpenPage) -> None:
    page = open_page("/runs?show=short")
    page.locator("main .row-link").first.click()
    expect(page.locator(".verdict.bad h1")).to_contain_text("did not reach their level")
    expect(page.locator(".step").first).to_contain_text("Next step")
    expect(page.locator("main")).to_contain_text("workstation → pacs")


def test_reports_are_read_and_taken_along(open_page: OpenPage, folder_of_downloads: Path) -> None:
    page = open_page("/runs")
    page.locator("main .row-link").last.click()
    page.wait_for_url("**/runs/2*")
    where = page.url
    run = where.rsplit("/", 1)[-1]
    for label, ending in (("JSON", "json"), ("CSV", "csv"), ("HTML", "html"), ("PDF", "pdf")):
        with page.expect_download() as begun:
            page.get_by_role("link", name=label, exact=True).click()
        assert begun.value.suggested_filename == f"dcmvault-{run}.{ending}"
        begun.value.save_as(folder_of_downloads / ending)
        assert (folder_of_downloads / ending).stat().st_size > 0
    assert json.loads((folder_of_downloads / "json").read_bytes())["run"] == run
    page.get_by_role("link", name="Read it").click()
    expect(page.locator("h1")).to_contain_text("backed up and verified")
    # Its style is in force, its policy lets nothing else be.
    assert page.evaluate("getComputedStyle(document.querySelector('.verdict')).display") == "flex"


def test_only_what_is_so_is_listed(open_page: OpenPage) -> None:
    page = open_page("/runs")
    every = page.locator("main tbody tr").count()
    page.get_by_role("link", name="Fell short").click()
    page.wait_for_url("**show=short")
    assert 0 < page.locator("main tbody tr").count() < every
    page.get_by_role("link", name="Going on").click()
    expect(page.locator("main .empty h3")).to_have_text("Nothing runs now")
