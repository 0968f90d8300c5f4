"""The first run and the settings, as forms without scripts: from nothing to a run."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.web.dashboard_world import Answer, Browser, Dashboard, dashboard_in

from dcmvault.app.first_run_draft import load_draft
from dcmvault.app.run_list import run_rows
from dcmvault.config.load import load_settings
from dcmvault.config.places import config_path
from dcmvault.model.account import Role
from dcmvault.testing.dicom_files import make_study

_DIGEST = re.compile(r'name="digest" value="([0-9a-f]*)"')
_EDITS = re.compile(r'name="edits" hidden>(.*?)</textarea>', re.DOTALL)
_SECRET = "an unusual passphrase"


@pytest.fixture
def dashboard(home: Path) -> Iterator[Dashboard]:
    home.mkdir(exist_ok=True)
    with dashboard_in(home) as opened:
        yield opened


@pytest.fixture
def browser(dashboard: Dashboard) -> Browser:
    return dashboard.logged_in(Role.ADMINISTRATOR)


def _went(answer: Answer, where: str) -> None:
    assert (answer.status, answer.header("location")) == (303, where), answer.text


def _digest(answer: Answer) -> str:
    found = _DIGEST.search(answer.text)
    assert found, answer.text
    return found[1]


def _walk(browser: Browser, tmp_path: Path) -> None:
    """Go through the first four steps."""
    _went(browser.get("/wizard"), "/wizard/language")
    _went(browser.post("/wizard/language", {"language": "en"}), "/wizard/studies")
    studies = {"kind": "address", "address": str(tmp_path / "studies")}
    _went(browser.post("/wizard/studies/add", studies), "/wizard/studies")
    vault = {
        "kind": "vault",
        "path": str(tmp_path / "vault"),
        "vault-passphrase": _SECRET,
        "vault-again": _SECRET,
    }
    _went(browser.post("/wizard/copies/add", vault), "/wizard/copies")
    _went(browser.post("/wizard/when", {"when": "nights", "rate": "5 MB/s"}), "/wizard/check")


def test_from_nothing_to_a_run(dashboard: Dashboard, browser: Browser, tmp_path: Path) -> None:
    home = dashboard.workplace.home
    make_study(tmp_path / "studies", key="a", instances=2)
    _walk(browser, tmp_path)
    for step in ("language", "studies", "copies", "when", "check"):
        page = browser.get(f"/wizard/{step}")
        assert page.status == 200
        assert _SECRET not in page.text
    assert _SECRET not in (home / "first-run.json").read_text()
    _went(browser.get("/wizard"), "/wizard/check")

    tested = browser.post("/trial", {"role": "destination", "name": "vault"})
    assert 'data-outcome="bad"' not in tested.text
    assert 'id="verdict"' in tested.text
    assert tested.text.rstrip().endswith("</html>")

    saved = browser.post("/wizard/save", {"digest": _digest(browser.get("/wizard/check"))})
    assert saved.status == 200
    assert saved.text.count("<li><code>") == 4
    text = config_path(home).read_text()
    assert _SECRET not in text
    assert 'passphrase = "file:' in text
    assert not load_settings(config_path(home)).schedules["main"].enabled

    looked = browser.post("/wizard/look")
    assert 'id="expectation"' in looked.text
    assert "<b>1</b>" in looked.text
    _went(browser.post("/wizard/start", {"what": "pilot"}), "/runs")
    rows, _more = run_rows(dashboard.workplace, 5)
    assert len(rows) == 1
    assert not load_settings(config_path(home)).schedules["main"].enabled
    _went(browser.post("/wizard/start", {"what": "all"}), "/runs")
    assert load_settings(config_path(home)).schedules["main"].enabled
    assert load_draft(home).sources == ()
    kinds = [line["event"] for line in dashboard.journal()]
    assert {"configuration.changed", "vault.made", "run.asked"} <= {*kinds}


def test_wrong_answers_are_told_and_what_was_typed_stays(
    browser: Browser, dashboard: Dashboard, tmp_path: Path
) -> None:
    odd = {"kind": "address", "address": 'ftp:"><script>x</script>'}
    answer = browser.post("/wizard/studies/add", odd)
    assert answer.status == 422
    assert "<script>x" not in answer.text
    assert "&lt;script&gt;" in answer.text
    short = {"kind": "vault", "path": "/v", "vault-passphrase": "short", "vault-again": "short"}
    answer = browser.post("/wizard/copies/add", short)
    assert answer.status == 422
    assert 'value="/v"' in answer.text
    assert 'value="short"' not in answer.text
    differ = {**short, "vault-passphrase": _SECRET, "vault-again": _SECRET + "x"}
    assert browser.post("/wizard/copies/add", differ).status == 422
    assert browser.post("/wizard/when", {"when": "painted"}).status == 422
    assert browser.post("/wizard/when", {"when": "sometimes"}).status == 422
    assert browser.post("/wizard/when", {"when": "always", "rate": "fast"}).status == 422
    bucket = {"kind": "s3", "bucket": "b", "vault-passphrase": _SECRET, "vault-again": _SECRET}
    assert browser.post("/wizard/copies/add", bucket).status == 422
    missing = browser.post("/wizard/studies/add", {"kind": "pacs", "host": "pacs"})
    assert "AE title" in missing.text
    assert load_draft(dashboard.workplace.home).sources == ()
    assert not list((dashboard.workplace.home / "secrets").glob("*"))
    assert browser.get("/wizard/check").status == 200


def test_a_painted_week_comes_back_as_it_was_painted(
    browser: Browser, dashboard: Dashboard
) -> None:
    painted = {f"h{day}-{hour}": "1" for day in range(7) for hour in (1, 2, 23)}
    _went(browser.post("/wizard/when", {"when": "painted", **painted}), "/wizard/check")
    shown = set(
        re.findall(
            r'name="(h\d-\d+)" value="1" aria-label="[^"]*" checked',
            browser.get("/wizard/when").text,
        )
    )
    assert shown == set(painted)


def test_what_is_found_is_chosen_with_one_form(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dashboard: Dashboard
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_study(tmp_path / "Documents" / "images", key="a", instances=2)
    found = browser.post("/wizard/find")
    assert str(tmp_path / "Documents") in found.text
    chosen = dict(re.findall(r'name="(place-\d+)" value="([^"]+)"', found.text))
    assert chosen
    _went(browser.post("/wizard/studies/add", chosen), "/wizard/studies")
    assert len(load_draft(dashboard.workplace.home).sources) == len(chosen)
    name = load_draft(dashboard.workplace.home).sources[0].name
    _went(browser.post("/wizard/studies/remove", {"name": name}), "/wizard/studies")
    assert len(load_draft(dashboard.workplace.home).sources) == len(chosen) - 1


_CONFIGURED = """\
# Mine.
[sources.main]
address = "/studies"  # here

[destinations.pacs]
address = "dicom://PACS@127.0.0.1:1"

[plans.nightly]
sources = ["main"]
destinations = ["pacs"]
"""


def test_settings_are_changed_by_what_was_shown(browser: Browser, dashboard: Dashboard) -> None:
    path = config_path(dashboard.workplace.home)
    path.write_text(_CONFIGURED)
    listing = browser.get("/settings").text
    for page in re.findall(r'href="(/settings/[^"]+)"', listing):
        assert browser.get(page).status == 200, page
    typed = {"path": "destinations.pacs", "max_associations": "2", "level": "proven"}
    proposed = browser.post("/settings/propose", typed)
    assert "+max_associations = 2" in proposed.text
    edits = html.unescape(_EDITS.findall(proposed.text)[0])
    fields = {"edits": edits, "digest": _digest(proposed)}
    _went(browser.post("/settings/save", fields), "/settings")
    settings = load_settings(path)
    assert settings.destinations["pacs"].section.max_associations == 2  # type: ignore[union-attr]
    assert path.read_text().startswith('# Mine.\n[sources.main]\naddress = "/studies"  # here\n')
    assert dashboard.workplace.settings == settings
    again = browser.post("/settings/save", fields)
    assert again.status == 422
    assert "meanwhile" in again.text


def test_what_is_wrong_is_told_before_it_is_saved(browser: Browser, dashboard: Dashboard) -> None:
    path = config_path(dashboard.workplace.home)
    path.write_text(_CONFIGURED)
    for typed in (
        {"path": "destinations.pacs", "max_associations": "many"},
        {"path": "destinations.pacs", "max_associations": "1000"},
        {"path": "plans.nightly", "sources": "main"},
        {"path": "sources.main", "what": "remove"},
        {"what": "add", "family": "plans", "name": "x", "sources": "none", "destinations": "pacs"},
        {"what": "add", "family": "nothing", "name": "x"},
        {"path": "nothing.at-all", "x": "1"},
    ):
        assert browser.post("/settings/propose", typed).status == 422, typed
    for edits in ("", "[", '[["set", [], 1]]', '[["set", ["a", 1], 1]]', '{"a": 1}', "[[1,2,3]]"):
        digest = browser.post("/settings/propose", {"path": "plans.nightly", "max_studies": "3"})
        fields = {"edits": edits, "digest": _digest(digest)}
        assert browser.post("/settings/save", fields).status == 422, edits
    assert path.read_text() == _CONFIGURED


def test_what_needs_a_restart_is_said_and_secrets_are_referred_to(
    browser: Browser, dashboard: Dashboard
) -> None:
    path = config_path(dashboard.workplace.home)
    path.write_text(_CONFIGURED)
    proposed = browser.post("/settings/propose", {"path": "web", "port": "9999"})
    assert "web.port" in proposed.text
    typed = {"path": "destinations.pacs", "user": "me", "password-secret": _SECRET}
    proposed = browser.post("/settings/propose", typed)
    assert _SECRET not in proposed.text
    assert "file:" in proposed.text


def test_only_administrators_reach_addresses(dashboard: Dashboard) -> None:
    for role in (Role.VIEWER, Role.OPERATOR):
        browser = dashboard.logged_in(role)
        trial = browser.post("/trial", {"role": "source", "name": "dicom://X@192.0.2.1:104"})
        assert trial.status == 403
        assert browser.get("/settings").status == 403
        assert browser.get("/wizard/check").status == 403
    assert not [one for one in threading.enumerate() if one.name == "trial"]


def test_both_are_spoken_in_portuguese(browser: Browser) -> None:
    for path in ("/settings", "/wizard/studies", "/wizard/copies", "/wizard/when"):
        text = browser.get(path, {"Accept-Language": "pt-BR"}).text
        assert 'lang="pt-BR"' in text
        assert "Passphrase" not in text
        assert "None" not in text
