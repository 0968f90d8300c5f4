"""Accesses as JSON lines: a file a month, for its owner only, without what nobody said."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dcmvault.audit.access_log import AccessLog
from dcmvault.model.access import Access

AT = datetime(2026, 1, 31, 23, 59, tzinfo=UTC)


def test_accesses_are_appended_month_by_month(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "access")
    log.record(Access(AT, "C-ECHO", "HOROS", "10.0.0.1", outcome="0000"))
    log.record(Access(AT, "C-FIND", "HOROS", "10.0.0.1", keys=("PatientName",), duration_s=0.1234))
    log.record(Access(AT.replace(month=2, day=1), "C-ECHO", "", "::1"))
    january, february = sorted((tmp_path / "access").iterdir())
    assert (january.name, february.name) == ("access-2026-01.jsonl", "access-2026-02.jsonl")
    assert january.stat().st_mode & 0o777 == 0o600
    first, second = map(json.loads, january.read_text().splitlines())
    assert first == {
        "at": "2026-01-31T23:59:00+00:00",
        "service": "C-ECHO",
        "who": "HOROS",
        "address": "10.0.0.1",
        "outcome": "0000",
    }
    assert (second["keys"], second["duration_s"]) == (["PatientName"], 0.123)


def test_a_long_list_of_uids_is_counted(tmp_path: Path) -> None:
    uids = tuple(f"1.2.{number}" for number in range(1500))
    AccessLog(tmp_path).record(Access(AT, "C-GET", "A", "::1", sop_instance_uids=uids))
    (path,) = tmp_path.iterdir()
    line = json.loads(path.read_text())
    assert (len(line["sop_instance_uids"]), line["sop_instance_uids_count"]) == (1000, 1500)


def test_a_log_that_cannot_be_written_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    AccessLog(tmp_path / "file").record(Access(AT, "C-ECHO", "A", "::1"))
    assert "could not be written down" in caplog.text
