"""A dashboard with something behind each of its pages, to be asked for anything."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI
from tests.unit.web.dashboard_world import Dashboard, dashboard_in

from dcmvault.app.plan_runs import start_plan
from dcmvault.testing.dicom_files import make_study

_CONFIGURATION = """\
[retry]
wait_s = 0
[sources.workstation]
address = "{folder}/studies"
[destinations.copies]
address = "{folder}/copies"
[destinations.kept]
address = "vault:{folder}/kept"
passphrase = "file:{folder}/passphrase"
[plans.nightly]
sources = ["workstation"]
destinations = ["copies"]
[schedules.nightly]
plan = "nightly"
cron = "0 2 * * *"
time_zone = "UTC"
"""


@contextmanager
def fuzz_dashboard(folder: Path) -> Iterator[Dashboard]:
    """Open a state folder with two studies, a folder of copies that has them, and no vault yet."""
    for key in ("one", "two"):
        make_study(folder / "studies", key=key, instances=2)
    home = folder / "home"
    for place in (home, folder / "copies"):
        place.mkdir()
    (folder / "passphrase").write_text("a passphrase for nothing", "utf-8")
    (home / "config.toml").write_text(_CONFIGURATION.replace("{folder}", str(folder)), "utf-8")
    with dashboard_in(home) as opened:
        workplace = opened.workplace
        assert workplace.work()
        start_plan(workplace, "nightly")
        while workplace.catalogue.unfinished.unfinished():
            time.sleep(0.02)
        workplace.rest(0)
        yield opened


def application(app: object) -> FastAPI:
    """Return the application within its guards."""
    while not isinstance(app, FastAPI):
        app = app._inner  # type: ignore[attr-defined]
    return app
