"""A fault at every operation of the store, for everything that is done to a vault.

Enumerated power cuts are among them: the process dies before or after any operation, and an object
is there only if its `put` ended.
"""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from tests.integration.vault_acts import ACTS, SIZES, Act, go_on, prepared
from tests.integration.vault_world import Files, VaultWorld

from dcmvault.errors import DestinationError
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.testing.faulty import CrashError, Fault, FaultyStore

#: Moments that are tried of each act and fault, unless all are.
SAMPLE = 4


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, size in SIZES:
        monkeypatch.setattr(module, name, size)


def _world(folder: Path, act: Act) -> VaultWorld:
    world = prepared(VaultWorld(MemoryStore(), Files(folder)).init())
    act.before(world)
    return world


def _operations(world: VaultWorld, act: Act) -> int:
    world = world.copy()
    store = FaultyStore(world.store)
    act.do(world, store)
    return store.operations


def _disturb(world: VaultWorld, act: Act, at: int, fault: Fault) -> None:
    world = world.copy()
    store = FaultyStore(world.store, at, fault)
    with contextlib.suppress(DestinationError, CrashError):
        act.do(world, store)
    go_on(world, act)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("name", ACTS)
def test_fault_at_some_operations(tmp_path: Path, name: str, fault: Fault) -> None:
    act = ACTS[name]
    world = _world(tmp_path, act)
    moments = range(1, _operations(world, act) + 1)
    chance = random.Random(f"{name}/{fault}")
    for at in sorted(chance.sample(moments, min(SAMPLE, len(moments)))):
        _disturb(world, act, at, fault)


@pytest.mark.nightly
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("name", ACTS)
def test_fault_at_every_operation(tmp_path: Path, name: str, fault: Fault) -> None:
    act = ACTS[name]
    world = _world(tmp_path, act)
    for at in range(1, _operations(world, act) + 1):
        _disturb(world, act, at, fault)
