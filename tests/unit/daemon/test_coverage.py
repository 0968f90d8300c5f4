"""How often is counted what is protected where, however many ask."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dcmvault.app.known_status import KnownStatus, count_status
from dcmvault.app.wiring.workplace import open_workplace
from dcmvault.config.load import load_settings
from dcmvault.daemon import coverage as coverage_module
from dcmvault.daemon.coverage import Coverage
from dcmvault.testing.clock import FakeClock


@pytest.mark.parametrize(("takes_s", "counts"), [(0.15, 1), (0.0, 2)])
def test_who_asks_while_it_is_counted_for_long_is_told_that_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes_s: float, counts: int
) -> None:
    """A quick count may have begun before something changed that the asker knows of."""
    begun, go_on, clock = threading.Event(), threading.Event(), FakeClock()
    counted: list[KnownStatus] = []

    def count_slowly(*asked: object) -> KnownStatus:
        begun.set()
        assert go_on.wait(10)
        clock.advance(takes_s)
        counted.append(count_status(*asked))  # type: ignore[arg-type]
        return counted[-1]

    monkeypatch.setattr(coverage_module, "count_status", count_slowly)
    workplace = open_workplace(tmp_path, load_settings(tmp_path / "config.toml"))
    workplace.clock = clock
    coverage = Coverage(workplace)
    with workplace, ThreadPoolExecutor(2) as pool:
        first = pool.submit(coverage.latest)
        assert begun.wait(10)
        second = pool.submit(coverage.latest)
        time.sleep(0.05)
        go_on.set()
        assert first.result(10)[0] == second.result(10)[0] == []
    assert len(counted) == counts
