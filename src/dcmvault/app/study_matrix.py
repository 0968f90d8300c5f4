"""The studies page: the matrix by pages, what can be chosen, and all of it as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.readable import as_source
from dcmvault.model.study_matrix import (
    StudyOrder,
    StudyPage,
    StudyPlace,
    StudyQuery,
)
from dcmvault.reports.studies_csv import render_lines
from dcmvault.reports.studies_json import render_json

_LARGEST_PAGE = 200
#: Between looks for what changed: while much waits, and while little does.
_SOON, _NEXT, _LATER = timedelta(seconds=0.1), timedelta(seconds=1), timedelta(seconds=2)
#: So many wait only after a first start, or a first backup.
_MUCH = 200


@dataclass(frozen=True, slots=True)
class Place:
    """A source or a destination: its canonical address, and its configured name if it has one."""

    address: str
    name: str = ""

    @property
    def shown(self) -> str:
        """What people call it."""
        return self.name or self.address


@dataclass(frozen=True, slots=True)
class MatrixChoices:
    """What the matrix has columns for, and what can be filtered by."""

    sources: tuple[Place, ...]
    destinations: tuple[Place, ...]
    modalities: tuple[str, ...]


def studies_page(
    workplace: Workplace,
    query: StudyQuery,
    *,
    order: StudyOrder = StudyOrder.DATE,
    descending: bool = True,
    place: StudyPlace | None = None,
    limit: int = 50,
) -> StudyPage:
    """Return a page of at most 200 studies."""
    return workplace.catalogue.matrix.page(
        query,
        order=order,
        descending=descending,
        place=place,
        limit=max(1, min(limit, _LARGEST_PAGE)),
    )


def matrix_choices(workplace: Workplace) -> MatrixChoices:
    """Say what there is: sources that were seen, destinations that were used, modalities."""
    settings, status = workplace.settings, workplace.catalogue.status
    source_names = {section.address: name for name, section in settings.sources.items()}
    names = {one.section.address: name for name, one in settings.destinations.items()}
    for name, one in settings.destinations.items():
        source_names.setdefault(as_source(one.section).address, name)
    return MatrixChoices(
        tuple(Place(one.name, source_names.get(one.name, "")) for one in status.sources()),
        tuple(Place(address, names.get(address, "")) for address in status.destinations().values()),
        tuple(workplace.catalogue.matrix.modalities()),
    )


def studies_csv(
    workplace: Workplace,
    query: StudyQuery,
    *,
    order: StudyOrder = StudyOrder.DATE,
    descending: bool = True,
    patients: bool = False,
) -> Iterator[str]:
    """Yield a CSV file of all that matches, row by row; patient data only where asked for."""
    destinations = list(workplace.catalogue.status.destinations().values())
    found = workplace.catalogue.matrix.lines(query, order=order, descending=descending)
    return render_lines(found, destinations, patients=patients)


def studies_json(
    workplace: Workplace,
    query: StudyQuery,
    *,
    order: StudyOrder = StudyOrder.DATE,
    descending: bool = True,
    patients: bool = False,
) -> Iterator[str]:
    """Yield all that matches as one JSON object, study by study; patients as in the CSV file."""
    found = workplace.catalogue.matrix.lines(query, order=order, descending=descending)
    return render_json(found, patients=patients)


def counting_duty(workplace: Workplace) -> Callable[[datetime], datetime]:
    """Keep the counts of the matrix; a duty that takes the time and says when it is due again."""

    def count(now: datetime) -> datetime:
        waiting = workplace.catalogue.matrix.recount(now)
        if waiting > _MUCH:
            return now + _SOON
        return now + (_NEXT if waiting else _LATER)

    return count
