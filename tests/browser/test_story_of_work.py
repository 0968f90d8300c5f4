"""Work that goes on, as its operator sees it: held up by hand, and by a PACS that dies.

The pages are never loaded again by hand: what happens comes to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from scripts.peer_launch import run_again
from scripts.peer_processes import Orthanc
from scripts.peer_processes import orthanc as running_orthanc
from tests.browser.story_world import GENEROUS_MS, World, asked, ended, until, world

from dcmvault.testing.dicom_files import make_study

pytestmark = pytest.mark.peers

#: Two jobs of so many instances go to a destination at once: the others wait.
_STUDIES, _INSTANCES = 5, 100
_ALL = _STUDIES * _INSTANCES


@pytest.fixture(scope="module")
def pacs() -> Iterator[Orthanc]:
    with running_orthanc() as running:
        yield running


@pytest.fixture(scope="module")
def here(
    chromium: Browser, pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A source of which a first study is at the vault and at a PACS, which takes 256 kB/s."""
    folder = tmp_path_factory.mktemp("work")
    make_study(folder / "studies" / "first", key="first", instances=1)
    limit = 'bandwidth = "256 kB/s"\nmax_associations = 1'
    with world(chromium, folder, pacs.address, of_the_pacs=limit) as opened:
        asked(opened.told, "/api/plans/nightly/runs", b"")
        ended(opened.told, 1)
        yield opened


@pytest.fixture
def page(here: World, chromium: Browser) -> Iterator[Page]:
    """A tab that is never loaded again: it carries a mark, which would be gone then."""
    with ExitStack() as stack:
        context = stack.enter_context(here.window(chromium))
        yield context.new_page()


def _mark(page: Page) -> None:
    page.evaluate("window.stays = true")


def _is_the_same(page: Page) -> bool:
    return bool(page.evaluate("window.stays === true"))


def _lane(page: Page, name: str) -> Locator:
    return page.locator(".lane", has=page.get_by_role("heading", name=name, exact=True))


def _at_rest(page: Page, pacs: Orthanc) -> int:
    """Count what is there once no more comes: a job that was taken before the pause still ends."""
    counts = [len(pacs.instances())]

    def stands_still() -> bool:
        page.wait_for_timeout(1500)
        counts.append(len(pacs.instances()))
        return counts[-1] == counts[-2]

    until("nothing more comes", stands_still)
    return counts[-1]


def test_work_stands_still_while_it_is_paused_and_then_goes_on(
    here: World, page: Page, pacs: Orthanc
) -> None:
    """The PACS is slowed, a plan begins, is paused in the middle, taken up again, and whole."""
    for number in range(_STUDIES):
        key = f"many{number}"
        make_study(here.studies / key, key=key, instances=_INSTANCES)
    before = len(pacs.instances())
    page.goto("/live")
    _mark(page)
    lane = _lane(page, "pacs")
    lane.get_by_role("button", name="Slow for an hour").click()
    expect(lane.locator(".rate")).to_contain_text("of at most 64", timeout=GENEROUS_MS)
    assert _is_the_same(page)

    page.goto("/plans/nightly/start")
    page.get_by_role("button", name="Back up now").click()
    page.wait_for_url("**/live")
    _mark(page)
    until("the first ones came there", lambda: len(pacs.instances()) > before)
    lane.get_by_role("button", name="Pause").click()
    expect(lane.locator(".badge")).to_have_text("paused by hand", timeout=GENEROUS_MS)
    expect(lane).to_contain_text(", 0 at work", timeout=GENEROUS_MS)
    at_rest = _at_rest(page, pacs)
    assert before < at_rest < before + _ALL
    waiting = page.locator("section[aria-labelledby=waiting] tbody tr", has_text="pacs")
    last = waiting.last.locator("code").inner_text()
    waiting.last.get_by_role("button", name="First").click()
    expect(waiting.filter(has_text=last)).to_contain_text("urgent", timeout=GENEROUS_MS)
    expect(page.locator(".run .badge")).to_be_visible()
    assert _at_rest(page, pacs) == at_rest

    # The button in focus became another one, and says so.
    lane.get_by_role("button", name="Resume").click()
    expect(lane.locator(".badge")).not_to_have_text("paused by hand", timeout=GENEROUS_MS)
    lane.get_by_role("button", name="Full speed").click()
    expect(lane.locator(".rate")).to_contain_text("of at most 256", timeout=GENEROUS_MS)
    expect(page.locator(".run")).to_have_count(0, timeout=GENEROUS_MS)
    assert _is_the_same(page)
    assert len(pacs.instances()) == before + _ALL
    newest, *_older = ended(here.told, 2)
    assert asked(here.told, f"/api/runs/{newest['run']}")["summary"]["exit_status"] == 0


def test_a_pacs_that_dies_is_told_of_and_its_return_too(
    here: World, page: Page, pacs: Orthanc
) -> None:
    """Somebody looks at the overview while the PACS is killed, finds out why, and starts it."""
    live = page.context.new_page()
    live.goto("/live")
    _mark(live)
    page.goto("/")
    _mark(page)
    trouble = page.locator(".problem", has_text="pacs")
    expect(page.locator("#now")).to_be_visible()
    expect(trouble).to_have_count(0)
    made = make_study(here.studies / "late", key="late", instances=2)
    already = len(asked(here.told, "/api/runs")["runs"])
    pacs.process.kill()
    pacs.process.wait()
    asked(here.told, "/api/plans/nightly/runs", b"")

    expect(trouble).to_contain_text("does not answer", timeout=GENEROUS_MS)
    expect(trouble).to_contain_text("What is due is delivered when it is back.")
    expect(trouble.locator(".verb a")).to_have_count(1)
    expect(page.locator("#state")).to_contain_text("1 thing needs you")
    expect(_lane(live, "pacs").locator(".badge").first).to_have_text(
        "does not answer", timeout=GENEROUS_MS
    )
    assert _is_the_same(page)
    assert _is_the_same(live)
    trouble.locator(".verb a").click()
    page.get_by_role("button", name="Try it").click()
    expect(page.locator(".steps .badge.bad")).to_have_count(1, timeout=GENEROUS_MS)
    page.goto("/")
    _mark(page)
    expect(trouble).to_have_count(1)

    with run_again(pacs):
        expect(trouble).to_have_count(0, timeout=GENEROUS_MS)
        expect(_lane(live, "pacs").locator(".badge.bad")).to_have_count(0, timeout=GENEROUS_MS)
        newest, *_older = ended(here.told, already + 1)
        assert asked(here.told, f"/api/runs/{newest['run']}")["summary"]["exit_status"] == 0
        assert {one.sop_instance_uid for one in made} <= set(pacs.instances())
        expect(page.locator("#state")).to_contain_text("Nothing needs you", timeout=GENEROUS_MS)
        assert _is_the_same(page)
        assert _is_the_same(live)


def test_what_is_done_by_forms_alone_is_done_too(here: World, chromium: Browser) -> None:
    """Without scripts each deed loads the page, which shows what came of it."""
    with here.window(chromium, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/live")
        lane = _lane(page, "vault")
        lane.get_by_role("button", name="Pause").click()
        expect(lane.locator(".badge")).to_have_text("paused by hand")
        lane.get_by_role("button", name="Resume").click()
        expect(lane.locator(".badge")).not_to_have_text("paused by hand")
