from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from dcmvault.app.vault_contents import (
    Contents,
    StudyQuery,
    StudyView,
    find_studies,
    moment,
)
from dcmvault.errors import UsageError


@pytest.fixture
def in_brazil(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/Sao_Paulo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_brazil")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T18:00:00Z", datetime(2026, 1, 31, 18, tzinfo=UTC)),
        ("2026-01-31 18:00+01:00", datetime(2026, 1, 31, 17, tzinfo=UTC)),
        ("2026-01-31T18:00", datetime(2026, 1, 31, 21, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 2, 1, 2, 59, 59, 999_999, tzinfo=UTC)),
        ("20260131", datetime(2026, 2, 1, 2, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_times_that_people_type(text: str, expected: datetime) -> None:
    assert moment(text) == expected


@pytest.mark.parametrize("text", ["yesterday", "31.01.2026", "2026-13-01", "1", "\x1b[2J"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        moment(text)
    assert caught.value.hint


def view(uid: str, **about: str) -> StudyView:
    return StudyView(uid, about, 1, 1)


STUDIES = [
    view(
        "1.2.3.1",
        patient_name="Conceição^José da",
        patient_id="P-1",
        study_date="20260131",
        modalities="CT SR",
        accession_number="ACC-77",
        study_description="Tórax",
    ),
    view("1.2.3.2", patient_name="Doe^Jane", study_date="2025.12.01", modalities="MR"),
    view("1.2.3.10", patient_name="", study_date="", modalities=""),
]


class Shown(Contents):
    """Contents of which the lists of studies are known, and nothing is read."""

    __slots__ = ()

    def __init__(self) -> None: ...

    def studies(self, state: object) -> Iterator[StudyView]:
        return iter(STUDIES)

    def legible(self, state: object) -> Records:  # type: ignore[override]
        return Records()


class Records:
    def records(self, uid: str) -> list[object]:
        return []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (StudyQuery(), [0, 1, 2]),
        (StudyQuery(text="jose CONCEICAO"), [0]),
        (StudyQuery(text="torax"), [0]),
        (StudyQuery(text="doe torax"), []),
        (StudyQuery(text="1.2.3.1"), [0, 2]),
        (StudyQuery(text="1.2.3.2"), [1]),
        (StudyQuery(text="1.2.4"), []),
        (StudyQuery(patient="p-1"), [0]),
        (StudyQuery(patient="torax"), []),
        (StudyQuery(modality="sr"), [0]),
        (StudyQuery(modality="C"), []),
        (StudyQuery(accession="77"), [0]),
        (StudyQuery(description="TÓRAX"), [0]),
        (StudyQuery(date="2026"), [0]),
        (StudyQuery(date="2025-12"), [1]),
        (StudyQuery(date="2026-01-31"), [0]),
        (StudyQuery(date="2025-12-02..2026-01-31"), [0]),
        (StudyQuery(date="20251201-20251231"), [1]),
        (StudyQuery(date="..2025"), [1]),
        (StudyQuery(date="2026.."), [0]),
        (StudyQuery(date="2026", modality="MR"), []),
        (StudyQuery(uid="1.2.3.2"), [1]),
        (StudyQuery(uid="1.2.3.4"), []),
    ],
)
def test_studies_that_are_looked_for(query: StudyQuery, expected: list[int]) -> None:
    found = [one.study for one in find_studies(Shown(), None, query)]  # type: ignore[arg-type]
    assert found == [STUDIES[number] for number in expected]


@pytest.mark.parametrize("date", ["26", "2026-1", "January", "..", "2026..x", "２０２６"])
def test_dates_that_are_none(date: str) -> None:
    with pytest.raises(UsageError):
        list(find_studies(Shown(), None, StudyQuery(date=date)))  # type: ignore[arg-type]
