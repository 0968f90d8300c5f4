"""A wrapped store is an object store like any other."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dcmvault.model.bandwidth import RateTable
from dcmvault.model.job import Priority
from dcmvault.object_stores.cached import CachedStore
from dcmvault.object_stores.local import LocalStore
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.object_stores.retrying import RetryingStore
from dcmvault.object_stores.throttled import ThrottledStore
from dcmvault.pipeline.bandwidth import Bandwidth
from dcmvault.ports.object_store import ObjectStore
from dcmvault.ports.pacing import Pacer
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.object_store_suite import ObjectStoreSuite


def _pacer(bytes_per_second: float, clock: FakeClock) -> Pacer:
    pacing = Bandwidth(RateTable(), clock, clock.advance).pacing("", RateTable(bytes_per_second))
    assert pacing is not None
    return pacing.pacer(Priority.NORMAL)


class TestRetryingStore(ObjectStoreSuite):
    def store(self) -> ObjectStore:
        return RetryingStore(MemoryStore(), time.sleep)


class TestThrottledStore(ObjectStoreSuite):
    def store(self) -> ObjectStore:
        return ThrottledStore(MemoryStore(), _pacer(8_000, FakeClock()))


class TestCachedStore(ObjectStoreSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "cache"

    def store(self) -> ObjectStore:
        return CachedStore(MemoryStore(), self.folder)


class TestAllAtOnce(ObjectStoreSuite):
    """As a vault on a disk may be reached: cached, throttled and tried again."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        (tmp_path / "objects").mkdir()

    def store(self) -> ObjectStore:
        clock = FakeClock()
        local = LocalStore(self.folder / "objects", clock)
        throttled = ThrottledStore(local, _pacer(1 << 20, clock))
        return CachedStore(RetryingStore(throttled, clock.advance), self.folder / "cache")

    def reopened(self, store: ObjectStore) -> ObjectStore:
        return self.store()
