"""What a comparison found, kept on disk: it may be about millions of studies, and is read often."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from typing import Any, Self

from dcmvault.model.comparison import (
    Basis,
    SeriesDifference,
    StudyComparison,
    StudySummary,
    Tally,
    Verdict,
)


class Compared:
    """Takes what is true of each study, in order, and gives it back as often as it is asked for.

    A context that ends with its file, which nobody else can see.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 - closed at exit
        #: What was found out later of some studies stands for what was found first.
        self._later: dict[str, StudyComparison] = {}
        self.tally = Tally()

    def add(self, study: StudyComparison) -> None:
        """Take what is true of one study."""
        self._file.write(f"{json.dumps(_row(study), separators=(',', ':'))}\n")
        self.tally.add(study)

    def replace(self, later: list[StudyComparison]) -> None:
        """Take what became of studies that were compared before, and count anew."""
        self._later |= {study.study_instance_uid: study for study in later}
        self.tally = Tally()
        for study in self.studies():
            self.tally.add(study)

    def studies(self) -> Iterator[StudyComparison]:
        """Yield everything; nothing is added meanwhile, and nobody else reads."""
        self._file.seek(0)
        for line in self._file:
            study = _study(json.loads(line))
            yield self._later.get(study.study_instance_uid, study)

    def close(self) -> None:
        """Give the file up."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _row(study: StudyComparison) -> list[object]:
    return [
        study.study_instance_uid,
        study.verdict,
        study.basis,
        study.a,
        study.b,
        [
            [
                one.series_instance_uid,
                one.instances_a,
                one.instances_b,
                one.only_a,
                one.only_b,
                one.other_content,
            ]
            for one in study.series
        ],
        study.root_a,
        study.root_b,
        study.reason,
    ]


def _study(row: list[Any]) -> StudyComparison:
    uid, verdict, basis, a, b, series, root_a, root_b, reason = row
    return StudyComparison(
        uid,
        Verdict(verdict),
        Basis(basis),
        _summary(a),
        _summary(b),
        tuple(
            SeriesDifference(
                series_uid, here, there, tuple(only_a), tuple(only_b), tuple(other_content)
            )
            for series_uid, here, there, only_a, only_b, other_content in series
        ),
        root_a,
        root_b,
        reason,
    )


def _summary(row: list[Any] | None) -> StudySummary | None:
    if row is None:
        return None
    uid, series, instances, study_date, accession_number, modalities = row
    return StudySummary(
        uid, series, instances, study_date, accession_number, modalities=tuple(modalities)
    )
