"""Several hosts share one PostgreSQL: workers share the work, and take over from each other."""

from __future__ import annotations

import json
import random
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from scripts import peer_processes
from scripts.peer_processes import Orthanc
from tests.conftest import StartOrthanc
from tests.integration.hosts_world import (
    ENDED,
    GENEROUS_S,
    Host,
    Relay,
    RestartedPostgreSQL,
    ask_for,
    asking,
    await_end,
    eventually,
)

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.object_stores.local import LocalStore
from dcmvault.testing.dicom_files import MadeInstance, make_study
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
        self.made: list[MadeInstance] = []
        self.more("first")

    def more(self, key: str) -> None:
        """Have more studies in the source."""
        for number in range(STUDIES):
            name = f"{key}-{number}"
            self.made += make_study(self.source / name, key=name, instances=INSTANCES)

    def make_vault(self) -> None:
        clock = SystemClock()
        init_vault(LocalStore(self.vault, clock), [], clock, encrypted=False)

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
def world(tmp_path: Path, postgresql_url: str, start_orthanc: StartOrthanc) -> Iterator[World]:
    with ExitStack() as stack:
        made = World(tmp_path, postgresql_url, [start_orthanc(), start_orthanc()], stack)
        made.make_vault()
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
        book = workplace.catalogue.workers
        assert book is not None
        assert list(book.workers()) == []


def test_killed_workers_and_a_restarted_server_lose_nothing(
    tmp_path: Path, start_orthanc: StartOrthanc
) -> None:
    """Three workers, ten kills and a crash of PostgreSQL: all ends proven, once."""
    _campaign(tmp_path, start_orthanc, kills=10, crashes=1)


@pytest.mark.nightly
def test_a_hundred_killed_workers(tmp_path: Path, start_orthanc: StartOrthanc) -> None:
    _campaign(tmp_path, start_orthanc, kills=100, crashes=5)


def _campaign(folder: Path, start_orthanc: StartOrthanc, *, kills: int, crashes: int) -> None:
    """Kill one worker after the other while runs go on, and the server now and then."""
    chance = random.Random(f"hosts-{kills}")
    with ExitStack() as stack:
        server_peer = stack.enter_context(peer_processes.postgresql())
        server = RestartedPostgreSQL(server_peer, stack)
        world = World(folder, server_peer.url(), [start_orthanc(), start_orthanc()], stack)
        world.make_vault()
        hosts = [world.host(name) for name in ("one", "two", "three")]
        for host in hosts:
            host.begin()
        for host in hosts:
            host.await_work()
        crash_at = {(number + 1) * kills // (crashes + 1) for number in range(crashes)}
        taken_over: list[float] = []
        with asking(hosts[0]) as workplace:
            rounds = 0
            run_id = ask_for(workplace, "all")[0]
            for kill in range(kills):
                if workplace.catalogue.runs.run(run_id).state in ENDED:
                    _all_is_proven(workplace, run_id, world)
                    rounds += 1
                    world.more(f"round-{rounds}")
                    run_id = ask_for(workplace, "all")[0]
                time.sleep(chance.uniform(0.3, 1.5))
                if kill in crash_at:
                    server.crash()
                    time.sleep(chance.uniform(0.2, 2.0))
                    server.start()
                victim = chance.choice(hosts)
                killed = _ids_of(workplace, victim)
                victim.kill()
                killed_s = time.monotonic()
                if kill % 2:
                    # Nobody comes for it: another worker has to notice.
                    taken_over.append(_await_takeover(workplace, killed, killed_s))
                victim.begin()
            _all_is_proven(workplace, run_id, world)
        size = sum(one.path.stat().st_size for one in world.made)
        print(
            f"{kills} kills, {crashes} crashes of the server, {rounds + 1} runs,"
            f" {len(world.made)} instances at 3 destinations; the longest takeover"
            f" {max(taken_over):.1f} s; most associations {[r.most for r in world.relays]}"
            f" of {MOST}; bytes to the PACS {[f'{r.sent / size:.2f}' for r in world.relays]}"
            " times those of the source"
        )
        assert max(relay.most for relay in world.relays) <= MOST
        for host in hosts:
            # One that is only just starting ends by the signal itself.
            host.await_work()
        assert [host.stop() for host in hosts] == [0, 0, 0]


def _await_takeover(workplace: Workplace, killed: set[str], killed_s: float) -> float:
    """Wait until nobody takes the killed worker for living; return how long that took."""
    book = workplace.catalogue.workers
    assert book is not None
    eventually(lambda: killed.isdisjoint(one.identity.worker_id for one in book.workers()))
    return time.monotonic() - killed_s


def _ids_of(workplace: Workplace, host: Host) -> set[str]:
    book = workplace.catalogue.workers
    assert book is not None
    known = (worker.identity for worker in book.workers())
    return {one.worker_id for one in known if one.name == host.name}


def _all_is_proven(workplace: Workplace, run_id: RunId, world: World) -> None:
    report = await_end(workplace, run_id)
    assert report.exit_status == 0, [report.failures, report.counts]
    for orthanc in world.orthancs:
        assert orthanc.instances() == world.uids
    (source,) = workplace.catalogue.status.sources()
    for coverage in workplace.catalogue.status.coverage(source.source_id):
        assert coverage.by_level == {Level.PROVEN: len(world.made)}, coverage


def test_one_daemon_shows_all_workers(world: World) -> None:
    """On the page, in `top`, at the API and in the metrics."""
    hosts = [world.host("one"), world.host("two")]
    hosts[0].begin("serve", "--web-port", "0")
    hosts[1].begin()
    said = hosts[0].await_work()
    hosts[1].await_work()

    def get(path: str) -> str:
        headers = {"Authorization": f"Bearer {said['token']}"}
        request = urllib.request.Request(said["address"] + path, headers=headers)
        with urllib.request.urlopen(request, timeout=GENEROUS_S) as answer:
            return str(answer.read(), "utf-8")

    shown = json.loads(get("/api/workers"))["workers"]
    assert [(one["name"], one["role"]) for one in shown] == [("one", "serve"), ("two", "worker")]
    assert 'dcmvault_worker_running{worker="two",role="worker"' in get("/metrics")
    top = hosts[0].ask("top")
    assert [one["name"] for one in top["workers"]] == ["one", "two"]
    assert {one["silent_s"] < GENEROUS_S for one in top["workers"]} == {True}
    assert [host.stop() for host in hosts] == [0, 0]


def test_what_one_host_lacks_another_does(world: World) -> None:
    """A run whose source belongs to one host waits for that host, and is not failed."""
    owned = 'hosts.with = ["studies"]\n'
    hosts = [world.host("without", owned), world.host("with", owned)]
    hosts[0].begin()
    hosts[0].await_work()
    with asking(hosts[1]) as workplace:
        (run_id,) = ask_for(workplace, "all")
        book = workplace.catalogue.workers
        assert book is not None
        eventually(lambda: any(one.doing.lacks for one in book.workers()))
        (lacking,) = book.workers()
        assert lacking.doing.lacks == {str(world.source): "it belongs to with"}
        assert workplace.catalogue.runs.run(run_id).state not in ENDED
        hosts[1].begin()
        hosts[1].await_work()
        report = await_end(workplace, run_id)
    assert report.exit_status == 0, report
    assert [host.stop() for host in hosts] == [0, 0]


def test_a_frozen_worker_is_taken_over_and_begins_anew(world: World) -> None:
    """It holds its session while it is frozen: that is ended first; then it finds out."""
    hosts = [world.host("one"), world.host("two")]
    for host in hosts:
        host.begin()
    for host in hosts:
        host.await_work()
    with asking(hosts[0]) as workplace:
        before = _ids_of(workplace, hosts[0])
        (run_id,) = ask_for(workplace, "all")
        hosts[0].send(signal.SIGSTOP)
        _await_takeover(workplace, before, time.monotonic())
        _all_is_proven(workplace, run_id, world)
        hosts[0].send(signal.SIGCONT)
        eventually(lambda: _ids_of(workplace, hosts[0]))
    assert [host.stop() for host in hosts] == [0, 0]


def test_an_older_worker_goes_on_beside_a_newer_schema(world: World) -> None:
    """What a newer release added is nothing to it; but it does not start on such a schema."""
    (host,) = hosts = [world.host("one")]
    host.begin()
    host.await_work()
    with asking(host) as workplace:
        with workplace.catalogue.database.write() as connection:
            for statement in (
                "ALTER TABLE instances ADD COLUMN of_tomorrow TEXT",
                "CREATE TABLE of_tomorrow (id BIGINT PRIMARY KEY)",
                "UPDATE alembic_version SET version_num = '9999'",
            ):
                connection.execute(sa.text(statement))
        (run_id,) = ask_for(workplace, "all")
        _all_is_proven(workplace, run_id, world)
    assert host.stop() == 0
    refused = hosts[0].ask("worker")
    assert refused["error"]["code"] == "state"
    assert "newer release" in refused["error"]["message"]
