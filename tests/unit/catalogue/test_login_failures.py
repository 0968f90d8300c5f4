"""Logins that failed are kept for a while, and no more of them than there is room for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from dcmvault.catalogue.opening import open_catalogue
from dcmvault.ports.login_failures import KeptFailures

_NOW = datetime(2026, 1, 31, 4, tzinfo=UTC)


def _failed(name: str, count: int, minutes: int) -> KeptFailures:
    return KeptFailures(name.encode(), count, _NOW + timedelta(minutes=minutes))


def test_failures_are_kept_in_the_order_of_time(tmp_path: Path) -> None:
    with_path = str(tmp_path / "catalogue.sqlite3")
    first = open_catalogue(with_path)
    first.login_failures.put([_failed("b", 2, 2), _failed("a", 1, 1), _failed("old", 9, -90)])
    first.login_failures.put([_failed("a", 3, 3), _failed("c", 1, 4)])
    first.login_failures.put([_failed("c", 0, 5), _failed("never", 0, 5)])
    first.close()
    again = open_catalogue(with_path)
    since = _NOW - timedelta(hours=1)
    assert again.login_failures.failures(since, 10) == [_failed("b", 2, 2), _failed("a", 3, 3)]
    assert again.login_failures.failures(since, 1) == [_failed("a", 3, 3)], "the newest stays"
    assert again.login_failures.failures(since, 10) == [_failed("a", 3, 3)]
    again.close()
