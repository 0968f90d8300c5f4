"""Hostile names and addresses in every page and download of the dashboard, after a real backup."""

from __future__ import annotations

import csv
import io
import re
import socket
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import quote

import pydicom
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from tests.unit.web.dashboard_world import Answer, Browser, Dashboard, dashboard_in

from dcmvault.app.schedules import start_due
from dcmvault.model.account import Role
from dcmvault.testing.dicom_files import make_study
from dcmvault.web.roles import every_route

#: Ends an attribute or an element, and begins one that no page of ours has.
_MARKUP = "=1\"'><xss-mark xss-attribute=1>"
_FORMULA = "=HYPERLINK(1)"
#: A file, and what is in it, that no address may lead to.
_SECRET = "not for the browser"
_CONFIGURATION = """
[retry]
wait_s = 0
[destinations.copies]
address = '''{folder}/copies/{path}'''
[plans.hostile]
sources = ['''{folder}/studies''', '''{folder}/{path}''']
destinations = ['copies']
[schedules.hostile]
plan = "hostile"
every = "1h"
time_zone = "UTC"
"""


class _Tags(HTMLParser):
    """Gathers what must not be: elements and attributes that come from names, and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _value in attrs}
        if tag == "xss-mark" or (tag == "script" and "src" not in names):
            self.wrong.append(tag)
        self.wrong += [one for one in names if one.startswith(("on", "xss"))]
        self.wrong += [
            f"{name}={value}"
            for name, value in attrs
            if name in {"href", "src", "action"} and not str(value).startswith(("/", "#", "data:"))
        ]


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """Two sources whose paths, files and studies are hostile, backed up to a hostile path."""
    folder = tmp_path_factory.mktemp("hostile")
    path = _MARKUP.replace("/", "")
    for name in ("studies", path):
        for made in make_study(folder / name, key=name, instances=1, patient_name=_MARKUP):
            dataset = pydicom.dcmread(made.path)
            dataset.PatientID = _FORMULA
            dataset.StudyDescription = _MARKUP
            dataset.StationName = "<xss-mark>"
            dataset.save_as(made.path)
    (folder / "studies" / f"{path}.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 64)
    home = folder / "home"
    home.mkdir()
    (home / "secret.txt").write_text(_SECRET, "utf-8")
    text = _CONFIGURATION.replace("{folder}", str(folder)).replace("{path}", path)
    (home / "config.toml").write_text(text, "utf-8")
    with dashboard_in(home) as opened:
        workplace = opened.workplace
        start_due(workplace, opened.clock.now())
        assert workplace.work()
        browser = opened.logged_in(Role.OPERATOR)
        assert browser.post("/schedules/plans/hostile/run").status == 303
        while workplace.catalogue.unfinished.unfinished():
            time.sleep(0.05)
        workplace.rest(0)
        yield opened


@pytest.fixture(scope="module")
def browser(dashboard: Dashboard) -> Browser:
    """An administrator's, to whom everything is shown."""
    opened = dashboard.logged_in(Role.ADMINISTRATOR)
    assert opened.post("/patients/reveal", {"here": "/"}).status == 303
    return opened


def _application(app: object) -> FastAPI:
    while not isinstance(app, FastAPI):
        app = app._inner  # type: ignore[attr-defined]
    return app


def _runs(dashboard: Dashboard) -> list[str]:
    return [str(one.run_id) for one in dashboard.workplace.catalogue.runs.runs()]


def _addresses(dashboard: Dashboard) -> list[str]:
    """List every address that can be looked at: routes as they are, filled in for what there is."""
    found = []
    for route in every_route(_application(dashboard.app).routes):
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            if route.path.startswith(("/api/", "/assets/", "/welcome/", "/logout")):
                continue
            if "{run_id}" in route.path:
                for run in _runs(dashboard):
                    path = route.path.replace("{run_id}", run)
                    found += [path.replace("{format_}", one) for one in ("html", "csv", "json")]
            else:
                path = re.sub(r"\{format_\}", "csv", route.path)
                found += [re.sub(r"\{[^}]+\}", one, path) for one in ("hostile", "%3Cxss-mark%3E")]
    extra = "?since=%22%3E%3Cxss-mark%3E&destination=%22%3E%3Cxss-mark%3E&who=%22%3E%3Cxss-mark%3E"
    return [
        *dict.fromkeys(found),
        f"/runs/reports{extra}",
        f"/audit{extra}",
        "/%22%3E%3Cxss-mark%3E",
    ]


def test_nothing_foreign_becomes_markup_on_any_page(dashboard: Dashboard, browser: Browser) -> None:
    """Names of patients, stations, places and files; and what is asked for.

    Names in the configuration have letters, digits, “-” and “_” only.
    """
    assert len(_runs(dashboard)) == 2
    wrong, pages = {}, 0
    for path in _addresses(dashboard):
        answer = browser.get(path)
        assert answer.status < 500, path
        if not answer.header("content-type").startswith("text/html"):
            continue
        pages += 1
        tags = _Tags()
        tags.feed(answer.text)
        if tags.wrong:
            wrong[path] = tags.wrong
        assert "default-src 'none'" in answer.header("content-security-policy"), path
    assert wrong == {}
    assert pages > 10


def _files(dashboard: Dashboard, ending: str) -> list[str]:
    return [
        *(f"/runs/{run}/report.{ending}" for run in _runs(dashboard)),
        f"/runs/reports/file.{ending}?since=2001-01-01",
        f"/runs/reports/file.{ending}?destination=copies",
    ]


def test_no_cell_of_a_download_is_a_formula(dashboard: Dashboard, browser: Browser) -> None:
    for path in [*_files(dashboard, "csv"), "/audit/export.csv"]:
        answer = browser.get(path)
        assert answer.status == 200, path
        rows = list(csv.reader(io.StringIO(answer.text)))
        assert len(rows) > 1, path
        cells = [cell for row in rows for cell in row]
        assert not [one for one in cells if one[:1] in set("=+-@\t\r")], path


def _is_attachment(answer: Answer) -> bool:
    named = re.fullmatch(
        r'attachment; filename="[a-z0-9.-]+"', answer.header("content-disposition")
    )
    return named is not None and answer.header("x-content-type-options") == "nosniff"


def test_downloads_are_attachments_under_names_of_ours(
    dashboard: Dashboard, browser: Browser
) -> None:
    paths = [*_files(dashboard, "html"), *_files(dashboard, "csv"), *_files(dashboard, "json")]
    for path in [*paths, "/audit/export.csv", "/audit/export.jsonl"]:
        answer = browser.get(path)
        assert answer.status == 200, path
        assert _is_attachment(answer), path


@pytest.mark.parametrize(
    "name",
    [
        "../secret.txt",
        "..%2fsecret.txt",
        "%2e%2e%2fsecret.txt",
        "..%5csecret.txt",
        "%00",
        "a%0d%0ab",
    ],
)
def test_no_name_leads_to_another_file(dashboard: Dashboard, browser: Browser, name: str) -> None:
    """Each place of each route, raw and escaped."""
    for route in every_route(_application(dashboard.app).routes):
        if not isinstance(route, APIRoute) or "{" not in route.path:
            continue
        if "GET" not in (route.methods or ()) or route.path.startswith("/welcome/"):
            continue
        path = re.sub(r"\{[^}]+\}", name, route.path)
        answer = browser.get(path)
        assert 400 <= answer.status < 500, (path, answer.status)
        assert _SECRET not in answer.text, path


@pytest.mark.parametrize(
    "where",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\t//evil.example",
        "javascript:1",
    ],
)
def test_no_form_leads_elsewhere(browser: Browser, where: str) -> None:
    for path in ("/appearance", "/patients/reveal", "/patients/hide"):
        answer = browser.post(path, {"here": where, "theme": "light"})
        assert (answer.status, answer.header("location")) == (303, "/"), path
    assert browser.post("/patients/reveal", {"here": "/"}).status == 303


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "6.6.6.6", "[::1]:9", "localhost"])
def test_no_answer_leads_to_where_the_host_header_says(browser: Browser, host: str) -> None:
    """Any address is a name of ours, so that none of them may stand in an answer."""
    for path in (
        "/runs/",
        "/api/runs/",
        "/studies/",
        "/account/",
        "/wizard",
        "//runs",
        "/runs/latest",
    ):
        answer = browser.get(path, {"Host": host})
        assert answer.status < 500, path
        where = answer.header("location")
        assert where == "" or (where.startswith("/") and not where.startswith("//")), (path, where)
        assert host not in answer.text, path


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"theme=dark&here=/", 303),
        (b"&".join(b"a%d=1" % number for number in range(250)), 422),
        (b"theme=" + b"x" * 70_000, 413),
        (b"\xff\xfe=1", 422),
        (b"%ff=%fe&theme=%00", 303),
        (b"", 303),
    ],
)
def test_forms_have_limits(browser: Browser, body: bytes, status: int) -> None:
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Sec-Fetch-Site": "same-origin",
        "X-CSRF-Token": browser.csrf,
    }
    assert browser.ask("POST", "/appearance", body, headers).status == status


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_only_administrators_have_an_address_tried(
    dashboard: Dashboard, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSRF: whatever a form of others names, no connection begins."""
    tried: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **_more: tried.append(asked))
    monkeypatch.setattr(socket.socket, "connect", lambda _socket, to: tried.append(to))
    someone = dashboard.logged_in(role)
    for place in ("dicom://PACS@10.0.0.1:104", "dicomweb+http://10.0.0.1/x", "vault:s3://bucket"):
        forms: tuple[tuple[str, dict[str, str]], ...] = (
            ("/trial", {"role": "destination", "name": place}),
            ("/trial", {"role": "source", "name": place}),
            ("/compare/start", {"a": ":other", "a_typed": place, "b": "copies"}),
            ("/compare/start", {"a": place, "b": "copies"}),
            ("/restore/check", {"from": place, "from_typed": place, "source": place}),
            ("/vault/look", {"vault": place}),
            ("/restore/drill", {"vault": place, "count": "1"}),
            (f"/destinations/{quote(place, safe='')}/try", {}),
            ("/settings/told", {"name": place}),
            ("/wizard/copies/add", {"kind": "other", "address": place}),
        )
        for path, fields in forms:
            assert 400 <= someone.post(path, fields).status < 500, (path, fields)
    assert tried == []
