"""Connections to the database of durable work: many for a moment, few that stay."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from dcmvault.engine.database import WorkDatabase


def _connections(path: Path) -> int:
    """Count them by their journals: SQLite itself keeps what is open of the file for the next."""
    links = [one.readlink() for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    return sum(1 for one in links if one.name == f"{path.name}-wal")


def test_what_many_threads_needed_for_a_moment_does_not_stay_open(tmp_path: Path) -> None:
    path = tmp_path / "engine.sqlite3"
    database = WorkDatabase(path)
    with ExitStack() as stack:
        engine = database.prepare()
        for _number in range(10):
            stack.enter_context(engine.connect())
        assert _connections(path) >= 9
    assert 1 <= _connections(path) <= 5
    database.dispose()
    assert _connections(path) == 0
