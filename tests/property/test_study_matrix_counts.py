"""The matrix's counts, kept as changes are noted, are those of counting everything anew."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dcmvault.catalogue import Catalogue, open_catalogue
from dcmvault.catalogue.matrix_tables import (
    study_changes,
    study_copies,
    study_lines,
    study_sources,
)
from dcmvault.catalogue.tables import studies
from dcmvault.model.evidence import Finding
from dcmvault.model.plan import RunKind
from dcmvault.testing.catalogue_history import History
from dcmvault.testing.catalogue_world import START, World, header, scanned


class _Time:
    """A clock that is always so much later that nothing rests."""

    def __init__(self) -> None:
        self.now = START

    def drain(self, catalogue: Catalogue) -> None:
        """Count all that changed."""
        self.now += timedelta(days=1)
        while catalogue.matrix.recount(self.now):
            pass


def _rows(catalogue: Catalogue) -> dict[str, list[Any]]:
    found = {}
    with catalogue.database.read() as connection:
        for table in (study_lines, study_copies, study_sources):
            columns = [one for one in table.columns if one.name != "counted_at"]
            rows = connection.execute(sa.select(*columns).order_by(*table.primary_key))
            found[table.name] = [tuple(row) for row in rows]
    return found


def _check(catalogue: Catalogue, time: _Time) -> None:
    time.drain(catalogue)
    kept = _rows(catalogue)
    with catalogue.database.write() as connection:
        connection.execute(
            sa.insert(study_changes).from_select(["study_id"], sa.select(studies.c.id))
        )
    time.drain(catalogue)
    assert kept == _rows(catalogue)


def _disturb(catalogue: Catalogue, chance: random.Random, seed: int) -> None:
    """Do what no run does: refute, forget and doubt copies, or restore from elsewhere."""
    place = catalogue.plans.destination(f"/copy{chance.randrange(2)}-{seed}")
    uid = f"2.25.{100 * seed + chance.randrange(1, 4)}"
    what = chance.randrange(5)
    if what == 0:
        finding = chance.choice((Finding.MISSING, Finding.DAMAGED))
        catalogue.holdings.refute_copies(place, {uid: ()}, finding, START, files={})
    elif what == 1:
        catalogue.plans.forget_copies(place, uid)
    elif what == 2:
        runs = catalogue.runs.runs(50)
        catalogue.snapshots.doubt_copies(place, [], chance.choice(runs).run_id)
    elif what == 3:
        known = chance.choice((True, False))
        catalogue.plans.destination(f"/copy0-{seed}", keeps_versions=known)
    else:
        vault = World(catalogue, f"vault:/{seed}", "/pacs", label=f"r{seed}-{chance.random()}")
        run_id = vault.run(kind=RunKind.RESTORE)
        number = int(uid.split(".")[2])
        vault.scan(run_id, [scanned("x", "x", header(number, 1, 1))], believe_absence=False)
        for job in vault.plan(run_id, vault.due(run_id)):
            vault.verify(job, vault.send(job, {"x": "x"}))


@pytest.mark.parametrize("seed", range(2))
def test_no_change_of_a_random_history_goes_unnoticed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    catalogue = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    time = _Time()
    history = History(catalogue, seed + 1)
    for _ in range(7):
        history.play(steps=1)
        if chance.random() < 0.5:
            time.drain(catalogue)
        else:
            catalogue.matrix.recount(time.now, instances=1)
    _check(catalogue, time)
    for _ in range(7):
        # The history's own model knows nothing of this, and is not asked any more.
        _disturb(catalogue, chance, seed + 1)
        _check(catalogue, time)
    catalogue.close()
