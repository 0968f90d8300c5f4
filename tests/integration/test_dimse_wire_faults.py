"""A wire that breaks between us and a real PACS: no wait without end, and nothing is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from scripts import peer_processes
from scripts.peer_packages import PeerMissingError
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault
from tests.integration.dimse_story import destination_at
from tests.integration.fault_proxy import ALTERING, FaultProxy, WireFault
from tests.integration.flow_world import Flow
from tests.integration.story import instances, summary_of

from dcmvault.destinations.dimse import DimseDestination
from dcmvault.dicom.digest import data_set_digest
from dcmvault.model.evidence import Level
from dcmvault.model.report import RunReport
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import MadeInstance, make_study

pytestmark = pytest.mark.peers

#: Seconds for every wait of ours where one is to run out, where none is, and what it may cost
#: beside it.
SHORT_S = 0.4
LONG_S = 20.0
GRACE_S = 5.0
#: The first association asks what the peer has, the second delivers (the only one at that time).
QUESTION, DELIVERY = 1, 2
#: Places in an association request: its type, the application context, an implementation name.
REQUESTS = ((DELIVERY, 0), (QUESTION, 90), (DELIVERY, 260))
#: Places behind it: in a question, in the pixels of a first instance, in a second one.
MESSAGES = ((QUESTION, 60), (DELIVERY, 3000), (DELIVERY, 14_000))
ROWS = 64
INSTANCES = 6
#: Faults after which both sides wait.
SILENT = frozenset({WireFault.STALL, WireFault.HALF_OPEN})


@dataclass
class World:
    """A flow through a proxy to an Orthanc that takes re-sent instances."""

    orthanc: Orthanc
    proxy: FaultProxy
    folder: Path
    flow: Flow
    hasty: DimseDestination
    patient: DimseDestination
    cases: int = 0

    def study(self) -> tuple[Path, tuple[MadeInstance, ...]]:
        self.cases += 1
        source = self.folder / f"case {self.cases}"
        made = make_study(
            source, key=f"{self.folder} {self.cases}", instances=INSTANCES, rows=ROWS, columns=ROWS
        )
        return source, made

    def not_intact(self, made: tuple[MadeInstance, ...]) -> list[str]:
        """List what Orthanc has not as it was sent, by its REST interface."""
        return [
            one.sop_instance_uid
            for one in made
            if data_set_digest(one.path) not in self._held(one.sop_instance_uid)
        ]

    def _held(self, uid: str) -> set[str]:
        """Digest everything that Orthanc has under a UID: a damaged patient ID makes another."""
        digests = set()
        copy = self.folder / "copy.dcm"
        for stored in self.orthanc.files(uid):
            copy.write_bytes(stored)
            digests.add(data_set_digest(copy))
        return digests

    def backup(
        self, source: Path, destination: DimseDestination, level: Level = Level.COMPLETE
    ) -> RunReport:
        self.flow.destinations[destination.name] = destination
        return self.flow.backup(source, destination.name, level=level)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("wire")
    try:
        starting = peer_processes.orthanc(OverwriteInstances=True)
        with starting as orthanc:
            proxy = FaultProxy((orthanc.host, orthanc.dicom_port))
            flow = Flow(folder, FakeClock())
            with proxy.running():
                hasty, patient = (
                    destination_at(
                        proxy.port,
                        orthanc.ae_title,
                        association_timeout_s=limit_s,
                        dimse_timeout_s=limit_s,
                        max_associations=1,
                    )
                    for limit_s in (SHORT_S, LONG_S)
                )
                yield World(orthanc, proxy, folder, flow, hasty, patient)
            flow.catalogue.close()
    except PeerMissingError as error:
        pytest.fail(str(error), pytrace=False)


def _try(
    world: World, fault: WireFault, connection: int, offset: int, *, after_negotiation: bool
) -> None:
    source, made = world.study()
    is_silent = fault in SILENT or fault in ALTERING
    world.proxy.patience_s = (SHORT_S if is_silent else LONG_S) + GRACE_S
    world.proxy.arm(fault, offset, after_negotiation=after_negotiation, connection=connection)
    report = world.backup(source, world.hasty if is_silent else world.patient)
    assert world.proxy.struck
    assert world.proxy.overdue == 0, "somebody waited beyond the limit"
    stored = report.counts.stored
    named = {failure.sop_instance_uid for failure in report.failures}
    assert stored + len(named) == INSTANCES
    assert report.exit_status in ({0} if stored == INSTANCES else {3} if stored else {3, 5})
    if not is_silent:
        # What was lost was sent again in the same run.
        assert (report.exit_status, world.not_intact(made)) == (0, [])
        return
    # What the run could see it named, and the next run mends it.
    world.proxy.patience_s = LONG_S + GRACE_S
    again = world.backup(source, world.patient)
    assert (again.exit_status, again.counts.selected) == (0, len(named))
    if fault in ALTERING:
        # Altered, and a success to it: only reading back can tell. Sent once more, it is mended.
        proven = world.backup(source, world.patient, level=Level.PROVEN)
        assert (proven.exit_status, proven.counts.selected) == (0, INSTANCES)
    assert world.not_intact(made) == []


@pytest.mark.parametrize(("connection", "offset"), REQUESTS)
@pytest.mark.parametrize("fault", list(WireFault))
def test_before_negotiation(world: World, fault: WireFault, connection: int, offset: int) -> None:
    _try(world, fault, connection, offset, after_negotiation=False)


@pytest.mark.parametrize(("connection", "offset"), MESSAGES)
@pytest.mark.parametrize("fault", list(WireFault))
def test_after_negotiation(world: World, fault: WireFault, connection: int, offset: int) -> None:
    _try(world, fault, connection, offset, after_negotiation=True)


@pytest.mark.parametrize("fault", [WireFault.HALF_OPEN, WireFault.RESET])
def test_on_the_command_line(
    world: World, run_dcmvault: RunDcmvault, home: Path, fault: WireFault
) -> None:
    source, made = world.study()
    limit_s = 2.0
    world.proxy.patience_s = limit_s + GRACE_S
    world.proxy.arm(fault, 3000, after_negotiation=True, connection=DELIVERY)
    address = f"dicom://{world.orthanc.ae_title}@127.0.0.1:{world.proxy.port}"
    (home / "config.toml").write_text(
        f'[retry]\nwait_s = 0\n[destinations.pacs]\naddress = "{address}"\n'
        f"association_timeout_s = {limit_s}\ndimse_timeout_s = {limit_s}\n"
    )
    summary = summary_of(run_dcmvault("backup", source, "--to", "pacs", "--json"))
    assert instances(summary) == {"selected": INSTANCES, "stored": INSTANCES}
    assert world.proxy.struck
    assert world.proxy.overdue == 0
    assert world.not_intact(made) == []


@pytest.mark.nightly
@pytest.mark.parametrize("fault", list(WireFault))
def test_at_many_places(world: World, fault: WireFault) -> None:
    chance = random.Random(f"{fault}")
    for _turn in range(20):
        which = chance.choice((QUESTION, DELIVERY))
        _try(world, fault, which, chance.randrange(270), after_negotiation=False)
        _try(world, fault, QUESTION, chance.randrange(200), after_negotiation=True)
        _try(world, fault, DELIVERY, chance.randrange(18_000), after_negotiation=True)
