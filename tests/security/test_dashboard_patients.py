"""What is the patients' is for who may see them: nothing for viewers, and for others once revealed.

Each attribute, path and error that could tell of a patient has a mark in it; the mark is searched
for in everything that is answered.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pydicom
import pytest
from fastapi.routing import APIRoute
from starlette.types import Message
from tests.security.fuzz_world import application
from tests.unit.web.dashboard_world import HOST, Answer, Browser, Dashboard, dashboard_in

from dcmvault.app.live import LiveWatch
from dcmvault.app.plan_runs import start_plan
from dcmvault.app.schedules import start_due
from dcmvault.daemon.following import Following
from dcmvault.model.account import Role
from dcmvault.testing.dicom_files import make_study
from dcmvault.web.roles import every_route

#: In every value that is a patient's; letters that no word has.
_MARK = "zqx"
_BORN = "19610423"
_ATTRIBUTES = {
    "PatientName": "Zqxfamily^Zqxgiven",
    "PatientID": "ZQX-ID-77",
    "AccessionNumber": "ZQXACC9",
    "StudyDescription": "zqx of the study",
    "SeriesDescription": "zqx of the series",
    "InstitutionName": "Zqx Hospital",
    "ReferringPhysicianName": "Zqxdoctor",
    "PatientBirthDate": _BORN,
    "StudyID": "ZQXS1",
    "ProtocolName": "zqx protocol",
    "StationName": "ZQXSTATION",
    "PatientComments": "zqx comment",
}
_TELLS = re.compile(rf"{_MARK}|{_BORN}|1961-04-23", re.IGNORECASE)
_CONFIGURATION = """\
privacy = "full"
[retry]
wait_s = 0
[sources.workstation]
address = "{folder}/zqx-studies"
[destinations.copies]
address = "{folder}/zqx-copies"
[plans.nightly]
sources = ["workstation", "{folder}/zqx-unnamed"]
destinations = ["copies", "{folder}/zqx-other-copies"]
[plans.broken]
sources = ["{folder}/zqx-missing"]
destinations = ["copies"]
[schedules.nightly]
plan = "nightly"
cron = "0 2 * * *"
time_zone = "UTC"
[schedules.broken]
plan = "broken"
every = "1h"
time_zone = "UTC"
"""


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """Two sources, one of them without a name; a copy that is damaged; a plan that cannot run."""
    folder = tmp_path_factory.mktemp("zqx-world")
    for name in ("zqx-studies", "zqx-unnamed"):
        for made in make_study(folder / name, key=name, instances=2):
            dataset = pydicom.dcmread(made.path)
            for keyword, value in _ATTRIBUTES.items():
                setattr(dataset, keyword, value)
            dataset.save_as(made.path)
    (folder / "zqx-studies" / "zqx-broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 64)
    home = folder / "home"
    for place in (home, folder / "zqx-copies"):
        place.mkdir()
    (home / "config.toml").write_text(_CONFIGURATION.replace("{folder}", str(folder)), "utf-8")
    with dashboard_in(home) as opened:
        workplace = opened.workplace
        start_due(workplace, opened.clock.now())
        opened.clock.advance(7200)
        start_due(workplace, opened.clock.now())
        assert workplace.work()
        start_plan(workplace, "nightly")
        start_plan(workplace, "broken")
        while workplace.catalogue.unfinished.unfinished():
            time.sleep(0.02)
        workplace.rest(0)
        while workplace.catalogue.matrix.recount(datetime.now(UTC) + timedelta(hours=1)):
            pass
        yield opened


def _values(dashboard: Dashboard) -> Mapping[str, list[str]]:
    """Return what stands in the places of addresses: all there is of each kind."""
    catalogue = dashboard.workplace.catalogue
    operator = dashboard.logged_in(Role.OPERATOR).get("/studies").text
    studies = sorted(set(re.findall(r"/studies/(2\.25\.\d+)", operator)))
    series = re.findall(
        r"series[=/](2\.25\.\d+)",
        dashboard.logged_in(Role.OPERATOR).get(f"/studies/{studies[0]}").text,
    )
    return {
        "run_id": ["latest", *(str(one.run_id) for one in catalogue.runs.runs())],
        "study_instance_uid": studies,
        "series_instance_uid": series,
        "name": ["nightly", "broken", "copies"],
        "action": ["backup", "verify"],
        "format_": ["html", "csv", "json", "text"],
        "ending": ["html", "json"],
    }


def _addresses(dashboard: Dashboard) -> list[str]:
    """List every address that can be looked at."""
    values = _values(dashboard)
    found: list[str] = []
    for route in every_route(application(dashboard.app).routes):
        assert isinstance(route, APIRoute)
        if "GET" not in (route.methods or ()) or route.path.startswith(("/assets/", "/welcome/")):
            continue
        paths = [route.path]
        for place in re.findall(r"\{(\w+)", route.path):
            paths = [
                path.replace("{" + place + "}", quote(value, safe=""))
                for path in paths
                for value in values.get(place, ["x"])
            ]
        found += paths
    studies = (
        "order=name",
        "order=date",
        "text=zqx",
        "text=2.25",
        "state=protected",
        "destination=copies",
    )
    queries = [f"/studies?{one}" for one in studies] + [
        f"/studies.csv?{one}" for one in studies[1:]
    ]
    series = values["series_instance_uid"][0]
    queries += [
        f"/studies/{one}?series={series}&problems=true" for one in values["study_instance_uid"]
    ]
    queries += [
        "/runs?show=short",
        "/runs/reports?since=2001-01-01",
        "/runs/reports/file.csv?since=2001-01-01",
    ]
    return [*found, *queries, "/nowhere", "/studies/1.2.3", "/runs/x"]


def _told(browser: Browser, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    return browser.ask("GET", path, headers={"Accept": "text/html", **(headers or {})})


def _leaks(answer: Answer) -> list[str]:
    """Return what an answer tells of patients, with what stands around it."""
    texts = [
        answer.body.decode("utf-8", "replace"),
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    return [
        text[max(0, found.start() - 60) : found.end() + 40]
        for text in texts
        for found in _TELLS.finditer(text)
    ]


def test_a_viewer_is_told_nothing_of_any_patient(dashboard: Dashboard) -> None:
    viewer = dashboard.logged_in(Role.VIEWER)
    told = {}
    addresses = _addresses(dashboard)
    seen = 0
    for path in addresses:
        answer = _told(viewer, path)
        assert answer.status < 500, path
        seen += answer.status == 200
        # What somebody asked for is theirs.
        if leaks := [] if "text=zqx" in path and answer.status != 200 else _leaks(answer):
            told[path] = leaks[:3]
    assert told == {}
    assert seen > 20
    assert len(addresses) > 80


def test_an_operator_is_told_names_once_they_are_revealed(dashboard: Dashboard) -> None:
    """Paths are an operator's business; values of attributes are not, before."""
    operator = dashboard.logged_in(Role.OPERATOR)
    attributes = re.compile(
        "|".join(
            [_BORN, "1961-04-23", *map(re.escape, _ATTRIBUTES.values()), "Zqxfamily", "Zqxgiven"]
        ),
        re.IGNORECASE,
    )
    told = {}
    addresses = _addresses(dashboard)
    for path in addresses:
        answer = _told(operator, path)
        if answer.status == 200 and (
            found := attributes.search(answer.body.decode("utf-8", "replace"))
        ):
            told[path] = found[0]
    assert told == {}
    lines = len(dashboard.journal())
    assert operator.post("/patients/reveal", {"here": "/studies", "reason": "a call"}).status == 303
    written = dashboard.journal()[lines:]
    assert [
        (one["event"], one["actor"]["name"], one["details"]["page"], one["details"]["reason"])
        for one in written
    ] == [("patients.revealed", "operator", "/studies", "a call")]
    assert "Zqxfamily" in operator.get("/studies").text
    dashboard.clock.advance(301)
    assert "Zqxfamily" not in operator.get("/studies").text


def test_who_may_not_see_patients_cannot_reveal_them(dashboard: Dashboard) -> None:
    viewer = dashboard.logged_in(Role.VIEWER)
    lines = len(dashboard.journal())
    assert viewer.post("/patients/reveal", {"here": "/studies"}).status == 403
    assert dashboard.journal()[lines:] == []
    assert not _leaks(viewer.get("/studies"))


async def _streamed(dashboard: Dashboard, browser: Browser) -> bytes:
    """Listen while runs, queues and lanes are told of; return all that came."""
    told, enough = bytearray(), asyncio.Event()

    async def receive() -> Message:
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        told.extend(message.get("body", b""))
        if all(f"event: {topic}".encode() in told for topic in ("run", "queue", "lane")):
            enough.set()

    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": "GET",
        "path": "/api/events",
        "raw_path": b"/api/events",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8765),
        "headers": [(b"host", HOST.encode()), (b"cookie", cookies.encode())],
    }

    async def answered() -> None:
        await dashboard.app(scope, receive, send)

    listening = asyncio.create_task(answered())
    while not dashboard.stream.listeners:
        await asyncio.sleep(0.01)
    workplace = dashboard.workplace
    following = Following(workplace, dashboard.stream, LiveWatch(workplace))
    await asyncio.to_thread(following, datetime(2001, 1, 1, tzinfo=UTC))
    await asyncio.wait_for(listening, 60)
    return bytes(told)


def test_no_event_tells_a_viewer_of_a_patient(dashboard: Dashboard) -> None:
    """All listen to the same events: a viewer hears names and numbers of places in them."""
    heard = asyncio.run(_streamed(dashboard, dashboard.logged_in(Role.VIEWER)))
    assert _TELLS.findall(heard.decode()) == []
    assert b'"destination": "copies"' in heard
    heard = asyncio.run(_streamed(dashboard, dashboard.logged_in(Role.OPERATOR)))
    assert b"zqx-unnamed" in heard
