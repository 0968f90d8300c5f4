"""Several hosts share work: `unshare --net python -m bench.scale_figures.hosts WHAT`.

WHAT is `throughput` or `takeover`; prints a JSON list of rows. See `bench.scale` for what they say.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import sqlalchemy as sa
from bench.delivery_figures.contenders import helper
from bench.scale_figures.emulated_host import SERVER, EmulatedHost, Limits, make_shared_address
from scripts.peer_processes import PostgreSQL, postgresql

from dcmvault.app.backup import requests_of_plan, start
from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.config.load import load_settings
from dcmvault.model.identifiers import RunId
from dcmvault.model.report import RunState
from dcmvault.testing.dicom_files import make_instance

_DATABASE = "BENCH_DATABASE"
_GENEROUS_S = 600.0
_LOOK_S = 0.02
_ENDED = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CANCELLED})
_PER_STUDY = 20
_KILLS = 4


@dataclass(frozen=True, slots=True)
class Load:
    """Files that are sent to each of two destinations."""

    folder: Path
    instances: int
    size: int


class World:
    """Two destinations, a PostgreSQL and hosts; within `made_world`."""

    def __init__(self, folder: Path, server: PostgreSQL, ports: Sequence[int], load: Load) -> None:
        self.folder = folder
        self.load = load
        self.logs = [folder / f"sink{number}" for number in range(len(ports))]
        self._ports = ports
        self._server = server
        name = f"bench{folder.name}".lower().replace("-", "_")
        with psycopg.connect(server.url().replace("+psycopg", ""), autocommit=True) as one:
            one.execute(f'CREATE DATABASE "{name}"')
        #: As the bench reaches it, and as hosts do.
        self.url = server.url(name)
        self.url_of_hosts = self.url.replace("+psycopg", "").replace("127.0.0.1", SERVER)

    def configuration(self, name: str) -> str:
        """Write what a host, or the bench itself, is configured with."""
        sinks = "".join(
            f'[destinations.sink{number}]\naddress = "dicom://SINK@{SERVER}:{port}"\n'
            'level = "sent"\n'
            for number, port in enumerate(self._ports)
        )
        return (
            f'database = "env:{_DATABASE}"\nhost = "{name}"\n[retry]\nwait_s = 0.5\n'
            f'[sources.studies]\naddress = "{self.load.folder}"\n{sinks}'
            '[plans.all]\nsources = ["studies"]\ndestinations = ["sink0", "sink1"]\n'
        )

    def host(self, number: int, limits: Limits) -> EmulatedHost:
        """Make a host, without a worker yet."""
        home = self.folder / f"host{number}"
        home.mkdir()
        (home / "config.toml").write_text(self.configuration(home.name))
        return EmulatedHost(number, home, limits, {_DATABASE: self.url_of_hosts})

    @contextmanager
    def asking(self) -> Iterator[Workplace]:
        """Open what only asks for work, and looks."""
        home = self.folder / "asking"
        home.mkdir()
        (home / "config.toml").write_text(self.configuration("asking"))
        os.environ[_DATABASE] = self.url.replace("+psycopg", "")
        with open_workplace(home, load_settings(home / "config.toml")) as workplace:
            yield workplace

    def taken(self) -> list[list[str]]:
        """Return the SOP Instance UIDs that each destination took, in order."""
        return [log.read_text().split() if log.exists() else [] for log in self.logs]


@contextmanager
def made_world(folder: Path, load: Load) -> Iterator[World]:
    """Run what hosts share."""
    folder.mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(postgresql(also_on=SERVER))
        ports = [
            stack.enter_context(
                helper("sink", "--everywhere", "--log", str(folder / f"sink{number}"))
            ).port
            for number in range(2)
        ]
        yield World(folder, server, ports, load)


def make_load(folder: Path, instances: int, side: int, first: int = 0) -> Load:
    """Write CT slices of so many pixels squared, 20 in a study and a folder."""
    uids = [f"2.25.{level}{{:09}}" for level in (3, 4, 5)]
    made = make_instance(
        folder.with_suffix(".dcm"), *(uid.format(0) for uid in uids), rows=side, columns=side
    )
    template = made.path.read_bytes()
    made.path.unlink()
    size = 0
    for number in range(first, first + instances):
        study = number // _PER_STUDY
        one = template
        for uid, value in zip(uids, (study, study, number), strict=True):
            one = one.replace(uid.format(0).encode(), uid.format(value).encode())
        place = folder / f"study{study:05}"
        place.mkdir(parents=True, exist_ok=True)
        # That no two have the same pixels is all that matters of them here.
        (place / f"{number:06}.dcm").write_bytes(one[:-8] + number.to_bytes(8))
        size += len(one)
    return Load(folder, instances, size)


def throughput(work: Path) -> Iterator[dict[str, Any]]:
    """One worker beside two: where a host's link is the limit, and where its processor is."""
    large = make_load(work / "large", 600, 512)
    small = make_load(work / "small", 3_000, 127)
    for name, load, limits in (
        ("link", large, Limits(megabits_per_s=100)),
        ("processor", small, Limits(cores=0.4)),
    ):
        one, two = (
            _time_of(work / f"{name}{workers}", load, limits, workers) for workers in (1, 2)
        )
        yield {
            "what": f"two destinations, 1 -> 2 workers with {limits}",
            "ours": f"{_rate(load, one)} -> {_rate(load, two)} MB/s",
            "theirs": f"whole run: {one.whole_s:.1f} -> {two.whole_s:.1f} s",
            "value": one.delivery_s / two.delivery_s,
            "asked": 1.7,
            "unit": " x",
            "at_least": True,
        }


class Took(NamedTuple):
    """Seconds of a whole run, and from the begin of its first job to the end of its last."""

    whole_s: float
    delivery_s: float


def _rate(load: Load, took: Took) -> str:
    return f"{2 * load.size / took.delivery_s / 1e6:.1f}"


def _time_of(folder: Path, load: Load, limits: Limits, workers: int) -> Took:
    """Have so many hosts do a run."""
    jobs = sa.text(
        "SELECT (max(completed_at) - min(started_at_epoch_ms)) / 1000.0"
        " FROM dbos.workflow_status WHERE queue_name <> 'runs'"
    )
    with made_world(folder, load) as world, ExitStack() as stack:
        for number in range(workers):
            host = world.host(number, limits)
            stack.callback(host.close)
            host.begin()
        with world.asking() as workplace:
            began = time.perf_counter()
            _await_end(workplace, _ask(workplace))
            whole_s = time.perf_counter() - began
            with workplace.catalogue.database.read() as connection:
                delivery_s = float(connection.scalar(jobs) or 0)
            _require_all(world)
    shutil.rmtree(folder)
    return Took(whole_s, delivery_s)


def takeover(work: Path) -> Iterator[dict[str, Any]]:
    """Kill one of two workers in each of some runs, cut one off in the last; account for all.

    What is handed back is first in its queue, and begun when a worker that lives has a free slot:
    here jobs take a second or two.
    """
    rounds = [make_load(work / f"round{n}", 1_600, 127, n * 1_600) for n in range(_KILLS + 1)]
    source = work / "studies"
    source.mkdir()
    load = Load(source, sum(one.instances for one in rounds), sum(one.size for one in rounds))
    chance = random.Random("takeover")
    with made_world(work / "world", load) as world, ExitStack() as stack:
        hosts = [world.host(number, Limits(megabits_per_s=100)) for number in range(2)]
        for host in hosts:
            stack.callback(host.close)
            host.begin()
        with world.asking() as workplace:
            watch = _Watch(world, workplace)
            taken: list[TakenOver] = []
            for number, some in enumerate(rounds):
                some.folder.rename(source / some.folder.name)
                run_id = _ask(workplace)
                victim = hosts[number % 2]
                if number < _KILLS:
                    taken.append(watch.taken_over(victim, chance.uniform(0, 1), victim.kill))
                    victim.begin()
                else:
                    taken.append(watch.taken_over(victim, 0.5, victim.cut_off))
                    victim.cut_off(is_off=False)
                _await_end(workplace, run_id)
            _require_all(world)
            watch.look_for_needless()
        yield _takeover_row(f"a killed worker's work begun by others, {_KILLS} kills", taken[:-1])
        yield _takeover_row("that of a worker whose host is cut off", taken[-1:])
        counts = [Counter(uids) for uids in world.taken()]
        again = sum(1 for one in counts for times in one.values() if times > 1)
        yield {
            "what": "sent again though written down as sent (none is lost)",
            "ours": f"{watch.needless} of {2 * load.instances}",
            "theirs": f"{again} in flight were sent twice",
            "value": watch.needless,
            "asked": 0,
        }


def _takeover_row(what: str, taken: Sequence[TakenOver]) -> dict[str, Any]:
    """Say of the slowest when others had begun it all; beside it when they could have."""
    handed = ", ".join(f"{one.handed_back_s:.1f}" for one in taken)
    return {
        "what": what,
        "ours": f"handed back: {handed} s",
        "theirs": f"median {statistics.median(one.begun_s for one in taken):.1f} s",
        "value": max(one.begun_s for one in taken),
        "asked": 15,
        "unit": " s",
    }


class TakenOver(NamedTuple):
    """Seconds from a death until all its work was on its queues again, and begun by others."""

    handed_back_s: float
    begun_s: float


class _Watch:
    """What was in flight when a worker died, who took it up, and what was sent needlessly."""

    def __init__(self, world: World, workplace: Workplace) -> None:
        self._world = world
        self._workplace = workplace
        self._database = workplace.catalogue.database
        #: What each destination had taken, and what was written down of it, at each death.
        self._deaths: list[tuple[list[int], list[set[str]]]] = []
        self.needless = 0

    def taken_over(self, host: EmulatedHost, after_s: float, end: Callable[[], None]) -> TakenOver:
        """End a host's worker soon after it has work; wait until others have begun that."""
        book = self._workplace.catalogue.workers
        assert book is not None
        (executor,) = [
            one.executor for one in book.workers() if one.identity.name == host.home.name
        ]
        began = time.monotonic()
        while len(self._begun_by(executor)) < 2:
            if time.monotonic() - began > _GENEROUS_S:
                raise SystemExit(f"{host.home.name} has no work.")
            time.sleep(_LOOK_S)
        time.sleep(after_s)
        end()
        died = time.perf_counter()
        # It may have begun others in its last moment.
        left = set(self._begun_by(executor))
        self._deaths.append(([len(uids) for uids in self._world.taken()], self._written_down()))
        handed_back_s = 0.0
        while states := self._states_of(left, executor):
            since_s = time.perf_counter() - died
            if since_s > _GENEROUS_S:
                raise SystemExit("The work of a dead worker was not taken over.")
            if "PENDING" in states:
                handed_back_s = since_s
            time.sleep(_LOOK_S)
        return TakenOver(handed_back_s, time.perf_counter() - died)

    def look_for_needless(self) -> None:
        """Count what was sent again though it was written down when a worker died."""
        taken = self._world.taken()
        for lengths, written in self._deaths:
            for uids, length, known in zip(taken, lengths, written, strict=True):
                self.needless += len(known.intersection(uids[length:]))

    def _begun_by(self, executor: str) -> list[str]:
        with self._database.read() as connection:
            return list(
                connection.scalars(
                    sa.text(
                        "SELECT workflow_uuid FROM dbos.workflow_status"
                        " WHERE status = 'PENDING' AND executor_id = :executor"
                    ),
                    {"executor": executor},
                )
            )

    def _states_of(self, workflows: set[str], executor: str) -> set[str]:
        """Return the states of those of these that no other worker has begun."""
        untouched = sa.text(
            "SELECT DISTINCT status FROM dbos.workflow_status"
            " WHERE workflow_uuid = ANY(:workflows)"
            " AND (status = 'ENQUEUED' OR status = 'PENDING' AND executor_id = :executor)"
        )
        with self._database.read() as connection:
            given = {"workflows": list(workflows), "executor": executor}
            return set(connection.scalars(untouched, given))

    def _written_down(self) -> list[set[str]]:
        """Return what the catalogue knows to be sent, by destination."""
        statement = sa.text(
            "SELECT destinations.name, sop_instance_uid FROM holdings"
            " JOIN destinations ON destinations.id = destination_id"
            " JOIN versions ON versions.id = version_id"
            " JOIN instances ON instances.id = instance_id"
        )
        names = [
            self._workplace.settings.destination(f"sink{number}").section.address
            for number in range(len(self._world.logs))
        ]
        found: dict[str, set[str]] = {name: set() for name in names}
        with self._database.read() as connection:
            for name, uid in connection.execute(statement):
                found[name].add(uid)
        return list(found.values())


def _ask(workplace: Workplace) -> RunId:
    (request,) = requests_of_plan(workplace.settings, "all")
    return start(workplace, request).run_id


def _await_end(workplace: Workplace, run_id: RunId) -> None:
    deadline = time.monotonic() + _GENEROUS_S
    while workplace.catalogue.runs.run(run_id).state not in _ENDED:
        if time.monotonic() > deadline:
            raise SystemExit("The run did not end.")
        time.sleep(_LOOK_S)
    report = workplace.catalogue.runs.report(run_id)
    if report.exit_status:
        raise SystemExit(f"The run ended with {report.exit_status}: {report.counts}")


def _require_all(world: World) -> None:
    """Have every instance at both destinations; SystemExit where one is lost."""
    for uids in world.taken():
        if len(set(uids)) != world.load.instances:
            raise SystemExit(f"{len(set(uids))} of {world.load.instances} instances arrived.")


def main() -> None:
    figures = {"throughput": throughput, "takeover": takeover}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=figures)
    options = parser.parse_args()
    make_shared_address()
    with tempfile.TemporaryDirectory(prefix="dcmvault-bench-") as folder:
        print(json.dumps(list(figures[options.what](Path(folder)))))


if __name__ == "__main__":
    main()
