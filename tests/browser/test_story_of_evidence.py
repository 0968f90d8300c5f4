"""Evidence, as somebody gets it from the dashboard: copies verified in bulk, files restored.

Also the same pages in another language, and on a phone.
"""

from __future__ import annotations

import gettext
import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from scripts.peer_processes import Orthanc
from scripts.peer_processes import orthanc as running_orthanc
from tests.browser.story_world import (
    GENEROUS_MS,
    World,
    asked,
    ended,
    looked_at,
    until,
    world,
)

from dcmvault.i18n import DOMAIN, LOCALE_FOLDER
from dcmvault.model.evidence import Level
from dcmvault.testing.dicom_files import MadeInstance, make_study

pytestmark = pytest.mark.peers

_MR = ("mr-one", "mr-two", "mr-three")
_CT = ("ct-one", "ct-two")
_PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
_MADE: dict[str, tuple[MadeInstance, ...]] = {}


@pytest.fixture(scope="module")
def pacs() -> Iterator[Orthanc]:
    with running_orthanc() as running:
        yield running


@pytest.fixture(scope="module")
def here(
    chromium: Browser, pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Five studies of which a vault and a PACS have copies; nothing was read back yet."""
    folder = tmp_path_factory.mktemp("evidence")
    for key in (*_MR, *_CT):
        modality = key[:2].upper()
        _MADE[key] = make_study(folder / "studies" / key, key=key, instances=2, modality=modality)
    with world(chromium, folder, pacs.address) as opened:
        asked(opened.told, "/api/plans/nightly/runs", b"")
        ended(opened.told, 1)
        yield opened


@pytest.fixture
def page(here: World, chromium: Browser) -> Iterator[Page]:
    with here.window(chromium) as context:
        yield context.new_page()


def _levels(page: Page, modality: str) -> set[str]:
    """Return the levels that the matrix shows of studies of a modality at both places."""
    page.goto(f"/studies?modality={modality}")
    cells = page.locator(".matrix tbody td[data-label=vault], .matrix tbody td[data-label=pacs]")
    return set(cells.locator(".badge").all_inner_texts())


def test_all_that_match_are_verified_and_their_level_rises(here: World, page: Page) -> None:
    """MR studies alone are chosen, by what they are: nobody ticks a box for each."""
    before = len(asked(here.told, "/api/runs")["runs"])
    until("all was counted", lambda: _levels(page, "MR") == {"complete"})
    page.goto("/studies")
    page.locator("#modality").select_option("MR")
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url("**modality=MR**")
    expect(page.locator("#all")).to_have_text("With all 3 studies that match")
    page.get_by_role("link", name="Verify", exact=True).click()
    expect(page.locator("h1")).to_have_text("Verify 3 studies?")
    expect(page.locator(".figures")).to_contain_text("6")
    looked_at(page, 1280)
    page.locator("#level").select_option("proven")
    page.locator("main").get_by_role("button", name="Verify").click()
    page.wait_for_url("**/live")

    newest, *_older = ended(here.told, before + 1)
    page.goto("/runs")
    page.locator("main .row-link").first.click()
    page.wait_for_url(f"**/runs/{newest['run']}")
    expect(page.locator(".verdict.good")).to_be_visible()
    expect(page.locator("main")).to_contain_text("proven")
    until("the matrix shows it", lambda: _levels(page, "MR") == {"proven"})
    assert _levels(page, "CT") == {"complete"}


def test_a_study_is_restored_bit_for_bit_with_a_certificate(here: World, page: Page) -> None:
    """Chosen by its UID, counted, carried out into a folder, and certified."""
    wanted = _MADE["mr-two"]
    target = here.folder / "restored"
    page.goto("/restore")
    page.locator("#from").select_option("vault")
    page.fill("#study", wanted[0].study_instance_uid)
    page.locator("#to").select_option(label="A folder or another PACS, typed below")
    page.fill("#to_typed", str(target))
    page.get_by_role("button", name="Count first").click()
    page.wait_for_url("**/restore/checked/*")
    expect(page.locator("h1")).to_have_text("This would come back")
    expect(page.locator(".figures")).to_contain_text("2")
    assert not target.exists()
    looked_at(page, 1280)
    page.get_by_role("button", name="Restore", exact=True).click()
    page.wait_for_url("**/restore/done/*")
    expect(page.locator(".verdict.good h1")).to_contain_text("read back")
    looked_at(page, 1280)
    result = page.url

    come_back = {path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert {one.path.read_bytes() for one in wanted} <= come_back
    page.get_by_role("link", name="Read it").click()
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator("body")).to_contain_text(wanted[0].study_instance_uid)
    for label, ending in (("HTML", "html"), ("JSON", "json")):
        page.goto(result)
        with page.expect_download() as begun:
            page.get_by_role("link", name=label, exact=True).click()
        assert begun.value.suggested_filename.startswith("restore-certificate-")
        begun.value.save_as(here.folder / f"certificate.{ending}")
    told = json.loads((here.folder / "certificate.json").read_bytes())
    text = json.dumps(told)
    assert wanted[0].study_instance_uid in text
    assert _MADE["mr-one"][0].study_instance_uid not in text
    answer = page.context.request.get(f"{result}/certificate.html")
    assert answer.headers["content-disposition"].startswith("attachment")


def _lines(page: Page) -> set[str]:
    """Return what a page says, line by line, also within what is folded."""
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    return {one.strip() for one in page.locator("body").inner_text().splitlines() if one.strip()}


#: Words as sentences have them, and names and figures do not.
_SENTENCE = re.compile(r"(?:\b[A-Za-z]?[a-z]+[,.]? ){2}[a-z]+")


def _pages(page: Page) -> list[str]:
    """List the pages of the navigation."""
    script = "all => all.map(a => a.getAttribute('href'))"
    paths: list[str] = page.locator(".side a").evaluate_all(script)
    return paths


def test_portuguese_is_spoken_on_every_page(here: World, chromium: Browser) -> None:
    """It is chosen in the menu; then no page has a sentence that its translation leaves out."""
    with here.window(chromium) as context:
        page = context.new_page()
        page.goto("/")
        paths = _pages(page)
        english = {}
        for path in paths:
            page.goto(path)
            assert page.locator("html").get_attribute("lang") == "en"
            english[path] = (page.title(), page.locator("h1").inner_text(), _lines(page))
        labels = page.locator(".side a").all_inner_texts()
        page.goto("/")
        page.locator(".top-end summary").first.click()
        page.get_by_role("button", name="Português").click()
        expect(page.locator("html")).to_have_attribute("lang", "pt-BR")
        in_portuguese = page.locator(".side a").all_inner_texts()
        assert not set(labels) & set(in_portuguese)
        portuguese = gettext.translation(DOMAIN, LOCALE_FOLDER, ["pt_BR"])
        for path in paths:
            page.goto(path)
            assert page.locator("html").get_attribute("lang") == "pt-BR"
            title, heading, said_in_english = english[path]
            assert page.title() != title
            assert page.locator("h1").inner_text() != heading
            # Evidence levels are names: the same in every language, as commands take them.
            said = _lines(page) - {one.word for one in Level}
            assert not {one for one in said if portuguese.gettext(one) != one}, path
            assert not {one for one in said & said_in_english if _SENTENCE.search(one)}, path


def test_a_phone_is_enough(here: World, chromium: Browser) -> None:
    """Every page of the menu fits a small screen; a plan is started and a PACS paused there."""
    with here.window(chromium, **_PHONE) as context:
        page = context.new_page()
        page.goto("/")
        labels = [one.strip() for one in page.locator(".narrow-menu a").all_text_contents()]
        for label in labels:
            page.locator(".narrow-menu summary").tap()
            page.locator(".narrow-menu").get_by_role("link", name=label, exact=True).tap()
            expect(page.locator(".narrow-menu a[aria-current=page]")).to_have_text(label)
            looked_at(page, 360)
        page.goto("/")
        page.get_by_role("link", name="Back up now").first.tap()
        page.locator("main").get_by_role("button", name="Back up now").tap()
        page.wait_for_url("**/live")
        lane = page.locator(".lane", has=page.get_by_role("heading", name="pacs", exact=True))
        lane.get_by_role("button", name="Pause").tap()
        expect(lane.locator(".badge")).to_have_text("paused by hand", timeout=GENEROUS_MS)
        looked_at(page, 360)
        lane.get_by_role("button", name="Resume").tap()
        expect(lane.locator(".badge")).not_to_have_text("paused by hand", timeout=GENEROUS_MS)
        ended(here.told, 2)
