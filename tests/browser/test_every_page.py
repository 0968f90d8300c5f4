"""What holds for every page: reached from the navigation, in both languages, themes and sizes."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect
from scripts.dashboard_demo import Dashboard, axe
from scripts.page_defects import defects
from tests.browser.conftest import OpenPage
from tests.browser.every_page import (
    DOCUMENTS,
    FORMS,
    NO_PAGES,
    addresses,
    before_a_login,
    first_password,
    link_for,
    registered,
)

pytestmark = pytest.mark.peers

#: Bytes that a page may cost whoever sees it for the first time.
FIRST_LOAD = 300_000


#: Pages of who is not let in yet.
_WITHOUT_LOGIN = {"/login": "/login", "/login/code": "/login/code"}
_WIDE, _NARROW = 1280, 320


@pytest.fixture(scope="module")
def pages(board: Dashboard) -> dict[str, str]:
    """An address for each page that a route is for."""
    return addresses(board)


def test_no_page_is_forgotten(pages: dict[str, str]) -> None:
    """Whoever adds a page says where the tests find it, or why it is none."""
    others = {*_WITHOUT_LOGIN, "/welcome/{token}", "/account"}
    assert registered() == set(pages) | NO_PAGES | others


def _hold(page: Page, language: str, path: str = "") -> None:
    """Hold a page against what holds for all, wide and light, then narrow and dark."""
    where = path or page.url
    assert page.locator("html").get_attribute("lang") == language, where
    assert page.locator("h1").count() == 1, where
    for width, theme in ((_WIDE, "light"), (_NARROW, "dark")):
        page.set_viewport_size({"width": width, "height": 850})
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        assert axe(page) == [], (where, theme)
        assert defects(page) == [], (where, width)


@pytest.mark.parametrize("language", ["en", "pt-BR"])
def test_every_page_can_be_used_by_everybody(
    open_page: OpenPage, pages: dict[str, str], language: str
) -> None:
    """Nothing serious for axe; nothing overlaps, overflows, is clipped or says “None”."""
    page = open_page("/", language=language)
    for route, path in (*pages.items(), ("", "/nowhere")):
        if route in DOCUMENTS:
            document = page.context.request.get(path, headers={"Accept-Language": language}).text()
            page.goto("about:blank")
            page.set_content(document)
        else:
            page.goto(path)
        _hold(page, language, path)


@pytest.mark.parametrize("language", ["en", "pt-BR"])
def test_every_answer_to_a_form_can_be_used_by_everybody(
    open_page: OpenPage, language: str
) -> None:
    page = open_page("/", language=language)
    for action, path in FORMS.items():
        page.goto(path)
        page.locator(f"form[action='{action}'] button").first.click()
        page.wait_for_url(f"**{action}")
        page.wait_for_load_state("load")
        _hold(page, language)


@pytest.mark.parametrize("language", ["en", "pt-BR"])
def test_pages_before_and_behind_a_login_can_be_used_by_everybody(
    board: Dashboard, chromium: Browser, language: str
) -> None:
    with before_a_login(chromium, board, locale=language, reduced_motion="reduce") as page:
        link = link_for(board, f"somebody-{language.lower()}")
        for path in (*_WITHOUT_LOGIN.values(), link):
            page.goto(path)
            _hold(page, language)
        first_password(page, link)
        page.goto("/account")
        _hold(page, language)
        page.locator("form[action='/account/codes'] button").first.click()
        page.wait_for_url("**/account/codes")
        _hold(page, language)
        page.goto(link)
        _hold(page, language)


def test_a_first_visit_costs_little(open_page: OpenPage) -> None:
    page = open_page("/")
    page.wait_for_load_state("load")
    sizes = page.evaluate(
        "[...performance.getEntriesByType('navigation'), "
        "...performance.getEntriesByType('resource')].map(one => [one.name, one.transferSize])"
    )
    assert sum(size for _name, size in sizes) <= FIRST_LOAD, sizes


def test_pages_are_reached_by_keyboard_alone(open_page: OpenPage) -> None:
    page = open_page("/")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("u")
    page.wait_for_url("**/runs")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()


def test_language_and_theme_stay_as_chosen(open_page: OpenPage) -> None:
    page = open_page("/runs?show=short")
    for theme in ("dark", "light", "system"):
        page.locator(".top-end summary").first.click()
        page.locator(f"button[name=theme][value={theme}]").click()
        page.reload()
        shown = page.locator("html").get_attribute("data-theme")
        assert shown == (None if theme == "system" else theme)
    page.locator(".top-end summary").first.click()
    page.get_by_role("button", name="Português").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Execuções e relatórios")
    assert page.url.endswith("/runs?show=short")


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_a_phone_has_all_pages_in_its_menu(open_page: OpenPage, scripts: bool) -> None:
    page = open_page("/", width=360, has_scripts=scripts)
    page.locator(".narrow-menu summary").click()
    page.locator(".narrow-menu a", has_text="Runs and reports").click()
    page.wait_for_url("**/runs")


def test_one_stream_tells_a_page_what_happens(open_page: OpenPage, board: Dashboard) -> None:
    """A run that begins elsewhere shows up in a list that is open, and the tab has one stream."""
    page = open_page("/").context.new_page()
    streams: list[str] = []
    page.on("request", lambda one: streams.append(one.url) if "/api/events" in one.url else None)
    with page.expect_request("**/api/events*"):
        page.goto("/runs")
    rows = page.locator("main tbody tr")
    before = rows.count()
    assert board.run("backup", "workstation", "--to", "copies", "--strategy", "full") == 0
    expect(rows).to_have_count(before + 1, timeout=60_000)
    assert len(streams) == 1


#: Lets a test say whether a tab is looked at, and remembers the streams that it had.
WATCHED = """
window.looked = true;
Object.defineProperty(document, "hidden", { get: () => !window.looked });
window.streams = [];
window.EventSource = class extends EventSource {
  constructor(...all) { super(...all); window.streams.push(this); }
};
window.lookAway = (away) => {
  window.looked = !away;
  document.dispatchEvent(new Event("visibilitychange"));
};
window.openStreams = () => window.streams.filter((one) => one.readyState !== 2).length;
"""


def test_a_tab_that_nobody_looks_at_has_no_stream(open_page: OpenPage) -> None:
    """It is looked at anew when somebody comes back."""
    page = open_page("/").context.new_page()
    page.add_init_script(WATCHED)
    page.goto("/runs")
    page.wait_for_function("window.streams.some((one) => one.readyState === 1)")
    page.evaluate("window.lookAway(true)")
    assert page.evaluate("window.openStreams()") == 0
    page.evaluate("document.querySelector('#state').textContent = 'old'")
    with page.expect_response(lambda one: one.request.headers.get("hx-request") == "true"):
        page.evaluate("window.lookAway(false)")
    expect(page.locator("#state")).not_to_have_text("old")
    assert page.evaluate("window.openStreams()") == 1


def test_what_is_opened_stays_open_while_the_page_is_brought_up_to_date(
    open_page: OpenPage,
) -> None:
    page = open_page("/runs?show=short")
    page.locator("main .row-link").first.click()
    page.wait_for_url("**/runs/2*")
    details = page.locator("main details").first
    details.locator("summary").click()
    with page.expect_response(lambda one: one.request.headers.get("hx-request") == "true"):
        page.evaluate("htmx.trigger('[hx-trigger]', 'sse:run')")
    expect(details).to_have_attribute("open", "")


def test_what_no_page_may_do_is_found(open_page: OpenPage) -> None:
    """The measure itself is measured: each defect is put into a page, and named."""
    page = open_page("/login")
    assert defects(page) == []
    page.evaluate(
        """() => {
          const put = (words, style) => {
            const one = document.createElement('button');
            one.textContent = words;
            one.className = 'button';
            Object.assign(one.style, style);
            document.querySelector('main').append(one);
          };
          put('over', {position: 'absolute', left: '300px', top: '500px'});
          put('lap', {position: 'absolute', left: '310px', top: '505px'});
          put('much too long', {width: '30px', whiteSpace: 'nowrap', overflow: 'hidden'});
          put('None', {position: 'absolute', left: '2000px', top: '0'});
        }"""
    )
    assert defects(page) == [
        'clipped: "much too long"',
        'overlapping: "over" and "lap"',
        "wider than the window",
        "says None",
    ]
