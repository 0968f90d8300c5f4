"""A login at an OpenID Connect provider in a browser, which keeps cookies as browsers do.

The dashboard is `localhost`, the provider `127.0.0.1`: two sites.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import Browser
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.browser.story_world import GENEROUS_MS, GENEROUS_S, looked_at
from tests.unit.web.oidc_world import ANA, OidcWorld, oidc_world

from dcmvault.config.web_section import WebSection
from dcmvault.web.server import ApiPort


class _Later:
    """Serves what is there once its port is known."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@contextmanager
def _served(folder: Path) -> Iterator[tuple[str, OidcWorld]]:
    later = _Later()
    with ExitStack() as stack:
        port = ApiPort(later, WebSection(), 0)
        stack.callback(port.stop, GENEROUS_S)
        address = f"http://localhost:{port.address.rpartition(':')[2]}"
        world = stack.enter_context(oidc_world(folder, address=address))
        later.app = world.dashboard.app
        yield address, world


def test_there_and_back_again(chromium: Browser, tmp_path: Path) -> None:
    """To the page that was wanted; out; and not in where the provider gives no role."""
    wrong: list[str] = []
    with _served(tmp_path) as (address, world):
        context = chromium.new_context(
            base_url=address, locale="en", viewport={"width": 360, "height": 740}
        )
        context.set_default_timeout(GENEROUS_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        try:
            page.goto("/runs?show=short")
            looked_at(page, 360)
            page.get_by_role("link", name="Log in with my organisation").click()
            page.wait_for_url(f"{world.provider.issuer}/authorize**")
            page.get_by_label("Name").fill(ANA)
            page.get_by_role("button", name="It is me").click()
            page.wait_for_url("**/runs?show=short")
            page.get_by_role("heading", name="Runs and reports").wait_for()
            kept = {one["name"]: one for one in context.cookies()}
            assert kept["dcmvault"]["sameSite"] == "Strict"
            assert kept["dcmvault"]["httpOnly"]
            assert "dcmvault-oidc" not in kept
            page.goto("/account")
            mine = page.locator("#main").inner_text()
            assert "oidc:ana" in mine
            assert world.provider.issuer in mine
            page.get_by_role("button", name="Log out", exact=True).click()
            page.wait_for_url("**/login")
            world.provider.people[ANA]["groups"] = []
            page.get_by_role("link", name="Log in with my organisation").click()
            page.get_by_label("Name").fill(ANA)
            page.get_by_role("button", name="It is me").click()
            page.get_by_role("alert").get_by_text("gives you no role here").wait_for()
            looked_at(page, 360)
        finally:
            context.close()
    assert wrong == []
