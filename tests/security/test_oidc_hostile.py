"""Providers, browsers and people that mean no good, at the login by OpenID Connect."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.integration.tls_world import Authority, server_context
from tests.security import forged_tokens as forged
from tests.unit.web.oidc_world import ANA, OidcWorld, is_in, oidc_world, rsa_key

from dcmvault.app import oidc_provider
from dcmvault.app.oidc import tried_provider
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.config.oidc_section import OidcSection
from dcmvault.errors import LoginServiceError, TlsRefusedError
from dcmvault.testing.identity_provider import IdentityProvider, Lies, SigningKey


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcWorld]:
    with oidc_world(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture
def world(opened: OidcWorld) -> OidcWorld:
    return opened.anew()


def _is_refused(world: OidcWorld, reason: str, status: int = 401) -> None:
    """Log in; hold against what everybody who is refused sees, and what the journal tells."""
    browser = world.dashboard.browser()
    answer = world.log_in(browser)
    assert answer.status == status
    assert 'role="alert"' in answer.text
    assert 'name="password"' in answer.text
    assert "dcmvault" not in browser.cookies
    assert "dcmvault-oidc" not in browser.cookies, "what was brought back is used up"
    assert not is_in(browser)
    assert [one.name for one in world.dashboard.doors.accounts.accounts()] == ["root"]
    told = world.dashboard.journal()[-1]
    assert told["event"] == "login.failed"
    assert told["actor"]["name"] == "unknown"
    assert told["details"] == {"how": "oidc", "reason": reason}


WRONG: Mapping[str, Lies] = {
    "algorithm": Lies(token=lambda claims: forged.unsigned(claims, {"alg": "none"})),
    "signature": Lies(token=lambda claims: SigningKey("first").token(claims)),
    "form": Lies(claims=lambda claims: {**claims, "groups": ["radiology"] * 7_000}),
    "issuer": Lies(claims=lambda claims: {**claims, "iss": "https://evil.example"}),
    "audience": Lies(claims=lambda claims: {**claims, "aud": "wiki"}),
    "expired": Lies(claims=lambda claims: {**claims, "exp": claims["exp"] - 400}),
    "nonce": Lies(claims=lambda claims: {**claims, "nonce": "x" * 43}),
}


@pytest.mark.parametrize("reason", WRONG)
def test_a_token_that_is_not_for_this(world: OidcWorld, reason: str) -> None:
    """All that a token can have wrong is in `test_oidc_tokens_hostile`."""
    world.provider.lies = WRONG[reason]
    _is_refused(world, reason)


def test_a_public_key_is_no_secret(world: OidcWorld) -> None:
    world.provider.lies.token = lambda claims: forged.by_public_key(claims, "pem")
    _is_refused(world, "algorithm")


def test_no_token_at_all(world: OidcWorld) -> None:
    world.provider.lies.token = lambda _claims: ""
    assert world.log_in(world.dashboard.browser()).status == 503


def test_keys_that_are_rotated_are_asked_for_once_in_a_while(world: OidcWorld) -> None:
    assert world.log_in(world.dashboard.browser()).status == 200
    world.provider.key = SigningKey("second", "ES256")
    world.dashboard.clock.advance(31)
    assert world.log_in(world.dashboard.browser()).status == 200
    assert world.provider.asked.count("/keys") == 2
    assert world.provider.asked.count("/.well-known/openid-configuration") == 1
    # Names that nobody has make us ask no more often.
    unknown = SigningKey("third", "ES256")
    world.provider.lies.token = unknown.token
    for _attempt in range(3):
        assert world.log_in(world.dashboard.browser()).status == 401
    assert world.provider.asked.count("/keys") == 2


@pytest.mark.parametrize(
    "keys",
    [
        b"x" * (1 << 20),
        b'{"keys": [' + b"{}," * 80 + b"{}]}",
        b'{"keys": {}}',
        b"[" * 100_000,
        b"{}",
        b"",
    ],
    ids=["a mebibyte", "many", "no list", "deep", "none", "nothing"],
)
def test_keys_that_are_too_many_or_none(world: OidcWorld, keys: bytes) -> None:
    world.provider.lies.keys = keys or b" "
    browser = world.dashboard.browser()
    answer = world.log_in(browser)
    assert answer.status == 503
    assert "identity provider does not answer" in answer.text
    assert not is_in(browser)


# What a browser brings back


def test_a_state_of_another_browser(world: OidcWorld) -> None:
    """Who leads somebody back with an own code does not log them in as oneself."""
    mallory, victim = world.dashboard.browser("10.6.6.6"), world.dashboard.browser()
    back = world.proven(world.begun(mallory))
    lines = len(world.dashboard.journal())
    answer = world.back(victim, back)
    assert (answer.status, "not begun in this browser" in answer.text) == (401, True)
    assert len(world.dashboard.journal()) == lines, "anybody can send a browser here"
    # Nor where that browser is on its own way.
    world.begun(victim)
    assert world.back(victim, back).status == 401
    assert world.dashboard.journal()[-1]["details"]["reason"] == "state"
    assert not is_in(victim)
    assert "/token" not in world.provider.asked


@pytest.mark.parametrize("lie", ["", "x", "x" * 43, "\0", "é"])
def test_a_state_that_is_missing_or_another(world: OidcWorld, lie: str) -> None:
    world.provider.lies.answer = {"state": lie}
    _is_refused(world, "state")
    assert "/token" not in world.provider.asked


def test_a_way_back_works_once(world: OidcWorld) -> None:
    browser = world.dashboard.browser()
    back = world.proven(world.begun(browser))
    ticket = browser.cookies["dcmvault-oidc"]
    assert world.back(browser, back).status == 200
    again = world.dashboard.browser()
    assert world.back(again, back).status == 401
    again.cookies["dcmvault-oidc"] = ticket
    assert world.back(again, back).status == 401, "not even with the cookie of then"
    assert not is_in(again)
    assert world.provider.asked.count("/token") == 1


def test_a_way_back_works_for_ten_minutes(world: OidcWorld) -> None:
    browser = world.dashboard.browser()
    back = world.proven(world.begun(browser))
    world.dashboard.clock.advance(600)
    assert world.back(browser, back).status == 401
    assert "/token" not in world.provider.asked


def test_a_code_works_once_at_the_provider_too(world: OidcWorld) -> None:
    """And only with what the browser's own request was begun with (RFC 7636)."""
    one, two = world.dashboard.browser(), world.dashboard.browser()
    stolen = world.proven(world.begun(one)).partition("code=")[2].partition("&")[0]
    world.provider.lies.answer = {"code": stolen}
    back = world.proven(world.begun(two))
    assert world.back(two, back).status == 401
    assert world.dashboard.journal()[-1]["details"]["reason"] == "code"
    assert not is_in(two)


@pytest.mark.parametrize("carried", ["x", "A" * 400, "A" * 5000, "%00", '"'])
def test_a_ticket_that_nobody_gave(world: OidcWorld, carried: str) -> None:
    browser = world.dashboard.browser()
    browser.cookies["dcmvault-oidc"] = carried
    back = f"/login/oidc/back?{urlencode({'code': 'x', 'state': 'y'})}"
    assert world.back(browser, back).status == 401


def test_an_answer_of_another_provider(world: OidcWorld) -> None:
    world.provider.lies.answer = {"iss": "https://evil.example"}
    _is_refused(world, "issuer")
    # It said that it names itself: one that does not is another.
    world.provider.lies.answer = {"iss": ""}
    _is_refused(world, "issuer")
    assert "/token" not in world.provider.asked


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("access_denied", "access_denied"),
        ("<script>alert(1)</script>", "unknown_error"),
        ("x" * 1999, "unknown_error"),
    ],
)
def test_who_is_refused_there_hears_no_words_of_others(
    world: OidcWorld, said: str, reason: str
) -> None:
    world.provider.lies.answer = {"error": said, "error_description": said}
    _is_refused(world, reason)
    browser = world.dashboard.browser()
    answer = world.log_in(browser)
    assert reason in answer.text
    assert "alert(1)" not in answer.text
    assert 'name="here" value="/login"' in answer.text, "the used address is not come back to"


def test_guessing_becomes_slow(world: OidcWorld) -> None:
    """For the address from which it is done, and nobody else."""
    world.provider.lies.answer = {"code": "guessed"}
    statuses = [world.log_in(world.dashboard.browser("10.6.6.6")).status for _attempt in range(22)]
    assert statuses == [401] * 20 + [429] * 2
    world.provider.lies.answer = {}
    assert world.log_in(world.dashboard.browser("10.0.0.7")).status == 200


# What the provider does


@pytest.mark.parametrize(
    "lie",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": "http://192.0.2.1/token"},
        {"token_endpoint": "ftp://127.0.0.1/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "http://user@127.0.0.1/keys"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "http://evil.example/"},
        {"authorization_endpoint": "https://evil.example/\r\nSet-Cookie: x=y"},
        {"authorization_endpoint": None},
        {"authorization_endpoint": "http://127.0.0.1:99999/"},
        {"code_challenge_methods_supported": ["plain"]},
        {"code_challenge_methods_supported": 7},
        {"token_endpoint_auth_methods_supported": "client_secret_basic"},
    ],
    ids=str,
)
def test_a_document_that_leads_elsewhere(world: OidcWorld, lie: Mapping[str, Any]) -> None:
    world.provider.lies.document = lie
    browser = world.dashboard.browser()
    answer = browser.get("/login/oidc")
    assert (answer.status, answer.header("location")) == (503, "")
    assert 'role="alert"' in answer.text
    assert browser.cookies == {}
    assert world.provider.asked == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys", "/token"])
def test_a_redirection_is_not_followed(world: OidcWorld, path: str) -> None:
    world.provider.lies.redirects = {path: f"{world.provider.issuer}/elsewhere"}
    browser = world.dashboard.browser()
    is_first = path.startswith("/.")
    answer = browser.get("/login/oidc") if is_first else world.log_in(browser)
    assert answer.status == 503
    assert "HTTP status 302" in answer.text
    assert "/elsewhere" not in world.provider.asked
    assert not is_in(browser)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys", "/token"])
def test_a_provider_that_says_nothing(
    world: OidcWorld, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is another one here; it is in force for whatever is asked."""
    monkeypatch.setattr(oidc_provider, "_ANSWER_S", 0.1)
    world.provider.lies.silent = frozenset({path})
    browser = world.dashboard.browser()
    address = "/login/oidc" if path.startswith("/.") else ""
    answer = browser.get(address) if address else world.log_in(browser)
    assert answer.status == 503
    assert "The identity provider does not answer." in answer.text
    assert not is_in(browser)
    assert browser.log_in("root").status == 303, "a password does all the same"


def test_a_provider_that_fails_is_left_alone_for_a_while(world: OidcWorld) -> None:
    world.provider.lies.document = {"issuer": "https://evil.example"}
    for _attempt in range(5):
        assert world.dashboard.browser().get("/login/oidc").status == 503
    assert len(world.provider.asked) == 1
    world.provider.lies.document = {}
    world.dashboard.clock.advance(6)
    assert world.dashboard.browser().get("/login/oidc").status == 303
    # That it failed is held against nobody's address.
    world.provider.lies.redirects = {"/token": "/elsewhere"}
    statuses = {world.log_in(world.dashboard.browser()).status for _attempt in range(25)}
    assert statuses == {503}


def test_a_provider_that_is_slow_holds_few_threads(
    world: OidcWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes while so many wait is told at once."""
    provider = oidc_provider.OidcProvider
    entered, go_on = threading.Semaphore(0), threading.Event()

    def waiting(*_arguments: object) -> Mapping[str, Any]:
        entered.release()
        assert go_on.wait(60)
        return world.provider.document()

    monkeypatch.setattr(provider, "_exchanged", waiting)
    statuses: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: statuses.append(world.dashboard.browser().get("/login/oidc").status)
        )
        for _number in range(4)
    ]
    for thread in threads:
        thread.start()
    for _thread in threads:
        assert entered.acquire(timeout=60)
    answer = world.dashboard.browser().get("/login/oidc")
    assert (answer.status, "at once" in answer.text) == (503, True)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert statuses == [303] * 4
    monkeypatch.undo()
    # That many came is no failure of the provider.
    assert world.log_in(world.dashboard.browser()).status == 200


def test_over_tls_the_provider_is_the_one_that_an_authority_vouches_for(tmp_path: Path) -> None:
    """And it leads to nothing without TLS, not even on this machine."""
    authority = Authority(tmp_path)
    tls = server_context(authority.issue("provider"))
    with IdentityProvider(SystemClock(), "", rsa_key(), tls) as provider:
        section = OidcSection(
            issuer=provider.issuer,
            client_id="dcmvault",
            redirect_uri="https://backup.example/login/oidc/back",
            roles={"it": "administrator"},
            tls_ca_file=str(authority.ca_file),
        )
        assert tried_provider(section, SystemClock()) == 1
        with pytest.raises(LoginServiceError) as refused:
            tried_provider(section.model_copy(update={"tls_ca_file": ""}), SystemClock())
        assert isinstance(refused.value.__cause__, TlsRefusedError)
        provider.lies.document = {"jwks_uri": provider.issuer.replace("https", "http") + "/keys"}
        with pytest.raises(LoginServiceError, match="as OpenID Connect asks"):
            tried_provider(section, SystemClock())


def test_a_secret_that_the_provider_does_not_take(world: OidcWorld) -> None:
    """It is read when it is needed, and shown nowhere."""
    for secret in ("wrong", ""):
        world.secret.write_text(secret)
        answer = world.log_in(world.dashboard.browser())
        assert answer.status == 503
        assert "wrong" not in answer.text
    assert all("secret: of nobody" not in json.dumps(one) for one in world.dashboard.journal())


def test_somebody_without_a_role(world: OidcWorld) -> None:
    """Whatever else the provider says of them."""
    world.provider.people[ANA] = {"groups": ["staff"], "role": "administrator", "roles": ["it"]}
    answer = world.log_in(world.dashboard.browser())
    assert answer.status == 401
    assert "gives you no role here" in answer.text
    assert [one.name for one in world.dashboard.doors.accounts.accounts()] == ["root"]
    told = world.dashboard.journal()[-1]
    assert told["details"] == {"how": "oidc", "reason": "role", "subject": ANA}
