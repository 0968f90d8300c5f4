"""An archive of many studies as runs would leave it: for the figures of the dashboard."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa

from dcmvault.catalogue import Catalogue
from dcmvault.catalogue.bulk import insert_rows
from dcmvault.catalogue.matrix_tables import study_changes, study_lines
from dcmvault.catalogue.requests import to_text
from dcmvault.catalogue.tables import (
    destinations,
    entries,
    holdings,
    instances,
    run_destinations,
    runs,
    series,
    sources,
    studies,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import new_run_id
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest, Strategy

NOW = datetime(2026, 7, 1, tzinfo=UTC)
PLACES = ("vault:/backup", "dicom://PACS@pacs:104?calling=DCMVAULT", "vault:s3://copies/main")
SOURCES = ("/library", "dicom://MODALITY@ct:104?calling=DCMVAULT")
RUNS = 400
#: Every so manieth study has so many instances.
LARGE_EACH, LARGE = 2_500, 500
_AT_ONCE = 2_000
_FAMILIES = ("Silva", "Souza", "Müller", "Doe", "Nguyễn", "Pereira", "Kowalska", "García", "Smith")
_GIVEN = ("João", "Maria", "Jane", "Ana", "Zoë", "Pedro", "Anna", "José", "Lucía", "Thu")
_MODALITIES = ("CT", "MR", "CR", "US", "MG", "PT")
_PARTS = ("Knee", "Chest", "Abdomen", "Head", "Spine")
_ENTRY_COLUMNS = (
    *("id", "source_id", "locator", "size", "mtime_ns", "inode", "claim", "state"),
    *("version_id", "study_id"),
)
_RUN_COLUMNS = (
    *("id", "run_id", "request", "kind", "strategy", "source_id", "state"),
    *("created_at", "started_at", "finished_at"),
)
_HOLDING_COLUMNS = (
    *("destination_id", "version_id", "state", "level", "verified_at", "received_at"),
    *("complete_at", "committed_at", "proven_at", "coerced"),
)


def uid_of(key: int) -> str:
    """Return the Study Instance UID of a study, numbered from 1."""
    return f"1.2.826.0.1.3680043.{key}"


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


class Maker:
    """Writes rows as runs would leave them: most studies held, some partly, some damaged."""

    def __init__(
        self,
        catalogue: Catalogue,
        studies_wanted: int,
        per_study: int,
        where: tuple[Sequence[str], Sequence[str]] = (SOURCES, PLACES),
    ) -> None:
        self._catalogue = catalogue
        self._wanted = studies_wanted
        self._per_study = per_study
        #: Addresses of two sources, and of three destinations.
        self._sources, self._places_named = where
        self._chance = random.Random(8)

    def make(self) -> None:
        """Write everything, and note every study as changed."""
        with self._catalogue.database.write() as connection:
            self._places(connection)
        for first in range(1, self._wanted + 1, _AT_ONCE):
            keys = range(first, min(first + _AT_ONCE, self._wanted + 1))
            with self._catalogue.database.write() as connection:
                self._studies(connection, keys)
                self._copies(connection, keys)
        with self._catalogue.database.write() as connection:
            connection.execute(
                sa.insert(study_changes).from_select(["study_id"], sa.select(studies.c.id))
            )
            if connection.dialect.name != "sqlite":
                connection.execute(sa.text("ANALYZE"))

    def _places(self, connection: sa.Connection) -> None:
        for table, names in ((sources, self._sources), (destinations, self._places_named)):
            rows = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
            connection.execute(sa.insert(table), rows)
        asked = tuple(map(DestinationRequest, self._places_named))
        listed, parts = [], []
        for number in range(1, RUNS + 1):
            key = 1 + number % len(self._sources)
            request = RunRequest(
                RunKind.BACKUP, self._sources[key - 1], asked, Strategy.INCREMENTAL
            )
            begun = NOW - timedelta(hours=12 * (RUNS - number) + 1)
            times = (_microseconds(begun), _microseconds(begun + timedelta(minutes=9)))
            named = (number, new_run_id(begun), to_text(request))
            listed.append((*named, "backup", "incremental", key, "finished", times[0], *times))
            parts += [
                {"run_id": number, "destination_id": place, "items": 900, "n_held": 900}
                for place in range(1, len(self._places_named) + 1)
            ]
        insert_rows(connection, runs, _RUN_COLUMNS, listed)
        connection.execute(sa.insert(run_destinations), parts)

    def _studies(self, connection: sa.Connection, keys: range) -> None:
        chance = self._chance
        rows, of_series = [], []
        for key in keys:
            name = f"{chance.choice(_FAMILIES)}^{chance.choice(_GIVEN)} {key % 977}"
            when = date(2010, 1, 1) + timedelta(days=chance.randrange(6000))
            part = chance.choice(_PARTS)
            uid = f"1.2.826.0.1.3680043.{key}"
            about = (name, f"P{key % 40_000:06}", f"{when:%Y%m%d}", f"{part} {key % 7}")
            rows.append((key, uid, *about, f"A{key:08}"))
            of_series.append((key, key, f"{uid}.1", chance.choice(_MODALITIES)))
        names = ("id", "study_instance_uid", "patient_name", "patient_id", "study_date")
        insert_rows(connection, studies, (*names, "study_description", "accession_number"), rows)
        insert_rows(
            connection, series, ("id", "study_id", "series_instance_uid", "modality"), of_series
        )

    def _numbers(self, keys: range) -> Iterator[tuple[int, int]]:
        last = self._wanted * self._per_study
        for key in keys:
            for n in range(self._per_study):
                yield key, (key - 1) * self._per_study + n + 1
            if key % LARGE_EACH == 0:
                before = last + (key // LARGE_EACH - 1) * LARGE
                yield from ((key, before + n + 1) for n in range(LARGE - self._per_study))

    def _copies(self, connection: sa.Connection, keys: range) -> None:
        numbers = list(self._numbers(keys))
        insert_rows(
            connection,
            instances,
            ("id", "series_id", "sop_instance_uid"),
            ((n, key, f"1.2.826.0.1.3680043.{key}.1.{n}") for key, n in numbers),
        )
        insert_rows(
            connection,
            versions,
            ("id", "instance_id", "size"),
            ((n, n, 500_000 + n % 1000) for _, n in numbers),
        )
        gone = {key for key in keys if key % 50 == 0}
        insert_rows(
            connection,
            entries,
            _ENTRY_COLUMNS,
            (
                (
                    n,
                    1 + key % 2,
                    f"{n:09}.dcm",
                    500000,
                    n,
                    n,
                    "dicom",
                    "gone" if key in gone else "present",
                    n,
                    key,
                )
                for key, n in numbers
            ),
        )
        for place in range(1, len(self._places_named) + 1):
            held = ((key, n, self._level(key, place)) for key, n in numbers)
            insert_rows(
                connection,
                holdings,
                _HOLDING_COLUMNS,
                (
                    (place, n, state, level.value, *self._facts(key, level), False)
                    for key, n, (state, level) in held
                    if state
                ),
            )

    @staticmethod
    def _level(key: int, place: int) -> tuple[str, Level]:
        if key % (place * 11) == 0:
            return "", Level.NONE
        if key % 301 == place:
            return "damaged", Level.NONE
        if key % 37 == place:
            return "sent", Level.SENT
        return "held", (Level.PROVEN, Level.COMPLETE, Level.COMMITTED)[key % 3]

    @staticmethod
    def _facts(key: int, level: Level) -> tuple[int | None, ...]:
        """Return when it was verified, sent, and seen complete, committed and proven."""
        at = _microseconds(NOW - timedelta(hours=key % 9000))
        order = (Level.COMPLETE, Level.COMMITTED, Level.PROVEN)
        return (at, at, *(at if level >= one else None for one in order))


def count_studies(catalogue: Catalogue) -> None:
    """Count the matrix, as the daemon does, and print how long that takes."""
    now = NOW
    began = time.perf_counter()
    counted = 0
    while True:
        with catalogue.database.read() as connection:
            before = connection.scalar(sa.select(sa.func.count()).select_from(study_lines))
        now += timedelta(hours=1)
        slice_began = time.perf_counter()
        waiting = catalogue.matrix.recount(now)
        longest = time.perf_counter() - slice_began
        counted = max(counted, int(longest * 1000))
        if not waiting:
            break
    spent = time.perf_counter() - began
    print(f"counting it all: {spent:.0f} s, {(before or 0) / spent:,.0f} studies/s,", end=" ")
    print(f"longest slice {counted} ms")
