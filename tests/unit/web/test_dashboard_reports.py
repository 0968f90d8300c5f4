"""Reports of a period and of a destination, made on the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.web.dashboard_world import Dashboard, dashboard_in

from dcmvault.model.account import Role


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    with dashboard_in(tmp_path) as opened:
        yield opened


def test_a_period_is_shown_and_taken_along(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.OPERATOR)
    asked = browser.get("/runs/reports").text
    assert "Make the report" in asked
    assert "file.pdf" not in asked
    shown = browser.get("/runs/reports?since=2026-01-01&until=2026-01-31").text
    assert "file.pdf?since=2026-01-01&amp;until=2026-01-31" in shown
    read = browser.get("/runs/reports/read?since=2026-01-01")
    assert "sandbox" in read.header("content-security-policy")
    for ending, begin in (("pdf", b"%PDF"), ("csv", b"record,"), ("json", b"{"), ("html", b"<!")):
        answer = browser.get(f"/runs/reports/file.{ending}?since=2026-01-01")
        assert answer.body.lstrip().startswith(begin), ending
        name = f'attachment; filename="dcmvault-period.{ending}"'
        assert answer.header("content-disposition") == name


def test_what_is_no_period_and_no_destination_is_said(dashboard: Dashboard) -> None:
    browser = dashboard.logged_in(Role.OPERATOR)
    assert (
        "ends before it begins"
        in browser.get("/runs/reports?since=2026-02-01&until=2026-01-01").text
    )
    assert "neither a date nor a time" in browser.get("/runs/reports?since=soon").text
    assert browser.get("/runs/reports?destination=nowhere").status in {200, 404}
    assert browser.get("/runs/reports/file.exe?since=2026-01-01").status == 404
    assert dashboard.logged_in(Role.VIEWER).get("/runs/reports").status == 403
