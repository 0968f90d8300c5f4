"""A library's sidecar in a real vault: it comes back byte for byte, and once only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.flow_world import Flow

from dcmvault.config.sections import HorosSourceSection, VaultDestinationSection
from dcmvault.destinations.vault import VaultDestination
from dcmvault.model.report import RunReport
from dcmvault.object_stores.local import LocalStore
from dcmvault.sources.horos import HorosSource
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.horos_library import LibraryFacts, build_library
from dcmvault.testing.horos_user_data import UserData, add_user_data
from dcmvault.vault.blob import BlobType
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.repository import Vault, open_vault
from dcmvault.vault.state import present_state


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    flow = Flow(tmp_path, FakeClock())
    yield flow
    flow.catalogue.close()


@pytest.fixture
def facts(tmp_path: Path) -> LibraryFacts:
    return build_library(tmp_path / "Horos Data")


@pytest.fixture
def added(facts: LibraryFacts) -> UserData:
    return add_user_data(facts)


def opened(place: Path, flow: Flow) -> Vault:
    return open_vault(LocalStore(place, flow.clock), (), flow.clock)


def back_up(flow: Flow, facts: LibraryFacts, place: Path) -> RunReport:
    destination = VaultDestination(
        VaultDestinationSection(location=str(place), profile="fast"),
        lambda: opened(place, flow),
        flow.clock,
    )
    flow.destinations[destination.name] = destination
    stages = flow.stages()
    stages.open_source = lambda _request: HorosSource(HorosSourceSection(path=facts.base))
    durable = flow.ask(facts.base, destination.name)
    flow.carry_out(durable, stages)
    return flow.report(durable)


def sidecar_in(vault: Vault) -> dict[str, bytes]:
    (state,) = present_state(vault).states
    (files,) = state.sidecars.values()
    found: dict[str, bytes] = {}
    for name, size, digest, blobs in files:
        found[name] = b"".join(vault.read_blob(BlobType.VALUE, blob) for blob in blobs)
        assert (len(found[name]), hashlib.sha256(found[name]).digest()) == (size, digest)
    return found


def test_sidecar_comes_back(
    flow: Flow, facts: LibraryFacts, added: UserData, tmp_path: Path
) -> None:
    place = tmp_path / "vault"
    place.mkdir()
    init_vault(LocalStore(place, flow.clock), (), flow.clock, encrypted=False)
    first = back_up(flow, facts, place)
    assert first.destinations[0].snapshot is not None
    held = sidecar_in(opened(place, flow))
    assert held.items() >= added.files.items()
    assert held["index/Database.sql"] == (facts.base / "Database.sql").read_bytes()
    # Nothing changed, so that there is nothing to say.
    assert back_up(flow, facts, place).destinations[0].snapshot is None
    (facts.data / "REPORTS" / "later.rtf").write_bytes(b"later")
    assert back_up(flow, facts, place).destinations[0].snapshot is not None
    assert sidecar_in(opened(place, flow)) == held | {"reports/later.rtf": b"later"}
