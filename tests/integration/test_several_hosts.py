"""Several hosts share one PostgreSQL: their workers share the work, and take over from each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import StartOrthanc
from tests.integration.hosts_world import (
    Host,
    Relay,
    ask_for,
    asking,
    await_end,
    eventually,
)

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.object_stores.local import LocalStore
from dcmvault.testing.dicom_files import make_study
from dcmvault.vault.initialise import init_vault

pytestmark = pytest.mark.peers

STUDIES, INSTANCES = 6, 10
MOST = 3


class World:
    """Peers, a source that all hosts have, and hosts."""

    def __init__(self, folder: Path, url: str, orthancs: list[Orthanc], stack: ExitStack) -> None:
        self.folder = folder
        self.url = url.replace("postgresql+psycopg://", "postgresql://")
        self.orthancs = orthancs
        self.relays = [Relay(one.port) for one in orthancs]
        self._stack = stack
        for relay in self.relays:
            stack.callback(relay.close)
        self.vault = folder / "vault"
        self.source = folder / "studies"
        self.made = [
            one
            for number in range(STUDIES)
            for one in make_study(
                self.source / str(number), key=f"hosts-{number}", instances=INSTANCES
            )
        ]

    def configuration(self, more: str = "") -> str:
        pacs = "".join(
            f'[destinations.pacs{number}]\naddress = "dicom://ORTHANC@127.0.0.1:{relay.port}"\n'
            f'level = "proven"\nmax_associations = {MOST}\n'
            for number, relay in enumerate(self.relays)
        )
        return (
            f"{more}[retry]\nwait_s = 0.5\n"
            f'[sources.studies]\naddress = "{self.source}"\n{pacs}'
            f'[destinations.vault]\naddress = "vault:{self.vault}"\nlevel = "proven"\n'
            '[plans.all]\nsources = ["studies"]\n'
            'destinations = ["pacs0", "pacs1", "vault"]\n'
        )

    def host(self, name: str, more: str = "", configuration: str = "") -> Host:
        host = Host(
            self.folder / "hosts" / name, name, configuration or self.configuration(more), self.url
        )
        self._stack.callback(host.kill)
        return host

    @property
    def uids(self) -> list[str]:
        return sorted(one.sop_instance_uid for one in self.made)


@pytest.fixture
def world(
    tmp_path: Path, postgresql_url: str, start_orthanc: StartOrthanc
) -> Iterator[World]:
    with ExitStack() as stack:
        made = World(tmp_path, postgresql_url, [start_orthanc(), start_orthanc()], stack)
        clock = SystemClock()
        init_vault(LocalStore(made.vault, clock), [], clock, encrypted=False)
        yield made


def test_two_workers_deliver_one_plan(world: World) -> None:
    """Each with a folder of its own; all ends proven, once, and the limit of a PACS holds."""
    hosts = [world.host("one"), world.host("two")]
    for host in hosts:
        host.begin()
    assert [host.await_work()["name"] for host in hosts] == ["one", "two"]
    with asking(hosts[0]) as workplace:
        assert workplace.catalogue.workers is not None
        known = workplace.catalogue.workers.workers()
        assert [worker.identity.name for worker in known] == ["one", "two"]
        (run_id,) = ask_for(workplace, "all")
        report = await_end(workplace, run_id)
    assert report.exit_status == 0, report
    assert report.counts.stored == 3 * len(world.made)
    for orthanc in world.orthancs:
        assert orthanc.instances() == world.uids
    assert max(relay.most for relay in world.relays) <= MOST
    assert [host.stop() for host in hosts] == [0, 0]
    with asking(hosts[0]) as workplace:
        assert workplace.catalogue.workers is not None
        eventually(lambda: not workplace.catalogue.workers.workers())
