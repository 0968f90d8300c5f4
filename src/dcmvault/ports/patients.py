"""Port: who the catalogue's patients are, for whoever must leave them out of something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class PatientNames(Protocol):
    """Names and identifiers of patients, to search for them where they must not be."""

    def patients(self) -> Iterator[str]:
        """Yield every distinct Patient's Name and Patient ID, as they stand in data sets."""
        ...
