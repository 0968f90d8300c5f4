"""Login, logout and sessions of the dashboard, against people who mean no good."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.kdf import argon2
from tests.unit.web.dashboard_world import PASSWORD, Browser, Dashboard, dashboard_in

from dcmvault.app import passwords
from dcmvault.model.account import Role


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    with dashboard_in(tmp_path) as opened:
        yield opened


def _is_in(browser: Browser) -> bool:
    return browser.get("/api/runs").status == 200


def test_a_login_leads_to_where_somebody_wanted(dashboard: Dashboard) -> None:
    dashboard.add("ana", Role.OPERATOR)
    browser = dashboard.browser()
    sent_away = browser.get("/studies?q=ct")
    assert (sent_away.status, sent_away.header("location")) == (
        303,
        "/login?next=/studies%3Fq%3Dct",
    )
    page = browser.get(sent_away.header("location"))
    assert 'name="next" value="/studies?q=ct"' in page.text
    answer = browser.log_in("Ana ", next="/studies?q=ct")
    assert (answer.status, answer.header("location")) == (303, "/studies?q=ct")
    assert _is_in(browser)
    assert browser.get("/login?next=/runs").header("location") == "/runs"


@pytest.mark.parametrize(
    ("name", "password"), [("ana", "wrong horse battery"), ("bob", PASSWORD), ("", "")]
)
def test_a_wrong_name_and_a_wrong_password_look_alike(
    dashboard: Dashboard, name: str, password: str
) -> None:
    dashboard.add("ana", Role.OPERATOR)
    browser = dashboard.browser()
    answer = browser.log_in(name, password)
    assert answer.status == 401
    assert "The name or the password is wrong." in answer.text
    assert not browser.cookies
    assert not _is_in(browser)


def test_an_unknown_name_costs_the_same_work(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One derivation of the same cost each: how long it takes tells nothing."""
    dashboard.add("ana", Role.OPERATOR)
    dashboard.doors.accounts.add("idle", "", Role.VIEWER)
    done: list[tuple[int, int, int, int]] = []

    real = argon2.Argon2id

    def counted(**cost: object) -> object:
        done.append((cost["length"], cost["iterations"], cost["lanes"], cost["memory_cost"]))  # type: ignore[arg-type]
        return real(**cost)  # type: ignore[arg-type]

    monkeypatch.setattr(passwords, "Argon2id", counted)
    for name in ("ana", "nobody", "idle"):
        assert dashboard.browser().log_in(name, "wrong horse battery").status == 401
    assert len(done) == 3
    assert len(set(done)) == 1


def test_guessing_becomes_slow_and_ends_with_the_right_password(dashboard: Dashboard) -> None:
    dashboard.add("ana", Role.OPERATOR)
    browser = dashboard.browser()
    for _attempt in range(5):
        assert browser.log_in("ana", "wrong horse battery").status == 401
    waited: list[int] = []
    for _attempt in range(6):
        refused = browser.log_in("ana")
        assert refused.status == 429, "even the right one does not count now"
        wait = int(refused.text.partition("Wait ")[2].split()[0])
        waited.append(wait)
        dashboard.clock.advance(wait)
        assert browser.log_in("ana", "wrong horse battery").status == 401
    assert waited == [1, 2, 4, 8, 16, 32]
    dashboard.clock.advance(64)
    assert browser.log_in("ana").status == 303
    assert browser.log_in("ana", "wrong horse battery").status == 401, "all is forgotten"


def test_waits_end_somewhere(dashboard: Dashboard) -> None:
    dashboard.add("ana", Role.OPERATOR)
    for number in range(30):
        dashboard.clock.advance(300)
        assert dashboard.browser(f"10.0.0.{number}").log_in("ana", "wrong").status == 401


def test_guesses_of_others_do_not_keep_out_a_browser_that_was_in(dashboard: Dashboard) -> None:
    """Nor does that browser get more guesses than anybody else."""
    known = dashboard.logged_in(Role.OPERATOR)
    assert known.post("/logout").status == 303
    for _attempt in range(10):
        dashboard.browser("10.0.0.9").log_in("operator", "wrong horse battery")
    assert dashboard.browser("10.0.0.8").log_in("operator").status == 429
    assert known.log_in("operator").status == 303
    known.post("/logout")
    statuses = [known.log_in("operator", "wrong horse battery").status for _attempt in range(6)]
    assert statuses == [401] * 5 + [429]


def test_a_browser_of_somebody_else_is_nothing_special(dashboard: Dashboard) -> None:
    dashboard.add("ana", Role.OPERATOR)
    mallory = dashboard.logged_in(Role.VIEWER)
    mallory.post("/logout")
    for _attempt in range(5):
        mallory.log_in("ana", "wrong horse battery")
    assert mallory.log_in("ana", "wrong horse battery").status == 429


def test_a_restart_forgets_no_failure(tmp_path: Path) -> None:
    """Nor does it tell of whom they are: what was typed may be a password."""
    with dashboard_in(tmp_path) as before:
        before.add("ana", Role.OPERATOR)
        statuses = [before.browser().log_in("ana", "wrong horse").status for _number in range(6)]
        assert statuses == [401] * 5 + [429]
    for file in tmp_path.glob("catalogue.sqlite3*"):
        assert hashlib.sha256(b"ana").digest() not in file.read_bytes()
    with dashboard_in(tmp_path) as after:
        assert after.browser().log_in("ana").status == 429
        after.clock.advance(301)
        assert after.browser().log_in("ana").status == 303
    with dashboard_in(tmp_path) as later:
        later.clock.advance(301)
        assert later.browser().log_in("ana", "wrong horse").status == 401, "it counts from one"


def test_many_who_guess_do_not_keep_the_owner_out_for_ever(dashboard: Dashboard) -> None:
    """From any number of addresses: a browser that was in comes in, and so does a link."""
    dashboard.add("ana", Role.OPERATOR)
    known = dashboard.browser()
    assert known.log_in("ana").status == 303
    for number in range(200):
        dashboard.browser(f"10.1.{number // 50}.{number % 50}").log_in("ana", "wrong horse")
        dashboard.clock.advance(299)
    assert dashboard.browser("10.9.9.9").log_in("ana").status == 429
    again = dashboard.browser()
    again.cookies["dcmvault-device"] = known.cookies["dcmvault-device"]
    assert again.log_in("ana").status == 303
    token, _until = dashboard.doors.accounts.make_link("ana")
    fresh = dashboard.browser()
    chosen = {"password": "another horse battery", "again": "another horse battery"}
    assert fresh.post(f"/welcome/{token}", chosen, csrf="").status == 303
    dashboard.clock.advance(301)
    assert dashboard.browser("10.9.9.9").log_in("ana", "another horse battery").status == 303


def test_who_has_no_password_cannot_be_told_from_who_is_not_known(dashboard: Dashboard) -> None:
    """No browser proves that it was logged in: what would be the key is known to all."""
    dashboard.doors.accounts.add("ana", "", Role.OPERATOR)
    for name in ("ana", "nobody"):
        browser = dashboard.browser(f"10.2.0.{len(name)}")
        answers = []
        for number in range(60):
            nonce = f"{number:032x}"
            told = f"dcmvault device\0{name}\0{nonce}".encode()
            browser.cookies["dcmvault-device"] = f"{nonce}.{hmac.digest(b'', told, 'sha256').hex()}"
            answers.append(browser.log_in(name, "wrong horse").status)
        assert answers[-1] == 429, name


def test_a_whole_network_of_ipv6_is_one_who_guesses(dashboard: Dashboard) -> None:
    """Its owner has as many addresses as they like."""
    statuses = [
        dashboard.browser(f"2001:db8::{number:x}").log_in(f"name{number}", "wrong").status
        for number in range(25)
    ]
    assert statuses[:20] == [401] * 20
    assert 429 in statuses[20:]
    assert dashboard.browser("2001:db8:0:1::1").log_in("x", "wrong").status == 401
    assert dashboard.browser("10.0.0.1").log_in("y", "wrong").status == 401


def test_one_address_that_tries_many_names_waits_too(dashboard: Dashboard) -> None:
    statuses = [
        dashboard.browser("10.0.0.9").log_in(f"name{number}", "wrong").status
        for number in range(22)
    ]
    assert statuses[:20] == [401] * 20
    assert 429 in statuses[20:]
    assert dashboard.browser("10.0.0.8").log_in("name1", "wrong").status == 401


def test_cookies_are_for_our_pages_only(dashboard: Dashboard) -> None:
    dashboard.add("ana", Role.OPERATOR)
    browser = dashboard.browser()
    session, device = browser.log_in("ana").cookies
    assert session.startswith("dcmvault=")
    for cookie in (session, device):
        flags = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=strict", "path=/"} <= flags
        assert not any(flag.startswith("domain") for flag in flags)
    assert "max-age" not in session.lower()


def test_over_tls_cookies_are_bound_to_it(dashboard: Dashboard) -> None:
    object.__setattr__(dashboard.doors, "is_secure", True)
    dashboard.add("ana", Role.OPERATOR)
    for cookie in dashboard.browser().log_in("ana").cookies:
        assert cookie.startswith("__Host-")
        assert "; secure" in cookie.lower()
        assert "; path=/" in cookie.lower()


def test_a_session_that_somebody_brought_along_is_not_taken(dashboard: Dashboard) -> None:
    """Session fixation: the token after a login is another one, and the one before is dead."""
    dashboard.add("ana", Role.OPERATOR)
    mallory = dashboard.logged_in(Role.VIEWER)
    victim = dashboard.browser()
    for planted in (mallory.cookies["dcmvault"], "planted"):
        victim.cookies = {"dcmvault": planted}
        assert victim.log_in("ana").status == 303
        assert victim.cookies["dcmvault"] != planted
        thief = Browser(dashboard, "10.0.0.9", {"dcmvault": planted})
        assert thief.get("/api/runs").status == 401


def test_a_stolen_cookie_is_worth_nothing_after_the_logout(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.OPERATOR)
    thief = Browser(dashboard, "10.0.0.9", dict(browser.cookies))
    assert _is_in(thief)
    assert browser.post("/logout").header("location") == "/login"
    assert "dcmvault" not in browser.cookies
    assert not _is_in(thief)
    assert thief.get("/").header("location").startswith("/login")


def test_only_a_digest_of_the_token_is_kept(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.OPERATOR)
    token = browser.cookies["dcmvault"]
    kept = b"".join(
        path.read_bytes() for path in dashboard.workplace.home.rglob("*") if path.is_file()
    )
    assert token.encode() not in kept
    assert PASSWORD.encode() not in kept
    (session,) = dashboard.doors.sessions.of("operator")
    assert session.digest in kept


def test_sessions_end_when_nobody_uses_them(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.OPERATOR)
    for _minute in range(30):
        dashboard.clock.advance(60)
        assert _is_in(browser)
    dashboard.clock.advance(15 * 60)
    assert not _is_in(browser)


def test_a_page_that_refreshes_itself_is_not_somebody(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.OPERATOR)
    statuses = []
    for _minute in range(20):
        dashboard.clock.advance(60)
        statuses.append(browser.get("/api/runs", {"X-Unasked": "1"}).status)
    assert statuses == [200] * 14 + [401] * 6


def test_sessions_end_after_a_day_of_work_in_any_case(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.OPERATOR)
    for _step in range(12 * 6 - 1):
        dashboard.clock.advance(600)
        assert _is_in(browser)
    dashboard.clock.advance(600)
    assert not _is_in(browser)


@pytest.mark.parametrize("change", ["role", "password", "disabled", "removed"])
def test_whoever_is_changed_has_to_log_in_again(dashboard: Dashboard, change: str) -> None:
    browser = dashboard.logged_in(Role.OPERATOR)
    desk = dashboard.doors.accounts
    if change == "role":
        desk.set_role("operator", Role.VIEWER)
    elif change == "password":
        desk.set_password("operator", "another horse battery")
    elif change == "disabled":
        desk.set_disabled("operator", disabled=True)
    else:
        desk.remove("operator")
    assert not _is_in(browser)
    if change in {"disabled", "removed"}:
        assert browser.log_in("operator").status == 401


def test_one_time_codes_work_once(dashboard: Dashboard) -> None:
    dashboard.add("ana", Role.OPERATOR)
    secret = dashboard.add_totp("ana")
    browser = dashboard.browser()
    half = browser.log_in("ana", next="/runs")
    assert half.header("location") == "/login/code?next=/runs"
    token = browser.cookies["dcmvault"]
    assert not _is_in(browser), "half a login is none"
    assert browser.post("/logout", csrf="").status == 303
    assert browser.post("/login/code", {"code": "000000"}).status == 401
    code = dashboard.code(secret)
    whole = browser.post("/login/code", {"code": f"{code[:3]} {code[3:]}", "next": "/runs"})
    assert (whole.status, whole.header("location")) == (303, "/runs")
    assert browser.cookies["dcmvault"] != token
    assert _is_in(browser)
    again = dashboard.browser()
    again.log_in("ana")
    assert again.post("/login/code", {"code": code}).status == 401, "a replay"
    dashboard.clock.advance(30)
    assert again.post("/login/code", {"code": dashboard.code(secret)}).status == 303


def test_a_recovery_code_works_once(dashboard: Dashboard) -> None:
    dashboard.add("ana", Role.OPERATOR)
    dashboard.add_totp("ana")
    statuses = []
    for _attempt in range(2):
        browser = dashboard.browser()
        browser.log_in("ana")
        statuses.append(browser.post("/login/code", {"code": "AAAA BBBB-ccccdddd"}).status)
    assert statuses == [303, 401]


def test_codes_cannot_be_guessed_with_the_password_known(dashboard: Dashboard) -> None:
    dashboard.add("ana", Role.OPERATOR)
    dashboard.add_totp("ana")
    statuses = []
    for _attempt in range(8):
        browser = dashboard.browser("10.0.0.9")
        statuses.append(browser.log_in("ana").status)
        statuses.append(browser.post("/login/code", {"code": "000000"}).status)
    assert statuses[:5] == [303, 401, 303, 401, 303], "a right password leads to the code only"
    assert statuses[5::2].count(429) == 1, "then no code is looked at,"
    assert set(statuses[6::2]) == {429}, "nor the password"


def test_half_a_login_does_not_wait_for_ever(dashboard: Dashboard) -> None:
    dashboard.add("ana", Role.OPERATOR)
    secret = dashboard.add_totp("ana")
    browser = dashboard.browser()
    browser.log_in("ana")
    dashboard.clock.advance(301)
    answer = browser.post("/login/code", {"code": dashboard.code(secret)})
    assert answer.status == 401
    assert "took too long" in answer.text


def test_the_journal_tells_who_came_and_who_did_not(dashboard: Dashboard) -> None:
    dashboard.add("ana", Role.OPERATOR)
    browser = dashboard.browser("10.0.0.7")
    browser.log_in("ana", "wrong horse battery")
    browser.log_in("my password by mistake", "ana")
    browser.log_in("ana")
    browser.post("/logout")
    told = [(one["event"], one["actor"]["name"], one["outcome"]) for one in dashboard.journal()]
    assert told == [
        ("login.failed", "ana", "minor-failure"),
        ("login.failed", "unknown", "minor-failure"),
        ("login", "ana", "success"),
        ("logout", "ana", "success"),
    ]
    assert {one["actor"]["address"] for one in dashboard.journal()} == {"10.0.0.7"}


@pytest.mark.parametrize(
    "next_page",
    [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "/x\r\nSet-Cookie: a=b",
        "",
    ],
)
def test_a_login_leads_nowhere_else(dashboard: Dashboard, next_page: str) -> None:
    dashboard.add("ana", Role.OPERATOR)
    answer = dashboard.browser().log_in("ana", next=next_page)
    assert (answer.status, answer.header("location")) == (303, "/")
    assert all("\n" not in value and "\r" not in value for _name, value in answer.headers)


def test_names_are_shown_as_text(dashboard: Dashboard) -> None:
    page = dashboard.browser().get('/login?next=/"><script>alert(1)</script>')
    assert "<script>" not in page.text
