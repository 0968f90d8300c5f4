"""What the stories have in common: a daemon that nobody has been to, and somebody who logs in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from scripts.dashboard_demo import axe, serving

#: So long nothing here takes, however busy the machine is.
GENEROUS_S = 180.0
GENEROUS_MS = GENEROUS_S * 1000
PASSWORD = "correct horse battery staple"


def asked(told: Mapping[str, Any], path: str, body: bytes | None = None) -> Any:
    """Ask the API; return its decoded answer."""
    headers = {"Authorization": f"Bearer {told['token']}"}
    request = urllib.request.Request(told["address"] + path, body, headers)
    with urllib.request.urlopen(request, timeout=GENEROUS_S) as answer:
        return json.load(answer)


def ended(told: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    """Wait until there are so many runs and all ended; return them, the newest first."""

    def are_ended() -> list[Mapping[str, Any]]:
        runs: list[Mapping[str, Any]] = asked(told, "/api/runs")["runs"]
        return runs if len(runs) >= count and all(one["finished_at"] for one in runs) else []

    runs: list[Mapping[str, Any]] = until("the runs end", are_ended)
    return runs


def until(what: str, found: Callable[[], Any]) -> Any:
    """Ask until something is found, and return it."""
    deadline = time.monotonic() + GENEROUS_S
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.2)
    pytest.fail(f"it never came so far that {what}")


@dataclass(frozen=True)
class World:
    """A daemon with a source, a vault and a PACS, and the way in for somebody with an account."""

    told: Mapping[str, Any]
    folder: Path
    #: Cookies of somebody who logged in.
    session: Any

    @property
    def studies(self) -> Path:
        """The folder of the source."""
        return self.folder / "studies"

    def window(self, chromium: Browser, **how: Any) -> BrowserContext:
        """Open a window in which that person is logged in; the caller closes it."""
        context = chromium.new_context(
            base_url=self.told["address"], storage_state=self.session, **{"locale": "en", **how}
        )
        context.set_default_timeout(GENEROUS_MS)
        return context


CONFIGURATION = """\
{top}
[retry]
attempts = 20
wait_s = 0.2
longest_wait_s = 3
[monitoring]
probe_every_s = 1
[sources.workstation]
address = "{folder}/studies"
[destinations.vault]
address = "vault:{folder}/vault"
key_file = "{folder}/vault.key"
[destinations.pacs]
address = "{pacs}?calling=DCMVAULT"
{of_the_pacs}
[plans.nightly]
sources = ["workstation"]
destinations = ["vault", "pacs"]
"""


@contextmanager
def world(
    chromium: Browser, folder: Path, pacs: str, *, top: str = "", of_the_pacs: str = ""
) -> Iterator[World]:
    """Run a daemon with an empty vault and this PACS; the first account is made in a browser."""
    home = folder / "state"
    for name in ("state", "studies"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "vault").mkdir(mode=0o700)
    (folder / "vault.key").write_bytes(b"k" * 32)
    (folder / "vault.key").chmod(0o600)
    text = CONFIGURATION.format(top=top, folder=folder, pacs=pacs, of_the_pacs=of_the_pacs)
    (home / "config.toml").write_text(text, encoding="utf-8")
    subprocess.run(
        [
            *(sys.executable, "-m", "dcmvault", "vault", "init", "vault"),
            *("--key-file", str(folder / "vault.key")),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "DCMVAULT_HOME": str(home), "HOME": str(home), "NO_COLOR": "1"},
        timeout=GENEROUS_S,
    )
    with serving(home, home) as told:
        context = chromium.new_context(base_url=told["address"], locale="en")
        context.set_default_timeout(GENEROUS_MS)
        make_account(context.new_page(), told)
        session = context.storage_state()
        context.close()
        yield World(told, folder, session)


def make_account(page: Page, told: Mapping[str, Any]) -> None:
    """Follow the first link, and make the first account: what follows are the first steps."""
    page.goto(told["first_link"])
    page.fill("[name=name]", "ana")
    for field in ("password", "again"):
        page.fill(f"[name={field}]", PASSWORD)
    page.locator("main form button").click()
    page.wait_for_url("**/wizard/language")


def looked_at(page: Page, width: int) -> None:
    """Hold a page against what holds for every page."""
    assert axe(page) == [], page.url
    assert page.evaluate("document.documentElement.scrollWidth") <= width, page.url
    words = set(page.locator("body").inner_text().split())
    assert not {"None", "undefined", "NaN"} & words, page.url
