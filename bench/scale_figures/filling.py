"""A catalogue as years of runs would leave it, written by the database itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from bench.scale_figures.made_source import MTIME_NS, PER_SERIES, PER_STUDY, SIZE, MadeSource

from dcmvault.catalogue import Catalogue
from dcmvault.model.evidence import Level

#: What each destination has, and whether it keeps several contents under one identity.
PLACES = (
    ("vault:/first", True, Level.PROVEN),
    ("vault:/second", True, Level.COMPLETE),
    ("dicom://PACS@127.0.0.1:104", False, Level.COMPLETE),
)
_TABLES = ("studies", "series", "instances", "versions", "entries", "holdings")
#: Instances written in one transaction.
_AT_ONCE = 1_000_000
_UID = "1.2.826.0.1.3680043.10.1"
_AT = 1_700_000_000_000_000


def fill(catalogue: Catalogue, instances: int) -> None:
    """Have the catalogue know `instances` files of a `MadeSource`, held by all `PLACES`."""
    source_id = catalogue.sources.source(MadeSource(0).name)
    places = [catalogue.plans.destination(name, keeps_versions=keeps) for name, keeps, _ in PLACES]
    is_sqlite = catalogue.database.is_sqlite
    with _without_indexes(catalogue):
        for first in range(0, instances, _AT_ONCE):
            last = min(first + _AT_ONCE, instances)
            with catalogue.database.write() as connection:
                for statement in _rows(is_sqlite, int(source_id), list(map(int, places))):
                    connection.execute(sa.text(statement), {"first": first, "last": last})
    with catalogue.database.write() as connection:
        studies = (instances + PER_STUDY - 1) // PER_STUDY
        connection.execute(
            sa.text(
                f"UPDATE sources SET entries = {instances}, instances = {instances},"
                f" studies = {studies}, bytes = {instances * SIZE},"
                f" believed_instances = {instances} WHERE id = {source_id}"
            )
        )
    if not is_sqlite:
        _give_keys_on(catalogue)
    with catalogue.database.write() as connection:
        connection.execute(sa.text("ANALYZE"))


@contextmanager
def _without_indexes(catalogue: Catalogue) -> Iterator[None]:
    """Have PostgreSQL check and index its rows once, when all are there: half the time."""
    if catalogue.database.is_sqlite:
        yield
        return
    tables = ", ".join(f"'{table}'::regclass" for table in _TABLES)
    # References last when they are made, and first when they go.
    constraints = (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        f" WHERE conrelid IN ({tables}) ORDER BY contype = 'f', contype, conname"
    )
    indexes = (
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        f" WHERE indrelid IN ({tables})"
    )
    with catalogue.database.write() as connection:
        bound = connection.execute(sa.text(constraints)).all()
        # Other tables refer to some of these: keys stay, they grow at their end only.
        bound = [one for one in bound if not one[2].startswith("PRIMARY KEY")]
        for table, name, _made in reversed(bound):
            connection.execute(sa.text(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))
        keys = [f"pk_{table}" for table in _TABLES]
        indexed = [one for one in connection.execute(sa.text(indexes)) if one[0] not in keys]
        for name, _made in indexed:
            connection.execute(sa.text(f"DROP INDEX {name}"))
    yield
    for _name, made in indexed:
        with catalogue.database.write() as connection:
            connection.execute(sa.text(made))
    for table, name, made in bound:
        with catalogue.database.write() as connection:
            connection.execute(sa.text(f"ALTER TABLE {table} ADD CONSTRAINT {name} {made}"))


def _rows(is_sqlite: bool, source_id: int, places: list[int]) -> Iterator[str]:
    """Yield the statements that write the rows of instances `:first` to `:last`."""

    def numbers(of: int) -> str:
        """Name the numbers n of things that hold `of` instances each."""
        first, last = f":first / {of}", f"(:last + {of} - 1) / {of} - 1"
        if not is_sqlite:
            series = f"generate_series(CAST({first} AS BIGINT), CAST({last} AS BIGINT))"
            return f"(SELECT {series} AS n) AS counted"
        return (
            f"(WITH RECURSIVE counted(n) AS (SELECT {first} UNION ALL"
            f" SELECT n + 1 FROM counted WHERE n < {last}) SELECT n FROM counted)"
        )

    def text(number: str) -> str:
        if is_sqlite:
            return f"printf('%09d', {number})"
        return f"lpad(CAST({number} AS TEXT), 9, '0')"

    study, one = f"n / {PER_STUDY}", "n + 1"
    yield (
        "INSERT INTO studies (id, study_instance_uid, study_date, patient_id)"
        f" SELECT {one}, '{_UID}.' || {text('n')}, '20240101', {text('n')}"
        f" FROM {numbers(PER_STUDY)}"
    )
    yield (
        "INSERT INTO series (id, study_id, series_instance_uid, modality)"
        f" SELECT {one}, n * {PER_SERIES} / {PER_STUDY} + 1, '{_UID}.2.' || {text('n')}, 'CT'"
        f" FROM {numbers(PER_SERIES)}"
    )
    yield (
        "INSERT INTO instances (id, series_id, sop_instance_uid)"
        f" SELECT {one}, n / {PER_SERIES} + 1, '{_UID}.3.' || {text('n')} FROM {numbers(1)}"
    )
    yield (
        "INSERT INTO versions (id, instance_id, size, instance_number)"
        f" SELECT {one}, {one}, {SIZE}, n % {PER_SERIES} FROM {numbers(1)}"
    )
    yield (
        "INSERT INTO entries (id, source_id, locator, size, mtime_ns, inode, claim, state,"
        " version_id, study_id)"
        f" SELECT {one}, {source_id}, 'study-' || {text(study)} || '/' || {text('n')} || '.dcm',"
        f" {SIZE}, {MTIME_NS}, n, 'dicom', 'present', {one}, {study} + 1 FROM {numbers(1)}"
    )
    for place, (_name, _keeps, level) in zip(places, PLACES, strict=True):
        yield (
            "INSERT INTO holdings (destination_id, version_id, state, level, received_at,"
            " verified_at, complete_at)"
            f" SELECT {place}, {one}, 'held', {int(level)}, {_AT}, {_AT}, {_AT} FROM {numbers(1)}"
        )


def _give_keys_on(catalogue: Catalogue) -> None:
    """Let PostgreSQL's own keys go on after those that were written."""
    with catalogue.database.write() as connection:
        for table in ("studies", "series", "instances", "versions", "entries"):
            connection.execute(
                sa.text(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'),"
                    f" (SELECT max(id) FROM {table}))"
                )
            )
