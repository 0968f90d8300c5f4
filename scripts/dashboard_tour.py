"""A tour of every page of the dashboard in its important states, for a camera.

Two daemons are visited: one that nobody has been to, from its first link to a first proven backup;
and one with a history, first while all is well, then with a PACS that is away and a damaged copy.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect

from scripts.dashboard_camera import Camera, Windows
from scripts.dashboard_demo import (
    Dashboard,
    dashboard,
    look,
    nobody,
    run_plan,
    serving,
    wait_for_runs,
)
from scripts.phantom_studies import phantom_studies

_NAME, _PASSWORD = "ana", "correct horse battery staple"
_PASSPHRASE = "a passphrase to be kept"
#: Studies that are there from the beginning; the others come later.
_FIRST = 9


def first_run(camera: Camera, folder: Path) -> None:
    """Go from nothing to a first proven backup."""
    home = folder / "ana"
    phantom_studies(home / "DICOM")
    (folder / "disk").mkdir()
    with serving(home / ".dcmvault", home) as told:
        board = Dashboard(told["address"], told["token"], home / ".dcmvault", folder)
        welcome = urlsplit(told["first_link"]).path
        with camera.at(board, may_see=False) as strangers:
            strangers.take("login", "/login")
            strangers.take("welcome", welcome)
            with look(camera.running, board, may_see=False) as context:
                hand = context.new_page()
                _enter(hand, welcome)
                _keep_accounts(camera, hand)
                with camera.at(board) as windows:
                    _answer(camera, windows, hand, folder)
                    _start(camera, windows, hand, board)
            strangers.take("account", _logged_in("/account"))
            strangers.take("accounts", _logged_in("/accounts"))
            strangers.take("accounts-one", _logged_in("/accounts/bruno"))
            strangers.take("accounts-remove", _logged_in("/accounts/bruno/remove"))


def _enter(hand: Page, welcome: str) -> None:
    hand.goto(welcome)
    hand.fill("[name=name]", _NAME)
    for one in ("password", "again"):
        hand.fill(f"[name={one}]", _PASSWORD)
    hand.locator("main form button").click()
    hand.wait_for_url("**/wizard/language")


def _keep_accounts(camera: Camera, hand: Page) -> None:
    """Let a second person in, and come back to the questions."""
    hand.goto("/accounts")
    _press(hand, "form[action='/accounts/add']", name="bruno", current=_PASSWORD)
    expect(hand.locator("main code").first).to_contain_text("/welcome/")
    camera.snap("accounts-added", hand)
    hand.goto("/wizard/language")


def _answer(camera: Camera, windows: Windows, hand: Page, folder: Path) -> None:
    """Answer the first four questions."""
    windows.take("wizard-language", "/wizard/language")
    hand.locator("main form button").click()
    windows.take("wizard-studies", "/wizard/studies")
    windows.take("wizard-found", _looking_for_images)
    _looking_for_images(hand)
    _press(hand, "form[action='/wizard/studies/add']")
    hand.wait_for_url("**/wizard/studies")
    windows.take("wizard-studies-chosen", "/wizard/studies")
    windows.take("wizard-copies", "/wizard/copies")
    hand.goto("/wizard/copies")
    _press(
        hand,
        "form:has([value='vault'])",
        path=str(folder / "disk" / "vault"),
        vault_passphrase=_PASSPHRASE,
        vault_again=_PASSPHRASE,
    )
    _press(hand, "form:has([value='pacs'])", host="127.0.0.1", port=str(nobody()), called="PACS")
    windows.take("wizard-copies-chosen", "/wizard/copies")
    windows.take("trial-good", _trying("/wizard/copies", "vault"))
    windows.take("trial-bad", _trying("/wizard/copies", "PACS"))
    hand.goto("/wizard/copies")
    _press(hand, "form[action$='/copies/remove']:has([value='pacs' i])")
    hand.goto("/wizard/when")
    hand.check("[name=when][value=always]")
    hand.fill("[name=rate]", "500 kB/s")
    windows.take("wizard-when", "/wizard/when")
    hand.get_by_role("button", name="Go on").click()
    hand.wait_for_url("**/wizard/check")
    windows.take("wizard-check", "/wizard/check")
    hand.get_by_role("button", name="Write it down").click()
    expect(hand.locator(".recovery li")).to_have_count(4)
    camera.snap("wizard-recovery", hand)
    hand.goto("/wizard/check")
    windows.take("wizard-check-written", "/wizard/check")
    windows.take("wizard-expectation", _expecting)


def _start(camera: Camera, windows: Windows, hand: Page, board: Dashboard) -> None:
    """Start all of it, look on while it runs, and see what it came to."""
    hand.goto("/wizard/check")
    hand.locator("[name=what][value=all]").click()
    hand.wait_for_url("**/runs")
    # Whoever looks is shown transfers as soon as there are some.
    hand.goto("/live")
    expect(hand.locator(".lane .badge.running")).to_be_visible(timeout=60_000)
    expect(hand.locator(".lane .rate b").first).not_to_have_text("0 B/s", timeout=60_000)
    windows.take("live-run", "/live")
    windows.take("overview-run", "/")
    hand.goto("/live")
    full = hand.locator("button[value=full]")
    if full.count():
        full.first.click()
    wait_for_runs(board)
    windows.take("first-runs", "/runs")
    windows.take("first-run", _first_of("/runs"))
    _wait_for(hand, "/", ".verdict.good, .verdict.open")
    windows.take("first-overview", "/")


def house(camera: Camera, folder: Path) -> None:
    """Visit a house with a history: all is well, and then not."""
    made = phantom_studies(folder / "made")
    files = [path for study in made[-_FIRST:] for path in study]
    studies = folder / "all" / "studies"
    with (
        _pacs() as (port, gone),
        dashboard(folder / "all", files, pacs_port=port) as board,
        look(camera.running, board) as context,
        camera.at(board) as windows,
    ):
        hand = context.new_page()
        for number, study in enumerate(made[1:-_FIRST]):
            _arrive(studies, number, study)
            run_plan(board, "nightly")
        run_plan(board, "to-the-pacs")
        _all_is_well(windows, hand)
        _arrive(studies, len(made), made[0])
        _trouble(board)
        gone()
        run_plan(board, "to-the-pacs")
        _all_is_not_well(windows, hand, board)


def _all_is_well(windows: Windows, hand: Page) -> None:
    hand.goto("/restore")
    _press(hand, "form[action='/restore/drill']", count="3")
    windows.take("restore-drilled", _arrived(hand, "/restore/drilled/"))
    _wait_for(hand, "/", ".verdict.good")
    windows.take("overview-quiet", "/")
    hand.goto("/restore")
    hand.get_by_role("button", name="Count first").click()
    windows.take("restore-checked", _arrived(hand, "/restore/checked/"))
    hand.get_by_role("button", name="Restore", exact=True).click()
    done = _arrived(hand, "/restore/done/")
    windows.take("restore-done", done)
    windows.take("restore-certificate", f"{done}/certificate")
    hand.goto("/vault")
    _press(hand, "form[action='/vault/look']")
    windows.take("vault-looked", _arrived(hand, "/vault/looked/"))
    hand.goto("/vault")
    _choose_last(hand, "part")
    _press(hand, "form[action='/vault/check']")
    windows.take("vault-checked", _arrived(hand, "/vault/checked/"))


def _all_is_not_well(windows: Windows, hand: Page, board: Dashboard) -> None:
    _wait_for(hand, "/live", ".lane .badge.bad")
    # Two destinations have something wrong: what was counted is shown within seconds.
    hand.goto("/")
    expect(hand.locator(".card .badges .badge.bad")).to_have_count(2, timeout=120_000)
    for name, path in {
        "overview": "/",
        "live": "/live",
        "studies": "/studies",
        "studies-damaged": "/studies?state=damaged",
        "studies-none": "/studies?text=nobody",
        "studies-verify": "/studies/actions/verify",
        "studies-backup": "/studies/actions/backup",
        "runs": "/runs",
        "reports": "/runs/reports?since=2026-01-01",
        "vault": "/vault",
        "restore": "/restore",
        "schedules": "/schedules",
        "plan": "/schedules/plans/nightly",
        "suggestions": "/schedules/suggestions",
        "audit": "/audit",
        "settings": "/settings",
        "settings-destination": "/settings/destinations/pacs",
        "settings-general": "/settings/general",
        "plan-start": "/plans/nightly/start",
        "destination-try": "/destinations/pacs/try",
        "nowhere": "/nowhere",
    }.items():
        windows.take(name, path)
    windows.take("study", _first_of("/studies"))
    windows.take("study-damaged", _first_of("/studies?state=damaged"))
    windows.take("run", _first_of("/runs?show=short"))
    windows.take("audit-verified", _pressing("/audit", "form[action='/audit/verify']"))
    windows.take("plan-looked", _pressing("/schedules/plans/nightly", "form[action$='/look']"))
    windows.take("settings-diff", _changing_a_setting)
    windows.take("settings-trial", _trying("/settings/destinations/pacs", "pacs"))
    hand.goto("/compare")
    windows.take("compare", "/compare")
    hand.select_option("[name=a]", "workstation")
    hand.select_option("[name=b]", "copies")
    _choose_last(hand, "depth")
    hand.get_by_role("button", name="Compare").click()
    compared = _arrived(hand, "/compare/done/")
    windows.take("compare-done", compared)
    windows.take("compare-act", compared.replace("/done/", "/act/"))
    hand.goto("/studies/actions/verify?destination=vault")
    with suppress(AssertionError):
        hand.locator("main form button").click()
    wait_for_runs(board)
    windows.take("studies-verified", _first_of("/runs"))


@contextmanager
def _pacs() -> Iterator[tuple[int, Callable[[], None]]]:
    """Run a PACS; yield its port, and what ends it."""
    with subprocess.Popen(
        [sys.executable, "-m", "dcmvault.testing.peers", "--ae-title", "PACS"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None

        def gone() -> None:
            process.terminate()
            process.wait(timeout=60)

        try:
            yield json.loads(process.stdout.readline())["port"], gone
        finally:
            gone()


def _arrive(folder: Path, number: int, study: list[Path]) -> None:
    """Have a study come into a source."""
    for place, path in enumerate(study):
        shutil.copyfile(path, folder / f"late-{number:02}-{place:03}.dcm")


def _trouble(board: Dashboard) -> None:
    """Spoil one copy and lose another, and have that found."""
    copies = sorted((board.folder / "copies").rglob("*.dcm"), key=lambda one: one.stat().st_size)
    spoilt = bytearray(copies[0].read_bytes())
    spoilt[-10] ^= 1
    copies[0].chmod(0o600)
    copies[0].write_bytes(spoilt)
    copies[-1].unlink()
    board.run("verify", "workstation", "--at", "copies", "--level", "proven")


def _wait_for(page: Page, path: str, what: str) -> None:
    """Wait until a page shows something; it does by itself, within a minute or so."""
    page.goto(path)
    expect(page.locator(what).first).to_be_visible(timeout=120_000)


def _press(page: Page, form: str, **typed: str) -> None:
    """Fill a form that is found by where it leads, opening what hides it, and send it."""
    found = page.locator(form).first
    found.evaluate("form => form.closest('details')?.setAttribute('open', '')")
    for name, value in typed.items():
        found.locator(f"[name='{name.replace('_', '-')}']").fill(value)
    found.locator("button").first.click()


def _choose_last(page: Page, name: str) -> None:
    """Choose what is offered last, which is the most that can be asked for."""
    values = page.locator(f"[name={name}] option").evaluate_all("all => all.map(one => one.value)")
    page.select_option(f"[name={name}]", values[-1])


def _pressing(path: str, form: str) -> Callable[[Page], None]:
    def pressed(page: Page) -> None:
        page.goto(path)
        with page.expect_navigation():
            _press(page, form)
        if "/work/" in page.url:
            page.wait_for_url(lambda url: "/work/" not in url)

    return pressed


def _trying(path: str, name: str) -> Callable[[Page], None]:
    def tried(page: Page) -> None:
        page.goto(path)
        _press(page, f"form[action='/trial']:has([name=name][value*='{name}' i])")
        expect(page.locator("#verdict")).to_be_visible()

    return tried


def _looking_for_images(page: Page) -> None:
    page.goto("/wizard/studies")
    _press(page, "form[action='/wizard/find']")
    expect(page.locator(".found").first).to_be_visible()
    page.wait_for_load_state("load")


def _expecting(page: Page) -> None:
    page.goto("/wizard/check")
    _press(page, "form[action='/wizard/look']")
    expect(page.locator("#expectation")).to_be_visible()
    page.wait_for_load_state("load")


def _changing_a_setting(page: Page) -> None:
    page.goto("/settings/destinations/pacs")
    field = page.locator("[name=max_associations]")
    field.evaluate("one => one.closest('details')?.setAttribute('open', '')")
    field.fill("2")
    with page.expect_navigation():
        page.locator("form[action='/settings/propose'] .button.primary").click()


def _first_of(path: str) -> Callable[[Page], None]:
    def opened(page: Page) -> None:
        page.goto(path)
        link = page.locator("main .row-link").first.get_attribute("href")
        assert link is not None
        page.goto(link)

    return opened


def _logged_in(path: str) -> Callable[[Page], None]:
    def entered(page: Page) -> None:
        page.goto(f"/login?next={path}")
        if not page.locator("[name=password]").count():  # has logged in before
            page.goto(path)
            return
        page.fill("[name=name]", _NAME)
        page.fill("[name=password]", _PASSWORD)
        with page.expect_navigation():
            page.locator("main form button").click()

    return entered


def _arrived(page: Page, beginning: str) -> str:
    """Wait until long work led to its result; return the result's path."""
    page.wait_for_url(f"**{beginning}*")
    return urlsplit(page.url).path
