"""kill -9 while copies are read back, then the same command: all is proven, nothing twice."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.story import instances, summary_of

from dcmvault.model.evidence import Level
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.lies import Lie
from dcmvault.testing.lying_pacs import LyingPacs

STUDIES, EACH = 12, 3
INSTANCES = STUDIES * EACH


def _asked(home: Path, query: str, *values: object) -> list[tuple[object, ...]]:
    """Ask the catalogue, from outside the product."""
    (catalogue,) = home.rglob("catalogue.sqlite3")
    with closing(sqlite3.connect(f"file:{catalogue}?mode=ro", uri=True)) as database:
        return database.execute(query, values).fetchall()


def _kill_and_continue(
    start: StartDcmvault, run: RunDcmvault, home: Path, folder: Path, *, kills: int, seed: int
) -> None:
    for number in range(STUDIES):
        make_study(folder / str(number), key=f"{folder}{number}", instances=EACH)
    chance = random.Random(seed)
    with LyingPacs(Lie.DROPS, every=0) as pacs:
        summary_of(run("backup", folder, "--to", pacs.address, "--verify", "sent", "--json"))
        command = ("verify", folder, "--at", pacs.address, "--level", "proven", "--json")
        for _kill in range(kills):
            process = start(*command)
            moment = len(pacs.sent_back) + 1 + chance.randrange(INSTANCES - EACH)
            while len(pacs.sent_back) < moment and process.poll() is None:
                time.sleep(0.001)
            process.kill()
            process.communicate()
        summary = summary_of(run(*command))
        assert instances(summary) == {"selected": INSTANCES, "stored": INSTANCES}
        assert len(set(pacs.sent_back)) == INSTANCES
    # A run that ended just before it was killed was whole, and another one followed.
    (backup, *runs) = _asked(home, "SELECT state FROM runs ORDER BY id")
    assert {*runs, backup} == {("finished",)}
    proofs = _asked(
        home,
        "SELECT count(*), sum(held) FROM evidence WHERE level = ? GROUP BY study_id",
        int(Level.PROVEN),
    )
    assert proofs == [(len(runs), EACH * len(runs))] * STUDIES


def test_killed_ten_times(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "studies"
    _kill_and_continue(start_dcmvault, run_dcmvault, home, folder, kills=10, seed=1)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100, 105))
def test_killed_fifty_times(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, home: Path, tmp_path: Path, seed: int
) -> None:
    folder = tmp_path / "studies"
    _kill_and_continue(start_dcmvault, run_dcmvault, home, folder, kills=10, seed=seed)
