"""Samples as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from dcmvault.model.sample import Figure, Sample

#: The columns, in order. New ones are only ever added at the end.
COLUMNS = ("at", "span_s", "kind", "subject", *(figure.value for figure in Figure))


def csv_lines(samples: Iterable[Sample]) -> Iterator[str]:
    """Yield lines by RFC 4180 with their ends, the head first; times are UTC (ISO 8601).

    No cell is a formula to a spreadsheet: texts are words of ours and configured names.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for sample in samples:
        yield _taken(stream)
        writer.writerow(
            [
                sample.at.isoformat().replace("+00:00", "Z"),
                sample.span_s,
                sample.subject.kind.value,
                sample.subject.name,
                *(_cell(sample.figures.get(figure)) for figure in Figure),
            ]
        )
    yield _taken(stream)


def _taken(stream: io.StringIO) -> str:
    text = stream.getvalue()
    stream.seek(0)
    stream.truncate()
    return text


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if value == int(value) else f"{value:.6g}"
