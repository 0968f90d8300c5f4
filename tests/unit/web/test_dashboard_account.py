"""What somebody does with their own account, the links that lead in, and names of patients."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.web.dashboard_world import PASSWORD, Dashboard, dashboard_in

from dcmvault.app.address_tests import check_may_test
from dcmvault.app.one_time_codes import code_of, otpauth_address, secret_text
from dcmvault.app.passwords import PasswordCost, Passwords
from dcmvault.errors import UsageError
from dcmvault.model.account import Role
from dcmvault.web.patients import patient
from dcmvault.web.qr_drawing import qr_code
from dcmvault.web.visitors import Visitor

NEW = "another horse battery"


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    with dashboard_in(tmp_path) as opened:
        yield opened


def _link(dashboard: Dashboard, name: str = "") -> str:
    return f"/welcome/{dashboard.doors.accounts.make_link(name)[0]}"


def _choice(password: str = NEW, **fields: str) -> dict[str, str]:
    return {"password": password, "again": password, **fields}


def test_the_first_link_makes_an_administrator_and_leads_on(dashboard: Dashboard) -> None:
    link = _link(dashboard)
    browser = dashboard.browser()
    assert browser.get(link).status == 200
    assert browser.get(link).status == 200, "looking does not use it up"
    assert browser.post(link, _choice("short", name="ana")).status == 422
    assert browser.post(link, {**_choice(name="ana"), "again": "x"}).status == 422
    assert browser.post(link, _choice(name="no name")).status == 422
    answer = browser.post(link, _choice(name="Ana", language="pt_BR"))
    assert answer.status == 303
    (account,) = dashboard.doors.accounts.accounts()
    assert (account.name, account.role, account.language) == ("ana", Role.ADMINISTRATOR, "pt_BR")
    assert browser.get("/api/runs").status == 200
    assert dashboard.browser().get(link).status == 401, "it leads in once"
    assert dashboard.browser().post(link, _choice(name="mallory")).status == 401


def test_the_first_link_is_for_the_machine_itself(dashboard: Dashboard) -> None:
    link = _link(dashboard)
    stranger = dashboard.browser("10.0.0.9")
    assert stranger.get(link).status == 401
    assert stranger.post(link, _choice(name="mallory")).status == 401
    assert dashboard.browser("::1").get(link).status == 200


def test_links_expire_and_replace_each_other(dashboard: Dashboard) -> None:
    before = _link(dashboard)
    link = _link(dashboard)
    browser = dashboard.browser()
    assert browser.get(before).status == 401
    assert browser.get("/welcome/guessed").status == 401
    dashboard.clock.advance(3600)
    assert browser.get(link).status == 401
    assert browser.post(link, _choice(name="late")).status == 401


def test_a_first_link_is_worth_nothing_once_there_is_an_account(dashboard: Dashboard) -> None:
    link = _link(dashboard)
    dashboard.add("ana", Role.ADMINISTRATOR)
    assert dashboard.browser().get(link).status == 401
    assert dashboard.browser().post(link, _choice(name="mallory")).status == 401


def test_a_link_sets_a_password_and_asks_for_the_code_all_the_same(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.OPERATOR)
    secret = dashboard.add_totp("operator")
    other = dashboard.browser("10.0.0.9")
    answer = other.post(_link(dashboard, "operator"), _choice(name="administrator"))
    assert answer.header("location").startswith("/login/code")
    assert browser.get("/api/runs").status == 401, "sessions ended"
    assert other.post("/login/code", {"code": dashboard.code(secret)}).status == 303
    assert dashboard.browser().log_in("operator").status == 401
    assert dashboard.browser().log_in("operator", NEW).status == 303


def test_a_changed_password_ends_the_other_sessions(dashboard: Dashboard) -> None:
    other, browser = dashboard.logged_in(Role.VIEWER), dashboard.logged_in(Role.VIEWER)
    token = browser.cookies["dcmvault"]
    assert browser.post("/account/password", _choice(current="wrong")).status == 422
    assert browser.post("/account/password", _choice(current=PASSWORD)).status == 303
    assert browser.cookies["dcmvault"] != token
    assert browser.get("/account").status == 200
    assert other.get("/api/runs").status == 401
    assert dashboard.browser().log_in("viewer", NEW).status == 303


def test_logging_out_everywhere_is_everywhere(dashboard: Dashboard) -> None:
    other, browser = dashboard.logged_in(Role.VIEWER, "10.0.0.8"), dashboard.logged_in(Role.VIEWER)
    assert "10.0.0.8" in browser.get("/account").text
    assert browser.post("/account/logout-everywhere").header("location") == "/login"
    assert [one.get("/api/runs").status for one in (other, browser)] == [401, 401]


def test_one_time_codes_are_set_up_with_a_first_code(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.VIEWER)
    page = browser.post("/account/codes").text
    fields = dict(re.findall(r'name="(secret|seal)" value="([0-9a-f]+)"', page))
    secret = bytes.fromhex(fields["secret"])
    drawn = qr_code(otpauth_address(secret, "viewer"))
    assert f'd="{drawn.path}"' in page
    assert secret_text(secret)[:4] in page, "as text, too"
    assert "style=" not in page
    told = {**fields, "current": PASSWORD, "code": "000000"}
    assert browser.post("/account/codes/confirm", told).status == 422
    told["code"] = dashboard.code(secret)
    planted = {**told, "secret": "00" * 20}
    assert browser.post("/account/codes/confirm", planted).status == 409, "a secret of ours only"
    token, elsewhere = browser.cookies["dcmvault"], dashboard.logged_in(Role.VIEWER)
    done = browser.post("/account/codes/confirm", told)
    assert browser.cookies["dcmvault"] != token
    assert f'value="{browser.csrf}"' in done.text, "its forms belong to the new session"
    assert dashboard.doors.sessions.open(token) is None
    assert elsewhere.get("/account").status == 303, "sessions without a code have ended"
    recovery = re.findall(r"<code>([a-z2-7-]+)</code>", done.text)
    assert len(recovery) == 10
    again = dashboard.browser()
    again.log_in("viewer")
    assert again.post("/login/code", {"code": told["code"]}).status == 401, "it was used"
    assert again.post("/login/code", {"code": recovery[3]}).status == 303
    token = again.cookies["dcmvault"]
    assert again.post("/account/codes/remove", {"current": PASSWORD}).status == 303
    assert again.cookies["dcmvault"] != token
    assert dashboard.doors.sessions.open(token) is None
    assert dashboard.browser().log_in("viewer").header("location") == "/"


def test_codes_are_those_of_the_standard() -> None:
    """RFC 6238, appendix B (SHA-1), shortened to six digits."""
    secret = b"12345678901234567890"
    moments = {59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"}
    assert {moment: code_of(secret, moment // 30) for moment in moments} == moments


def test_passwords_are_kept_at_their_cost() -> None:
    cheap = Passwords(PasswordCost(32, 1, 1))
    kept = cheap.digest("a password of mine")
    assert kept.startswith("$argon2id$v=19$m=32,t=1,p=1$")
    assert Passwords().matches("a password of mine", kept)
    assert Passwords().is_stale(kept)
    assert not cheap.matches("a password of mine ", kept)
    assert cheap.matches("café", cheap.digest("cafe\u0301")), "however a keyboard writes it"
    assert not cheap.matches("", "")


def test_names_are_shown_for_minutes_and_the_journal_tells_it(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.OPERATOR, "10.0.0.7")

    def shows() -> bool:
        opened = dashboard.doors.sessions.open(browser.cookies["dcmvault"])
        return opened is not None and dashboard.doors.sessions.shows_names(opened)

    assert not shows()
    answer = browser.post("/patients/reveal", {"here": "/runs?q=DOE", "reason": "a\r\ncall"})
    assert (answer.status, answer.header("location")) == (303, "/runs?q=DOE")
    assert shows()
    (line,) = [one for one in dashboard.journal() if one["event"] == "patients.revealed"]
    assert (line["actor"]["name"], line["actor"]["address"]) == ("operator", "10.0.0.7")
    assert line["details"] == {"page": "/runs", "reason": "a call"}
    browser.post("/patients/hide")
    assert not shows()
    browser.post("/patients/reveal")
    dashboard.clock.advance(300)
    assert not shows()


def test_a_viewer_reveals_nothing(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.VIEWER)
    assert browser.post("/patients/reveal").status == 403
    assert all(one["event"] != "patients.revealed" for one in dashboard.journal())


def test_what_cannot_be_written_down_is_not_shown(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.OPERATOR)
    folder = dashboard.workplace.home / "audit"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("in the way")
    browser.post("/patients/reveal")
    opened = dashboard.doors.sessions.open(browser.cookies["dcmvault"])
    assert opened is not None
    assert opened.session.revealed_until is None


def test_a_patient_is_initials_until_revealed(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.OPERATOR)
    opened = dashboard.doors.sessions.open(browser.cookies["dcmvault"])
    hidden = Visitor("ana", Role.OPERATOR, "", opened)
    revealed = Visitor("ana", Role.OPERATOR, "", opened, shows_names=True)
    viewer = Visitor("bob", Role.VIEWER, "", opened, shows_names=True)
    for name, shown in (
        ("DOE^JANE^M", "D••• J•••"),
        ("Ñandú=漢字", "Ñ•••"),
        ("12345", "•••"),
        ("^", "•••"),
        ("", ""),
    ):
        assert patient(hidden, name) == shown
        assert patient(revealed, name) == name
        assert patient(viewer, name) == ("•••" if name else "")
        assert patient(None, name) == ("•••" if name else "")


@pytest.mark.parametrize(
    ("role", "address", "host", "may"),
    [
        (Role.VIEWER, "disk", "", False),
        (Role.OPERATOR, "disk", "", True),
        (Role.OPERATOR, "dicom://X@10.0.0.1:104", "10.0.0.1", False),
        (Role.ADMINISTRATOR, "dicom://X@10.0.0.1:104", "10.0.0.1", True),
        (Role.ADMINISTRATOR, "orthanc+http://169.254.169.254", "169.254.169.254", False),
        (Role.ADMINISTRATOR, "x", "::ffff:169.254.169.254", False),
        (Role.ADMINISTRATOR, "x", "2852039166", False),
        (Role.ADMINISTRATOR, "x", "fe80::1", False),
    ],
)
def test_only_administrators_have_any_address_tested(
    role: Role, address: str, host: str, may: bool
) -> None:
    if may:
        check_may_test(role, address, {"disk"}, host)
    else:
        with pytest.raises(UsageError):
            check_may_test(role, address, {"disk"}, host)
