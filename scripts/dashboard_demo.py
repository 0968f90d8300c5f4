"""A dashboard to look at: a daemon with real studies behind it, and a browser in front of it.

Both the tests and `make screenshots` use it, so that what is photographed is what is tested.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from scripts.peer_packages import find_chromium, require

ROOT = Path(__file__).resolve().parent.parent
_AXE = ROOT / ".cache" / "assets" / "axe.min.js"
#: Seconds that nothing here takes, however busy the machine is.
_GENEROUS_S = 120.0
_CONFIGURATION = """\
[retry]
wait_s = 0
[sources.workstation]
address = "{folder}/studies"
[destinations.vault]
address = "vault:{folder}/vault"
key_file = "{folder}/vault.key"
[destinations.copies]
address = "{folder}/copies"
[destinations.pacs]
address = "dicom://PACS@127.0.0.1:{pacs_port}?calling=DCMVAULT"
[plans.nightly]
sources = ["workstation"]
destinations = ["vault", "copies"]
[plans.to-the-pacs]
sources = ["workstation"]
destinations = ["pacs"]
[schedules.nightly]
plan = "nightly"
cron = "0 2 * * *"
"""


@dataclass(frozen=True)
class Dashboard:
    """A daemon that runs, and what its pages ask for."""

    address: str
    token: str
    #: Its state folder, and the folder of everything.
    home: Path
    folder: Path

    def run(self, *arguments: str) -> int:
        """Run a command beside the daemon; return its exit status."""
        return _run(self.home, *arguments)


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "DCMVAULT_HOME": str(home), "NO_COLOR": "1"}


def _run(home: Path, *arguments: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "dcmvault", *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(home),
        timeout=_GENEROUS_S,
    ).returncode


def lay_out(folder: Path, files: Sequence[Path], pacs_port: int = 0) -> Path:
    """Put studies, an empty vault and a configuration into a folder; return the state folder.

    Without a port the PACS is one that does not answer.
    """
    home = folder / "state"
    for name in ("state", "studies", "copies"):
        (folder / name).mkdir(parents=True)
    (folder / "vault").mkdir(mode=0o700)
    for number, path in enumerate(files):
        shutil.copyfile(path, folder / "studies" / f"{number:03}.dcm")
    key = folder / "vault.key"
    key.write_bytes(secrets.token_bytes(32))
    key.chmod(0o600)
    text = _CONFIGURATION.format(folder=folder, pacs_port=pacs_port or nobody())
    (home / "config.toml").write_text(text, encoding="utf-8")
    if _run(home, "vault", "init", "vault", "--key-file", str(key)):
        message = "the vault could not be made"
        raise RuntimeError(message)
    return home


def nobody() -> int:
    """Return a port at which nobody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def dashboard(folder: Path, files: Sequence[Path], *, pacs_port: int = 0) -> Iterator[Dashboard]:
    """Run a daemon in an empty folder: these files are backed up, also to a PACS, if it is there.

    Without a port the PACS is away.
    """
    home = lay_out(folder, files, pacs_port)
    with serving(home, folder) as told:
        board = Dashboard(told["address"], told["token"], home, folder)
        for plan in ("nightly", "to-the-pacs"):
            run_plan(board, plan)
        yield board


@contextmanager
def serving(home: Path, folder: Path) -> Iterator[Mapping[str, str]]:
    """Run a daemon whose person lives in `folder`; yield what it tells."""
    with subprocess.Popen(
        [sys.executable, "-m", "dcmvault", "serve", "--web-port", "0", "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        env={**_environment(home), "HOME": str(folder)},
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            try:
                process.communicate(timeout=_GENEROUS_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def run_plan(board: Dashboard, plan: str) -> None:
    """Have a plan run, and wait until it ended."""
    _asked(board, f"/api/plans/{plan}/runs", b"")
    wait_for_runs(board)


def wait_for_runs(board: Dashboard) -> None:
    """Wait until every run that was begun has ended."""
    deadline = time.monotonic() + _GENEROUS_S
    while any(one["finished_at"] is None for one in _asked(board, "/api/runs")["runs"]):
        if time.monotonic() > deadline:
            message = "the runs do not end"
            raise RuntimeError(message)
        time.sleep(0.2)


def _asked(board: Dashboard, path: str, body: bytes | None = None) -> Any:
    headers = {"Authorization": f"Bearer {board.token}"}
    request = urllib.request.Request(board.address + path, body, headers)
    with urllib.request.urlopen(request, timeout=_GENEROUS_S) as answer:
        return json.load(answer)


@contextmanager
def browser() -> Iterator[Browser]:
    """Run Debian's Chromium; PeerMissingError where it is not installed."""
    program = require(find_chromium(), "chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program)
        try:
            yield running
        finally:
            running.close()


def look(
    running: Browser,
    board: Dashboard,
    *,
    language: str = "en",
    theme: str = "light",
    width: int = 1280,
    height: int = 850,
    has_scripts: bool = True,
    may_see: bool = True,
) -> BrowserContext:
    """Open a window of its own; the caller closes it.

    It may see everything, or is somebody's who has to log in.
    """
    context = running.new_context(
        base_url=board.address,
        locale=language,
        color_scheme="dark" if theme == "dark" else "light",
        viewport={"width": width, "height": height},
        extra_http_headers={"Authorization": f"Bearer {board.token}"} if may_see else {},
        reduced_motion="reduce",
        java_script_enabled=has_scripts,
    )
    context.set_default_timeout(_GENEROUS_S * 1000)
    return context


def axe(page: Page) -> list[str]:
    """Return what axe finds serious or critical on a page (WCAG 2.1 A and AA), in words.

    It is run by the debugger, which no policy of the page binds.
    """
    if not _AXE.is_file():
        message = "axe is not there. Fetch it once: make assets"
        raise RuntimeError(message)
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE.read_text(encoding="utf-8"))
    found: Mapping[str, Sequence[Mapping[str, object]]] = page.evaluate(
        "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"
    )
    return [
        f"{one['id']}: {one['help']}: {_targets(one['nodes'])}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def _targets(nodes: object) -> str:
    assert isinstance(nodes, list)
    return "; ".join(str(node["target"]) for node in nodes[:5])
