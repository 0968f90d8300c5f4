"""The overview and the live page: what they say, and what their buttons do."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import OpenPage

pytestmark = pytest.mark.peers

#: Milliseconds that nothing here takes, however busy the machine is.
GENEROUS_MS = 120_000


def test_the_overview_says_what_needs_somebody_with_one_verb_each(open_page: OpenPage) -> None:
    """The PACS is away: it is named, and the one button beside that tries it step by step."""
    page = open_page("/")
    assert page.locator("h1").inner_text()
    for heading in ("Plans", "Destinations", "3-2-1-1-0", "Growth"):
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible(
            timeout=GENEROUS_MS
        )
    expect(page.locator("article svg.strip").first).to_be_visible(timeout=GENEROUS_MS)
    verbs = page.locator(".problem .verb")
    assert all(verbs.nth(n).locator("a, button").count() <= 1 for n in range(verbs.count()))
    page.get_by_role("link", name="Look at the run").first.click()
    page.wait_for_url("**/runs/2*")


def test_a_destination_that_is_away_is_tried_step_by_step(open_page: OpenPage) -> None:
    page = open_page("/destinations/pacs/try")
    page.get_by_role("button", name="Try it").click()
    expect(page.locator(".steps .badge.bad")).to_have_count(1, timeout=GENEROUS_MS)
    assert page.goto("/destinations/dicom:%2F%2F127.0.0.1:104/try").status == 404  # type: ignore[union-attr]


def test_a_plan_is_asked_about_before_it_starts(open_page: OpenPage) -> None:
    page = open_page("/plans/nightly/start")
    expect(page.locator("h1")).to_contain_text("nightly", timeout=GENEROUS_MS)
    page.get_by_role("button", name="Back up now").click()
    page.wait_for_url("**/live")
    expect(page.locator(".lane")).to_have_count(3, timeout=GENEROUS_MS)


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_a_destination_is_paused_slowed_and_taken_up_again(
    open_page: OpenPage, scripts: bool
) -> None:
    page = open_page("/live", has_scripts=scripts)
    lane = page.locator(".lane", has_text="copies")
    lane.get_by_role("button", name="Pause").click()
    expect(lane.locator(".badge")).to_have_text("paused by hand", timeout=GENEROUS_MS)
    lane.get_by_role("button", name="Resume").click()
    expect(lane.locator(".badge")).not_to_have_text("paused by hand", timeout=GENEROUS_MS)
    lane.get_by_role("button", name="Slow for an hour").click()
    expect(lane.locator(".rate")).to_contain_text("of at most", timeout=GENEROUS_MS)
    lane.get_by_role("button", name="Full speed").click()
    expect(lane.locator(".rate")).to_contain_text("without a limit", timeout=GENEROUS_MS)
