"""A wheel of the release before works, dies, or goes on beside this one; what it began ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.integration.hosts_world import DATABASE, GENEROUS_S, Host, eventually
from tests.integration.older_release import install

from dcmvault.catalogue.migrate import REVISIONS
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peer_faults import Action, Arrival
from dcmvault.testing.peers import SimulatedPacs

pytestmark = [pytest.mark.peers, pytest.mark.nightly]

STUDIES, INSTANCES = 12, 20
ALL = STUDIES * INSTANCES
#: Seconds that the PACS takes for an instance: a run lasts longer than a worker may be silent.
SLOW_S = 0.4


def _slow(_arrival: Arrival) -> Action:
    return Action(delay_s=SLOW_S)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("older"))


class World:
    """One host's state folder, a source, a slow PACS and a database of either kind."""

    def __init__(self, folder: Path, url: str, pacs: SimulatedPacs, older: Path) -> None:
        self.pacs = pacs
        self.url = url.replace("+psycopg", "")
        self._older = older
        self.source = folder / "studies"
        for number in range(STUDIES):
            make_study(self.source / str(number), key=f"u{number}", instances=INSTANCES)
        self.host = Host(folder / "home", "host", "", self.url)
        # Only what any release understands.
        where = f'database = "env:{DATABASE}"\n' if url else ""
        (self.host.home / "config.toml").write_text(f"{where}[retry]\nwait_s = 0.5\n")
        place = self.url.replace("postgresql", "postgresql+psycopg", 1)
        self._place = place or f"sqlite:///{self.host.home / 'catalogue.sqlite3'}"

    @property
    def backup(self) -> tuple[str, ...]:
        address = f"dicom://{self.pacs.ae_title}@127.0.0.1:{self.pacs.port}"
        return ("backup", str(self.source), "--to", address, "--verify", "sent", "--json")

    def begin_older(self) -> subprocess.Popen[str]:
        """Begin the backup by the release before."""
        return subprocess.Popen(
            [self._older, *self.backup, "--progress", "none"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, **self.host.environment},
        )

    def await_arrivals(self, number: int, process: subprocess.Popen[str]) -> None:
        """Wait until the PACS has got so many from a process."""

        def has_them() -> bool:
            if process.poll() is not None:
                pytest.fail(f"it ended: {process.communicate()}")
            return len(self.pacs.received) >= number

        eventually(has_them)

    def one(self, statement: str) -> list[str]:
        """Ask the catalogue for one column, whatever its schema."""
        engine = sa.create_engine(self._place)
        try:
            with engine.connect() as connection:
                return [str(value) for value in connection.scalars(sa.text(statement))]
        finally:
            engine.dispose()

    def schema(self) -> str:
        (revision,) = self.one("SELECT version_num FROM alembic_version")
        return revision


@pytest.fixture
def make_world(tmp_path: Path, older: Path) -> Iterator[Callable[[str], World]]:
    with ExitStack() as stack:

        def make(url: str) -> World:
            pacs = stack.enter_context(SimulatedPacs(_slow))
            world = World(tmp_path, url, pacs, older)
            stack.callback(world.host.kill)
            return world

        yield make


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_the_release_before_began_this_one_ends(
    request: pytest.FixtureRequest, make_world: Callable[[str], World], database: str
) -> None:
    """The schema is upgraded, the run goes on, and what was written down is not sent again."""
    is_shared = database == "postgresql"
    world = make_world(request.getfixturevalue("postgresql_url") if is_shared else "")
    written = (
        "SELECT sop_instance_uid FROM holdings JOIN versions ON versions.id = version_id"
        " JOIN instances ON instances.id = instance_id"
    )
    with world.begin_older() as process:
        world.await_arrivals(INSTANCES, process)
        eventually(lambda: world.one(written))
        process.kill()
        process.communicate()
    assert world.schema() in REVISIONS[:-1]
    known, before = set(world.one(written)), len(world.pacs.received)
    summary = world.host.ask(*world.backup[:-1])
    assert summary["exit_status"] == 0, summary
    assert world.schema() == REVISIONS[-1]
    assert world.one("SELECT run_id FROM runs") == [summary["run"]]
    assert len(set(world.pacs.received)) == ALL
    assert known.isdisjoint(world.pacs.received[before:])


def test_both_releases_work_side_by_side(
    postgresql_url: str, make_world: Callable[[str], World]
) -> None:
    """The older goes on, on the newer schema, and ends well; but it does not start on it."""
    world = make_world(postgresql_url)
    with world.begin_older() as process:
        world.await_arrivals(1, process)
        newer = Host(world.host.home.with_name("newer"), "newer", "", world.url)
        try:
            newer.begin()
            newer.await_work()
            assert world.schema() == REVISIONS[-1]
            said, told = process.communicate(timeout=GENEROUS_S)
        finally:
            process.send_signal(signal.SIGKILL)
            assert newer.stop() == 0
    assert process.returncode == 0, said + told
    assert json.loads(said)["instances"]["stored"] == ALL
    assert sorted(world.pacs.received) == sorted(set(world.pacs.received))
    assert len(world.pacs.received) == ALL
    with world.begin_older() as refused:
        said, _told = refused.communicate(timeout=GENEROUS_S)
    assert refused.returncode == 1
    error = json.loads(said)["error"]
    assert error["code"] == "state"
    assert "newer release" in error["message"]
    assert DATABASE not in said
