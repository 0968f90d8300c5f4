"""Names and identifiers of the patients whose studies the catalogue knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from dcmvault.catalogue.database import Database
from dcmvault.catalogue.tables import studies

_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class PatientsInDatabase:
    """Implements `ports.patients.PatientNames`."""

    database: Database

    def patients(self) -> Iterator[str]:
        """Yield them, names first; memory does not grow with their number."""
        for column in (studies.c.patient_name, studies.c.patient_id):
            query = sa.select(column).where(column != "").distinct()
            with self.database.read() as connection:
                for (text,) in connection.execution_options(yield_per=_AT_ONCE).execute(query):
                    yield text
