"""A dashboard whose people log in at a provider, and browsers that go there and back."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from functools import cache
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.unit.web.dashboard_world import HOST, Answer, Browser, Dashboard, dashboard_in

from dcmvault.config.oidc_section import REDIRECT_PATH
from dcmvault.model.account import Role
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.identity_provider import IdentityProvider, Lies, SigningKey

CONFIGURATION = """\
[web.oidc]
issuer = "{issuer}"
client_id = "dcmvault"
client_secret = "file:{secret}"
redirect_uri = "{back}"
roles = {{readers = "viewer", radiology = "operator", it = "administrator"}}
{more}
"""
ANA = "ana-4711"
#: From where a provider's page leads.
CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}


@cache
def rsa_key(kid: str = "first") -> SigningKey:
    """Make a key once; it costs a moment."""
    return SigningKey(kid)


class _NothingFollowed(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        return None


_OPENER = urllib.request.build_opener(_NothingFollowed, urllib.request.ProxyHandler({}))


@dataclass
class OidcWorld:
    """The dashboard, and the provider."""

    dashboard: Dashboard
    provider: IdentityProvider
    key: SigningKey
    #: The file of the client's secret.
    secret: Path

    def anew(self) -> OidcWorld:
        """Forget what tests did before; it is as it was when it was opened, some days later."""
        desk = self.dashboard.doors.accounts
        for account in desk.accounts():
            desk.book.remove(account.name)
        self.dashboard.add("root", Role.ADMINISTRATOR)
        # What failed is forgotten, and so is what the provider said.
        self.dashboard.clock.advance(200_000)
        self.secret.write_text(self.provider.client_secret)
        self.provider.lies = Lies()
        self.provider.key = self.key
        self.provider.asked.clear()
        self.provider.people = {
            ANA: {"preferred_username": "Ana", "groups": ["staff", "radiology"]}
        }
        return self

    def begun(self, browser: Browser, where: str = "/") -> str:
        """Press the button; return the provider's address that it leads to."""
        answer = browser.get(f"/login/oidc?{urlencode({'next': where})}")
        assert answer.status == 303, answer.text
        return answer.header("location")

    def proven(self, address: str, subject: str = ANA) -> str:
        """Log in at the provider; return the way back that it leads to."""
        form = {**dict(parse_qsl(urlsplit(address).query)), "subject": subject}
        with _OPENER.open(address, timeout=60) as page:
            assert page.status == 200
        body = urlencode(form).encode()
        try:
            _OPENER.open(address.partition("?")[0], body, timeout=60).close()
        except urllib.error.HTTPError as redirection:
            redirection.close()
            back = redirection.headers["Location"]
        assert back.startswith(self.provider.redirect_uri)
        return str(back).removeprefix(f"http://{HOST}")

    def back(self, browser: Browser, path: str) -> Answer:
        """Come back from the provider, which is another site."""
        # Cookies that are strict stay behind.
        kept, browser.cookies = (
            browser.cookies,
            {name: value for name, value in browser.cookies.items() if name.endswith("-oidc")},
        )
        answer = browser.get(path, CROSS_SITE)
        gone = {name for name in kept if name.endswith("-oidc")}
        rest = {name: value for name, value in kept.items() if name not in gone}
        browser.cookies = {**rest, **browser.cookies}
        return answer

    def log_in(self, browser: Browser, subject: str = ANA, where: str = "/") -> Answer:
        """Go all the way."""
        return self.back(browser, self.proven(self.begun(browser, where), subject))


def is_in(browser: Browser) -> bool:
    """Say whether a browser is let in."""
    return browser.get("/api/runs").status == 200


@contextmanager
def oidc_world(
    home: Path, more: str = "", key: SigningKey | None = None, address: str = f"http://{HOST}"
) -> Iterator[OidcWorld]:
    """Make a dashboard with one administrator of its own, and a provider that knows Ana."""
    back = f"{address}{REDIRECT_PATH}"
    with IdentityProvider(FakeClock(), back, key or rsa_key()) as provider:
        secret = home / "oidc-secret"
        text = CONFIGURATION.format(issuer=provider.issuer, secret=secret, back=back, more=more)
        (home / "config.toml").write_text(text, encoding="utf-8")
        secret.touch(mode=0o600)
        with dashboard_in(home) as dashboard:
            provider.clock = dashboard.clock
            yield OidcWorld(dashboard, provider, provider.key, secret).anew()
