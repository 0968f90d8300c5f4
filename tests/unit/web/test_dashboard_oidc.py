"""Login at an OpenID Connect provider, as it goes well, and whose account is whose."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.unit.web.dashboard_world import PASSWORD, dashboard_in
from tests.unit.web.oidc_world import ANA, OidcWorld, is_in, oidc_world

from dcmvault.app.doctor import Check, examine
from dcmvault.app.oidc_login import role_of
from dcmvault.config.oidc_section import OidcSection
from dcmvault.errors import UsageError
from dcmvault.model.account import Role
from dcmvault.testing.identity_provider import SigningKey


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcWorld]:
    with oidc_world(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture
def world(opened: OidcWorld) -> OidcWorld:
    return opened.anew()


def _accounts(world: OidcWorld) -> dict[str, Role]:
    return {one.name: one.role for one in world.dashboard.doors.accounts.accounts()}


def test_somebody_logs_in_at_the_provider_and_lands_where_they_wanted(world: OidcWorld) -> None:
    browser = world.dashboard.browser()
    page = browser.get("/login?next=/runs%3Fshow%3Dshort")
    assert 'href="/login/oidc?next=/runs%3Fshow%3Dshort"' in page.text
    assert "Log in with my organisation" in page.text
    assert 'name="password"' in page.text, "whoever has a password comes in all the same"
    address = world.begun(browser, "/runs?show=short")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert asked["scope"] == "openid profile"
    assert asked["code_challenge_method"] == "S256"
    answer = world.back(browser, world.proven(address))
    assert answer.status == 200
    # A redirection would go on without the session's cookie, which is strict.
    assert 'content="0;url=/runs?show=short"' in answer.text
    assert is_in(browser)
    assert browser.get("/settings").status == 403, "an operator changes no settings"
    assert _accounts(world) == {"root": Role.ADMINISTRATOR, "oidc:ana": Role.OPERATOR}
    told = world.dashboard.journal()[-1]
    assert (told["event"], told["outcome"]) == ("login", "success")
    assert told["actor"]["name"] == "oidc:ana"
    assert told["details"] == {"how": "oidc", "subject": ANA, "role": "operator"}


def test_cookies_are_bound_as_each_has_to_be(world: OidcWorld) -> None:
    """The ticket comes along from another site, the session does not."""
    browser = world.dashboard.browser()
    ticket = browser.get("/login/oidc").cookies
    assert [one.partition("=")[0] for one in ticket] == ["dcmvault-oidc"]
    assert all(word in ticket[0] for word in ("HttpOnly", "SameSite=lax", "Max-Age=600"))
    address = world.begun(browser)
    cookies = world.back(browser, world.proven(address)).cookies
    by_name = {one.partition("=")[0]: one for one in cookies}
    assert "Max-Age=0" in by_name["dcmvault-oidc"]
    assert "SameSite=strict" in by_name["dcmvault"]
    assert "HttpOnly" in by_name["dcmvault"]


def test_a_login_begins_a_session_with_a_token_that_nobody_chose(world: OidcWorld) -> None:
    browser = world.dashboard.browser()
    browser.cookies["dcmvault"] = "chosen-by-mallory"
    assert world.log_in(browser).status == 200
    first = browser.cookies["dcmvault"]
    assert first != "chosen-by-mallory"
    assert browser.post("/logout").status == 303
    assert not is_in(browser)
    world.log_in(browser)
    assert browser.cookies["dcmvault"] != first
    # Who is in already goes on.
    assert browser.get("/login/oidc?next=/runs").header("location") == "/runs"


@pytest.mark.parametrize(
    "where",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "/%0d%0aX: y", "x" * 1900],
)
def test_it_leads_nowhere_else(world: OidcWorld, where: str) -> None:
    answer = world.log_in(world.dashboard.browser(), where=where)
    assert 'content="0;url=/"' in answer.text
    assert "evil" not in answer.text


def test_nobody_else_begins_a_login_in_somebodys_browser(world: OidcWorld) -> None:
    browser = world.dashboard.browser()
    answer = browser.get("/login/oidc", {"Sec-Fetch-Site": "cross-site"})
    assert (answer.status, answer.header("location"), browser.cookies) == (303, "/login", {})
    assert world.provider.asked == []


def test_an_account_of_the_same_name_is_never_taken_over(world: OidcWorld) -> None:
    """Nor does somebody else get it who is called the same at the provider."""
    world.dashboard.add("ana", Role.ADMINISTRATOR)
    world.provider.people["other"] = {"preferred_username": "ANA", "groups": "readers"}
    browser, other = world.dashboard.browser(), world.dashboard.browser()
    world.log_in(browser)
    world.log_in(other, "other")
    assert _accounts(world) == {
        "root": Role.ADMINISTRATOR,
        "ana": Role.ADMINISTRATOR,
        "oidc:ana": Role.OPERATOR,
        "oidc:ana-2": Role.VIEWER,
    }
    # Another name, and the same person: the same account.
    world.provider.people[ANA]["preferred_username"] = "Root"
    world.log_in(world.dashboard.browser())
    assert len(_accounts(world)) == 4
    for name in ("oidc:ana", "OIDC:ana"):
        assert world.dashboard.browser().log_in(name, "").status == 401
        assert world.dashboard.browser().log_in(name).status == 401


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("José da Silva", "oidc:jose-da-silva"),
        ("<script>alert(1)</script>", "oidc:script-alert-1-script"),
        ("a" * 500, "oidc:" + "a" * 48),
        (7, None),
        ("健", None),
    ],
)
def test_names_are_made_harmless(world: OidcWorld, called: object, name: str | None) -> None:
    world.provider.people[ANA]["preferred_username"] = called
    assert world.log_in(world.dashboard.browser()).status == 200
    made = (set(_accounts(world)) - {"root"}).pop()
    assert made == name if name else len(made) == len("oidc:") + 12
    root = world.dashboard.browser()
    root.log_in("root")
    assert root.get(f"/accounts/{made}").status == 200
    assert "<script>alert" not in root.get("/accounts").text


def test_the_role_is_that_of_each_login(world: OidcWorld) -> None:
    """A session with the role before ends; without a role nobody is let in, or stays in."""
    old, new = world.dashboard.browser(), world.dashboard.browser()
    world.log_in(old)
    world.provider.people[ANA]["groups"] = ["readers", "it"]
    world.log_in(new)
    assert _accounts(world)["oidc:ana"] is Role.ADMINISTRATOR, "the highest of several"
    assert new.get("/settings").status == 200
    assert not is_in(old)
    world.provider.people[ANA]["groups"] = []
    answer = world.log_in(old)
    assert answer.status == 401
    assert "gives you no role here" in answer.text
    assert not is_in(new)
    told = world.dashboard.journal()[-1]
    assert (told["event"], told["actor"]["name"]) == ("login.failed", "oidc:ana")
    assert told["details"] == {"how": "oidc", "reason": "role", "subject": ANA}


@pytest.mark.parametrize(
    ("claim", "claims", "role"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["it"]}}, Role.ADMINISTRATOR),
        ("https://x.example/role", {"https://x.example/role": "it"}, Role.ADMINISTRATOR),
        ("a.b", {"a": ["it"]}, None),
        ("a.b", {"a": {"b": {"it": True}}}, None),
        ("groups", {"groups": ["IT", 7, None, ["it"]]}, None),
        ("groups", {"groups": "it readers"}, None),
        ("roles", {}, None),
    ],
)
def test_where_roles_are_looked_for(
    claim: str, claims: dict[str, object], role: Role | None
) -> None:
    section = OidcSection(
        issuer="https://x.example",
        client_id="dcmvault",
        redirect_uri="https://y.example/login/oidc/back",
        role_claim=claim,
        roles={"it": "administrator", "readers": "viewer"},
    )
    assert role_of(claims, section) is role


def test_who_is_disabled_stays_out(world: OidcWorld) -> None:
    browser = world.dashboard.browser()
    world.log_in(browser)
    world.dashboard.doors.accounts.set_disabled("oidc:ana", disabled=True)
    assert not is_in(browser)
    answer = world.log_in(browser)
    assert (answer.status, "disabled" in answer.text) == (401, True)


def test_such_an_account_gets_neither_password_nor_role_here(world: OidcWorld) -> None:
    world.log_in(world.dashboard.browser())
    desk = world.dashboard.doors.accounts
    for change in (
        lambda: desk.set_password("oidc:ana", "another horse battery"),
        lambda: desk.set_role("oidc:ana", Role.ADMINISTRATOR),
        lambda: desk.make_link("oidc:ana"),
        lambda: desk.set_totp("oidc:ana", b"x" * 20, []),
    ):
        with pytest.raises(UsageError, match="logs in at the identity provider"):
            change()
    with pytest.raises(UsageError):
        desk.add("oidc:bob", PASSWORD, Role.VIEWER)
    desk.remove("oidc:ana")
    assert world.log_in(world.dashboard.browser()).status == 200, "and may come again"


def test_the_last_administrator_is_one_who_needs_no_provider(world: OidcWorld) -> None:
    world.provider.people[ANA]["groups"] = ["it"]
    world.log_in(world.dashboard.browser())
    desk = world.dashboard.doors.accounts
    with pytest.raises(UsageError, match="last administrator"):
        desk.remove("root")
    desk.remove("oidc:ana")


def test_the_pages_of_accounts_know_who_has_no_password(world: OidcWorld) -> None:
    world.provider.people[ANA]["groups"] = ["it"]
    browser = world.dashboard.browser()
    world.log_in(browser)
    mine = browser.get("/account")
    assert world.provider.issuer in mine.text
    assert "/account/password" not in mine.text
    assert "/account/codes" not in mine.text
    answer = browser.post("/accounts/add", {"name": "bob", "role": "viewer", "current": ""})
    assert (answer.status, "has no password here" in answer.text) == (422, True)
    root = world.dashboard.browser()
    root.log_in("root")
    page = root.get("/accounts/oidc:ana").text
    assert "/accounts/oidc%3Aana/disable" in page
    assert "/accounts/oidc%3Aana/link" not in page
    assert "/accounts/oidc%3Aana/role" not in page
    answer = root.post("/accounts/oidc:ana/link", {"current": PASSWORD})
    assert "logs in at the identity provider" in answer.text
    assert answer.status == 422


def test_the_first_account_is_made_on_the_machine(world: OidcWorld) -> None:
    world.dashboard.doors.accounts.book.remove("root")
    answer = world.log_in(world.dashboard.browser())
    assert (answer.status, "made on the machine itself" in answer.text) == (401, True)
    assert _accounts(world) == {}


def test_sessions_end_when_the_provider_is_another_one(tmp_path: Path) -> None:
    with oidc_world(tmp_path) as world:
        browser = world.dashboard.browser()
        world.log_in(browser)
        cookies = dict(browser.cookies)
    (tmp_path / "config.toml").write_text("")
    with dashboard_in(tmp_path) as dashboard:
        browser = dashboard.browser()
        browser.cookies = cookies
        assert not is_in(browser)
        assert "/login/oidc" not in browser.get("/login").text
        for path in ("/login/oidc", "/login/oidc/back?state=x"):
            assert browser.get(path).status == 404


def test_without_the_extra_there_is_no_button(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever has a password comes in."""
    monkeypatch.setitem(__import__("sys").modules, "dcmvault.app.oidc_tokens", None)
    with oidc_world(tmp_path) as world:
        browser = world.dashboard.browser()
        assert "/login/oidc" not in browser.get("/login").text
        assert browser.get("/login/oidc").status == 404
        assert browser.log_in("root").status == 303


def test_the_settings_show_where_people_log_in(world: OidcWorld) -> None:
    """The secret is a reference, and other fields are saved as before."""
    root = world.dashboard.browser()
    root.log_in("root")
    page = root.get("/settings/web")
    assert page.status == 200
    assert world.provider.issuer in page.text
    assert world.provider.client_secret not in page.text
    written = re.search(r'name="oidc"[^>]*value="([^"]*)"', page.text)
    assert written is not None
    typed = {"path": "web", "idle_minutes": "20", "oidc": html.unescape(written[1])}
    proposed = root.post("/settings/propose", typed)
    assert "idle_minutes = 20" in proposed.text
    assert 'class="gone">-[web.oidc]' not in proposed.text
    typed["oidc"] = typed["oidc"].replace("administrator", "owner")
    assert (
        "Write one of: viewer, operator, administrator."
        in root.post("/settings/propose", typed).text
    )


def test_doctor_asks_the_provider(world: OidcWorld, tmp_path: Path) -> None:
    """As a login would, but for somebody who logs in."""

    def told() -> Check:
        path = world.dashboard.workplace.home / "config.toml"
        return next(one for one in examine(tmp_path, path) if one.name == "identity provider")

    assert told().ok
    assert "answers, with 1 key" in told().detail
    world.provider.lies.document = {"issuer": "https://evil.example"}
    assert (told().ok, "calls itself otherwise" in told().detail) == (False, True)
    world.secret.chmod(0o644)
    assert "open to other users" in told().detail
    world.secret.chmod(0o600)


def test_what_else_can_be_said(tmp_path: Path) -> None:
    more = 'button = "Entrar <pelo> hospital"\nscopes = []'
    with oidc_world(tmp_path, more, SigningKey("curve", "ES256")) as world:
        browser = world.dashboard.browser()
        assert "Entrar &lt;pelo&gt; hospital" in browser.get("/login").text
        world.provider.lies.document = {
            "token_endpoint_auth_methods_supported": ["client_secret_post"]
        }
        address = world.begun(browser)
        assert "scope=openid&" in address
        assert world.back(browser, world.proven(address)).status == 200
        assert is_in(browser)
