"""What a browser loads at first, with nothing kept: bytes, and until the page can be used."""

from __future__ import annotations

from pathlib import Path

from bench.vault_figures.table import Row
from playwright.sync_api import Browser
from scripts.dashboard_demo import Dashboard, browser, dashboard

from dcmvault.testing.dicom_files import make_study

_ASKED_KB, _ASKED_MS = 300.0, 1000.0
_TIMES = 10
_PAGES = {"login page": "/login", "overview": "/"}
#: From the beginning of navigation: all scripts have run, and all is loaded.
_LOADED_MS = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def first_load_rows(folder: Path) -> list[Row]:
    """Load the login page and the overview in browsers that have never been there."""
    make_study(folder / "made", key="one", instances=2)
    files = sorted(path for path in (folder / "made").rglob("*") if path.is_file())
    rows = []
    with dashboard(folder / "board", files) as board, browser() as running:
        for what, path in _PAGES.items():
            loads = [_load(running, board, path) for _ in range(_TIMES)]
            size = max(one[0] for one in loads)
            taken = sorted(one[1] for one in loads)
            beside = f"{max(one[2] for one in loads)} requests"
            rows += [
                _row(f"first load, {what}: in all", size / 1000, beside, _ASKED_KB, " kB"),
                _row(
                    f"first load, {what}: ready, slowest of {_TIMES}",
                    taken[-1],
                    f"median {taken[len(taken) // 2]:.0f} ms",
                    _ASKED_MS,
                    " ms",
                ),
            ]
    return rows


def _row(what: str, value: float, beside: str, asked: float, unit: str) -> Row:
    return Row(what, f"{value:.0f}{unit}", beside, value, asked, unit)


def _load(running: Browser, board: Dashboard, path: str) -> tuple[int, float, int]:
    """Return bytes on the wire, milliseconds and requests of one first load."""
    # A context of its own has nothing in its cache.
    headers = {} if path == "/login" else {"Authorization": f"Bearer {board.token}"}
    context = running.new_context(base_url=board.address, extra_http_headers=headers)
    try:
        page = context.new_page()
        wire = context.new_cdp_session(page)
        sizes: list[int] = []
        wire.on("Network.loadingFinished", lambda said: sizes.append(said["encodedDataLength"]))
        wire.send("Network.enable")
        wire.send("Network.setCacheDisabled", {"cacheDisabled": True})
        page.goto(path, wait_until="load")
        page.wait_for_function(f"{_LOADED_MS} > 0")
        # What scripts fetch by themselves at once belongs to it.
        page.wait_for_timeout(300)
        return int(sum(sizes)), float(page.evaluate(_LOADED_MS)), len(sizes)
    finally:
        context.close()
