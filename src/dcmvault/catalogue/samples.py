"""Samples in the catalogue, thinned as they grow old."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, upsert
from dcmvault.catalogue.monitoring_tables import samples
from dcmvault.model.alert import Subject
from dcmvault.model.sample import Figure, Sample
from dcmvault.model.thinning import KEPT, begin_of, thinned

_FIGURES = tuple(figure.value for figure in Figure)


@dataclass(frozen=True, slots=True)
class SamplesInDatabase:
    """Implements `ports.samples.SampleBook`."""

    database: Database

    def keep_samples(self, some: Sequence[Sample]) -> None:
        """Write many in one transaction; of the same moment, span and subject the last stays."""
        with self.database.write() as connection:
            _write(connection, some)

    def thin_samples(self, now: datetime) -> None:
        """Make samples of minutes and hours that are over, and forget what is too old.

        Looks at what is kept anyway: at most an hour of seconds and a week of minutes.
        """
        with self.database.write() as connection:
            for (fine_s, kept), (coarse_s, _kept) in pairwise(KEPT):
                newest = connection.scalar(
                    sa.select(sa.func.max(samples.c.at)).where(samples.c.span_s == coarse_s)
                )
                end = begin_of(now, coarse_s)
                begin = begin_of(now - kept, coarse_s)
                if newest is not None and begin < newest + timedelta(seconds=coarse_s) <= end:
                    begin = newest + timedelta(seconds=coarse_s)
                _write(connection, thinned(_read(connection, fine_s, begin, end, None), coarse_s))
            for span_s, kept in KEPT:
                connection.execute(
                    sa.delete(samples).where(
                        samples.c.span_s == span_s,
                        # Of a clock that was set back, too: nothing comes from far ahead.
                        sa.or_(samples.c.at < now - kept, samples.c.at > now + kept),
                    )
                )

    def samples(
        self,
        span_s: int,
        since: datetime,
        until: datetime,
        subject: Subject | None = None,
    ) -> list[Sample]:
        """List samples of a span from `since` on and before `until`, by time and subject."""
        with self.database.read() as connection:
            return _read(connection, span_s, since, until, subject)


def _read(
    connection: sa.Connection,
    span_s: int,
    since: datetime,
    until: datetime,
    subject: Subject | None,
) -> list[Sample]:
    table = samples.c
    query = (
        sa.select(samples)
        .where(table.span_s == span_s, table.at >= since, table.at < until)
        .order_by(table.at, table.kind, table.subject)
    )
    if subject is not None:
        query = query.where(table.kind == subject.kind, table.subject == subject.name)
    return [_sample_of(row) for row in connection.execute(query)]


def _write(connection: sa.Connection, some: Sequence[Sample]) -> None:
    upsert(connection, samples, [_row_of(sample) for sample in some])


def _row_of(sample: Sample) -> dict[str, Any]:
    figures = {figure.value: value for figure, value in sample.figures.items()}
    return {
        "span_s": sample.span_s,
        "at": sample.at,
        "kind": sample.subject.kind,
        "subject": sample.subject.name,
        **{name: figures.get(name) for name in _FIGURES},
    }


def _sample_of(row: Any) -> Sample:
    figures = {
        figure: value for figure in Figure if (value := getattr(row, figure.value)) is not None
    }
    return Sample(row.at, Subject(row.kind, row.subject), figures, row.span_s)
