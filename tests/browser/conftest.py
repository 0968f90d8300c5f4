"""A dashboard with studies behind it, and a browser: each worker of the suite has one of its own.

The daemon serves all tests of a worker, so no test may spoil it for the others; a test that must
lays out a dashboard of its own. The browser lives as long as a module: while it does, its thread
has an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from scripts.dashboard_demo import Dashboard, browser, dashboard, look
from scripts.peer_packages import PeerMissingError

from dcmvault.testing.dicom_files import make_study

#: What opens a page: its path, and how the window is (see `look`).
OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A daemon with three small studies, two whole copies of each, and a PACS that is away."""
    folder = tmp_path_factory.mktemp("board")
    for key in ("one", "two", "three"):
        make_study(folder / "made" / key, key=key, instances=2)
    files = sorted(path for path in (folder / "made").rglob("*") if path.is_file())
    with dashboard(folder / "all", files) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(browser())
        except PeerMissingError as error:
            pytest.fail(str(error), pytrace=False)
        yield running


@pytest.fixture
def open_page(board: Dashboard, chromium: Browser) -> Iterator[OpenPage]:
    """Open pages in windows of their own; an error of a script or of the policy fails the test."""
    wrong: list[str] = []
    with ExitStack() as stack:

        def opened(path: str, **how: object) -> Page:
            context = stack.enter_context(look(chromium, board, **how))  # type: ignore[arg-type]
            page = context.new_page()
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on(
                "console",
                lambda said: wrong.append(said.text) if said.type == "error" else None,
            )
            page.goto(path)
            return page

        yield opened
    # A page that is not there, or not for somebody, is reported by the browser in these words.
    assert not [one for one in wrong if "Failed to load resource" not in one]


@pytest.fixture
def folder_of_downloads(tmp_path: Path) -> Path:
    """Where a test puts what it takes along."""
    return tmp_path
