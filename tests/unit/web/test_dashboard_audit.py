"""The page of the audit journal: search, pages, proof, and what is taken along."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.web.dashboard_world import Browser, Dashboard, dashboard_in

from dcmvault.app.auditing import Auditing
from dcmvault.model.account import Role
from dcmvault.model.audit import Actor, ActorKind, AuditKind, AuditOutcome
from dcmvault.reports.journal_words import journal_csv

_PLACE = "/media/SILVA^JOSE"


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    with dashboard_in(tmp_path) as opened:
        yield opened


@pytest.fixture
def browser(dashboard: Dashboard) -> Browser:
    """An administrator's, who sees a journal with a few lines."""
    auditing = Auditing(dashboard.workplace.home, Actor(ActorKind.CLI, "ana", "desk"))
    auditing.note(AuditKind.RUN_ASKED, AuditOutcome.BEGUN, place=_PLACE, details={"to": _PLACE})
    auditing.note(AuditKind.RESTORE, studies=("1.2.3",), details={"reason": "SILVA called"})
    auditing.note(AuditKind.VERIFY, details={"level": "=1+1"})
    return dashboard.logged_in(Role.ADMINISTRATOR)


def test_lines_are_found_by_time_by_who_and_by_what(browser: Browser) -> None:
    shown = browser.get("/audit").text
    assert all(event in shown for event in ("run.asked", "restore", "verify", "login"))
    assert "run.asked</code>" not in browser.get("/audit?event=restore").text
    assert "restore</code>" in browser.get("/audit?study=1.2.3&who=ANA").text
    assert "Nothing of the kind" in browser.get("/audit?who=nobody").text
    assert "Nothing of the kind" in browser.get("/audit?until=2001-01-01").text
    assert "neither a date nor a time" in browser.get("/audit?since=yesterday").text


def test_a_long_journal_is_paged_and_no_line_is_left_out(
    dashboard: Dashboard, browser: Browser
) -> None:
    """Looking writes lines, too: pages go by numbers, so that nothing moves."""
    auditing = Auditing(dashboard.workplace.home, Actor(ActorKind.CLI, "ana"))
    for number in range(70):
        auditing.note(AuditKind.HOLD, details={"number": number})
    seen: list[str] = []
    path = "/audit?event=vault.hold"
    while path:
        text = browser.get(path).text
        seen += [
            part.partition("</span>")[0]
            for part in text.split('number</span> <span class="place">')[1:]
        ]
        older = re.findall(r'href="(/audit\?[^"]*before=\d+)"', text)
        assert path not in older
        path = html.unescape(older[-1]) if older else ""
    assert seen == [str(number) for number in reversed(range(70))]


def test_the_chain_is_verified_and_damage_is_named(dashboard: Dashboard, browser: Browser) -> None:
    answer = browser.post("/audit/verify")
    assert "The journal is whole" in answer.text
    head = answer.text.partition('<code class="place">')[2].partition("</code>")[0]
    assert "The journal is whole" in browser.post("/audit/verify", {"head": head}).text
    assert browser.post("/audit/verify", {"head": "nonsense"}).status == 422
    [file] = (dashboard.workplace.home / "audit").glob("*.jsonl")
    file.write_bytes(file.read_bytes().replace(b'"ana"', b'"bob"', 1))
    changed = browser.post("/audit/verify").text
    assert "The journal is not whole" in changed
    assert "was changed" in changed


def test_what_may_name_a_patient_is_hidden_until_it_is_shown(browser: Browser) -> None:
    for path in ("/audit", "/audit/export.csv"):
        assert "SILVA" not in browser.get(path).text, path
    hidden = browser.get("/audit/export.jsonl")
    assert (hidden.status, hidden.header("location")) == (303, "/audit?")
    assert browser.post("/patients/reveal", {"here": "/audit"}).status == 303
    for path in ("/audit", "/audit/export.csv", "/audit/export.jsonl"):
        assert "SILVA" in browser.get(path).text, path


def test_exports_are_attachments_and_are_written_down(
    dashboard: Dashboard, browser: Browser
) -> None:
    browser.post("/patients/reveal", {"here": "/audit"})
    table = browser.get("/audit/export.csv?event=verify")
    lines = browser.get("/audit/export.jsonl")
    for answer, name in ((table, "audit.csv"), (lines, "audit.jsonl")):
        assert answer.header("content-disposition") == f'attachment; filename="dcmvault-{name}"'
        assert answer.header("x-content-type-options") == "nosniff"
    [_head, row] = csv.reader(io.StringIO(table.text))
    assert (row[2], row[8]) == ("verify", "level==1+1")
    [file] = (dashboard.workplace.home / "audit").glob("*.jsonl")
    assert file.read_bytes().startswith(lines.body)
    used = [json.loads(line) for line in file.read_text().splitlines()]
    told = [one["details"]["to"] for one in used if one["details"].get("action") == "export"]
    assert told == ["csv", "jsonl"]
    assert {one["actor"]["name"] for one in used if one["event"] == "journal.used"} == {
        Role.ADMINISTRATOR.value
    }


def test_only_administrators_look(dashboard: Dashboard) -> None:
    for role in (Role.VIEWER, Role.OPERATOR):
        browser = dashboard.logged_in(role)
        assert browser.get("/audit").status == 403
        assert browser.get("/audit/export.csv").status == 403
        assert browser.post("/audit/verify").status == 403


def test_no_cell_is_a_formula() -> None:
    record = {
        "seq": 1,
        "at": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
        "event": "verify",
        "place": "=HYPERLINK(1)",
        "actor": {"name": "@SUM(1)", "kind": "cli"},
    }
    _head, row = csv.reader(io.StringIO("".join(journal_csv([record]))))
    assert "'=HYPERLINK(1)" in row
    assert "'@SUM(1)" in row
