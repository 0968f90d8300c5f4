"""Which of the files that are expected the records of a vault stand for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest
from tests.unit.vault.small_vault import STUDY, SmallVault

from dcmvault.destinations.vault_evidence import VaultInspection
from dcmvault.model.evidence import ExpectedInstance, ExpectedStudy, Finding
from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import InstanceIdentity
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.vault.records import InstanceRecord
from dcmvault.vault.state import present_state

_HELD, _MISSING = Finding.HELD, Finding.MISSING


@dataclass
class _Reads(MemoryStore):
    """Counts what is read."""

    gets: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self.gets += 1
        return super().get(key, start, length)


@dataclass
class _World:
    """A study in a vault, and questions about it."""

    store: _Reads = field(default_factory=_Reads)
    decoders: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def __post_init__(self) -> None:
        self.vault = SmallVault(store=self.store)
        self.vault.back_up(STUDY, "x")
        self.opened = self.vault.opened()
        self.records = present_state(self.opened).records(STUDY)

    def look(
        self, instances: list[ExpectedInstance], *passes: list[list[InstanceRecord]]
    ) -> VaultInspection:
        """Read back what these instances are, by these parts of records."""
        study = ExpectedStudy(STUDY, tuple(instances))
        inspection = VaultInspection(self.opened, study, self.decoders)
        for parts in passes:
            inspection.look_through(parts)
        return inspection


@pytest.fixture(name="world")
def _world() -> _World:
    return _World()


def _expected(number: int, record: InstanceRecord, *, known: bool = True) -> ExpectedInstance:
    identity = InstanceIdentity(STUDY, record.series_instance_uid, record.sop_instance_uid)
    sha256 = record.file_sha256 if known else b""
    return ExpectedInstance(VersionId(number), identity, record.size, sha256)


def test_all_that_have_one_content_are_held_by_its_record(world: _World) -> None:
    record = world.records[0]
    instances = [_expected(number, record, known=number != 3) for number in (1, 2, 3, 4)]
    instances.append(_expected(5, world.records[1]))
    found = world.look(instances, [[record]])
    assert found.findings == {1: _HELD, 2: _HELD, 3: _HELD, 4: _HELD, 5: _MISSING}
    assert found.unrecorded == {5}
    assert found.reasons == {5: "no record of it is in the vault"}
    assert found.proof()["bytes_read"] == record.size


def test_another_uid_is_another_file_though_it_has_the_content(world: _World) -> None:
    record = world.records[0]
    other = replace(_expected(1, record), identity=InstanceIdentity(STUDY, "2.25.1", "2.25.2"))
    assert world.look([other], [[record]]).findings == {1: _MISSING}


def test_a_content_is_read_back_once_however_many_sources_have_it(world: _World) -> None:
    record = world.records[0]
    parts = [[replace(record, source=source)] for source in ("/a", "/b", "/c")]
    found = world.look([_expected(1, record)], parts)
    assert found.findings == {1: _HELD}
    assert found.proof()["bytes_read"] == record.size


def test_a_whole_record_of_a_content_is_enough(world: _World) -> None:
    """It is not stored anew, whether the broken one comes before or after."""
    record = world.records[0]
    broken = replace(record, source="/b", skeleton=record.skeleton._replace(block=b"\1" * 32))
    for parts in ([[broken], [record]], [[record], [broken]]):
        found = world.look([_expected(1, record)], parts)
        assert (found.findings, found.reasons, found.lost) == ({1: _HELD}, {}, set())
    found = world.look([_expected(1, record)], [[broken]])
    assert (found.findings, found.lost) == ({1: _MISSING}, {record.file_sha256})
    assert found.unrecorded == set()


def test_of_a_file_whose_content_nobody_knows_the_newest_record_counts(world: _World) -> None:
    record = world.records[0]
    broken = replace(record, skeleton=record.skeleton._replace(block=b"\1" * 32))
    instance = _expected(1, record, known=False)
    assert world.look([instance], [[record], [broken]]).findings == {1: _MISSING}
    assert world.look([instance], [[broken], [record]]).findings == {1: _HELD}


def test_a_second_look_reads_only_what_was_not_found_before(world: _World) -> None:
    instances = [_expected(number, one) for number, one in enumerate(world.records)]
    found = world.look(instances, [world.records[:2]], [world.records])
    assert set(found.findings.values()) == {_HELD}
    assert found.reasons == {}
    assert found.proof()["bytes_read"] == sum(one.size for one in world.records)


def test_small_parts_are_read_together(world: _World) -> None:
    """Each by itself would be a request of its own, though all lie side by side."""
    instances = [_expected(number, one) for number, one in enumerate(world.records)]
    world.look(instances, [world.records])  # what a pack begins with is read once
    before = world.store.gets
    world.look(instances, [world.records])
    at_once = world.store.gets - before
    world.look(instances, [[one] for one in world.records])
    assert world.store.gets - before == 2 * at_once
