"""The rules that come with dcmvault, as a table, and how rules of any kind are put together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmvault.model.classification import (
    ClassificationRule,
    Conditions,
    LearnedFeature,
    StudyFacts,
    StudyMarks,
)
from dcmvault.model.identifiers import DestinationId
from dcmvault.model.job import Priority
from dcmvault.pipeline.classification import BUILT_IN_RULES, Classifier
from dcmvault.pipeline.conditions import StudySeen, made_at, met_by
from dcmvault.pipeline.whole_words import contains, words_of

NOW = datetime(2026, 3, 10, 12, 0).astimezone()
LOW, NORMAL, HIGH, URGENT, EMERGENCY = Priority


def study(modality: str = "", description: str = "", **facts: Any) -> StudyFacts:
    modalities = frozenset(modality.split())
    return StudyFacts("2.25.1", modalities, (description,) if description else (), **facts)


def made(ago: timedelta) -> dict[str, str]:
    at = NOW - ago
    return {"study_date": f"{at:%Y%m%d}", "study_time": f"{at:%H%M%S}.123"}


def classify(facts: StudyFacts, *rules: ClassificationRule) -> Priority:
    return Classifier((*rules, *BUILT_IN_RULES)).classify(facts, NOW).priority


HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OLD = made(400 * DAY)

EMERGENCY_WORDS = (
    *("emergency", "urgent", "STAT", "trauma", "stroke", "hemorrhage", "Haemorrhage", "acute"),
    *("emergência", "EMERGENCIA", "urgência", "urgente", "politrauma", "avc", "hemorragia"),
    *("agudo", "aguda"),
)

#: What decides, and to what priority it leads.
DEFAULTS = [
    (study("XA", **OLD), URGENT, "angiography"),
    (study("CT", **OLD), HIGH, "cross-sectional"),
    (study("MR", **OLD), HIGH, "cross-sectional"),
    (study("CR", **OLD), NORMAL, "projection"),
    (study("DX", **OLD), NORMAL, "projection"),
    (study("US", **OLD), NORMAL, "projection"),
    (study("MG", **OLD), NORMAL, "projection"),
    (study("OT", **made(HOUR / 2)), LOW, "secondary"),
    (study("SC", **made(HOUR / 2)), LOW, "secondary"),
    # Any of a study's modalities counts, in the order of the rules.
    (study("SC SR CT", **OLD), HIGH, "cross-sectional"),
    (study("CT XA", **OLD), URGENT, "angiography"),
    # Other modalities go by age.
    (study("PT", **made(HOUR / 2)), URGENT, "last-hour"),
    (study("NM", **made(2 * HOUR)), HIGH, "last-day"),
    (study("PT", **made(3 * DAY)), NORMAL, "last-week"),
    (study("PT", **made(8 * DAY)), LOW, "older"),
    (study(**OLD), LOW, "older"),
    (study("PT"), NORMAL, ""),
    (study("PT", study_date="20270101"), NORMAL, ""),
    # Words, in both languages, whatever accents and case.
    *(
        (study("CR", f"Torax {word} AP", **OLD), EMERGENCY, "emergency-words")
        for word in EMERGENCY_WORDS
    ),
    (study("CT", "Acidente Vascular  Cerebral?", **OLD), EMERGENCY, "emergency-words"),
    (study("CR", "TORAX_STAT", **OLD), EMERGENCY, "emergency-words"),
    (study("CR", "Chest (stat)", **OLD), EMERGENCY, "emergency-words"),
    # Whole words only.
    (study("CR", "Status post fracture", **OLD), NORMAL, "projection"),
    (study("CR", "Prostate, static, estatística", **OLD), NORMAL, "projection"),
    (study("CR", "Traumatology follow-up", **OLD), NORMAL, "projection"),
    (study("CR", "Vascular cerebral", **OLD), NORMAL, "projection"),
    # The contrary in the same words.
    (study("CR", "No acute findings", **OLD), NORMAL, "projection"),
    (study("CT", "TC não urgente", **OLD), HIGH, "cross-sectional"),
    (study("CR", "non-urgent", **OLD), NORMAL, "projection"),
]


@pytest.mark.parametrize(("facts", "priority", "rule"), DEFAULTS)
def test_the_rules_of_the_house(facts: StudyFacts, priority: Priority, rule: str) -> None:
    found = Classifier().classify(facts, NOW)
    assert found.priority is priority
    decided = [one.rule.name for one in found.fired if one.decides]
    assert decided == ([rule] if rule else [])


def test_every_rule_that_fired_is_named_with_what_it_met() -> None:
    found = Classifier().classify(study("CT", "Polytrauma; TRAUMA", **made(2 * HOUR)), NOW)
    assert [(one.rule.name, dict(one.met), one.decides) for one in found.fired] == [
        ("emergency-words", {"words": "trauma"}, True),
        ("cross-sectional", {"modality": "CT"}, False),
        ("last-day", {"age_s": "7200"}, False),
        ("last-week", {"age_s": "7200"}, False),
    ]


def test_own_rules_come_first() -> None:
    own = ClassificationRule("own", Conditions(modality=("CT",)), LOW)
    assert classify(study("CT", **OLD), own) is LOW
    assert classify(study("MR", **OLD), own) is HIGH


def test_raises_are_added_and_end_before_emergency() -> None:
    up = ClassificationRule("up", Conditions(modality=("CT",)), raises=1)
    more = ClassificationRule("more", Conditions(body_part=("HEAD",)), raises=2)
    down = ClassificationRule("down", Conditions(body_part=("FOOT",)), raises=-3)
    assert classify(study("CT", **OLD), up) is URGENT
    assert classify(study("CT", body_parts=frozenset({"head "}), **OLD), up, more) is URGENT
    assert classify(study("CT", body_parts=frozenset({"FOOT"}), **OLD), up, down) is LOW
    assert classify(study("CT", "stroke", **OLD), up) is EMERGENCY
    assert classify(study("CT", "stroke", body_parts=frozenset({"FOOT"})), down) is NORMAL


def test_what_a_viewer_would_delete_soon_is_raised() -> None:
    """The first tenth of what auto-clean may delete, and ten at least."""

    def at(rank: int | None, of: int) -> Priority:
        return classify(study("CR", marks=StudyMarks(auto_clean_rank=rank, auto_clean_of=of)))

    assert [at(rank, 20) for rank in (0, 9, 10, None)] == [HIGH, HIGH, NORMAL, NORMAL]
    assert [at(rank, 300) for rank in (29, 30)] == [HIGH, NORMAL]


@pytest.mark.parametrize(
    ("asked", "facts", "holds"),
    [
        (Conditions(ae_title=("CT1",)), study(ae_titles=frozenset({"CT1"})), True),
        (Conditions(ae_title=("CT1",)), study(ae_titles=frozenset({"CT2"})), False),
        (Conditions(station=("Room 1",)), study(stations=frozenset({"ROOM 1"})), True),
        (Conditions(institution=("São João",)), study(institution="Hospital Sao Joao"), True),
        (Conditions(institution=("Joao",)), study(institution="Hospital Joaozinho"), False),
        (Conditions(larger_than_bytes=10), study(bytes=10), False),
        (Conditions(larger_than_bytes=10), study(bytes=11), True),
        (Conditions(smaller_than_bytes=10), study(bytes=9), True),
        (Conditions(locked=True), study(marks=StudyMarks(locked=True)), True),
        (Conditions(locked=False), study(marks=StudyMarks(locked=True)), False),
        (Conditions(in_album=True), study(), False),
        (Conditions(single_copy=True), study(), True),
        (Conditions(single_copy=True), study(taken_by=frozenset({DestinationId(1)})), False),
        (Conditions(single_copy=False), study(taken_by=frozenset({DestinationId(1)})), True),
        (Conditions(modality=("CT",), body_part=("HEAD",)), study("CT"), False),
        (Conditions(words=("dor de cabeça",)), study("", "RM: DOR DE CABECA"), True),
        (Conditions(words=("dor cabeça",)), study("", "dor de cabeça"), False),
        (Conditions(older_than_s=60), study(), False),
        (Conditions(younger_than_s=60), study(), False),
        (
            Conditions(younger_than_s=3600),
            study(marks=StudyMarks(studied_at=NOW.astimezone(UTC) - HOUR / 2)),
            True,
        ),
    ],
)
def test_conditions_hold_or_not(asked: Conditions, facts: StudyFacts, holds: bool) -> None:
    assert (met_by(asked, StudySeen(facts, NOW)) is not None) is holds


@pytest.mark.parametrize(
    ("date", "time", "clock"),
    [
        ("20260310", "101112.5", "10:11:12"),
        ("2026.03.10", "10:11:12", "10:11:12"),
        ("20260310", "1011", "10:11:00"),
        ("20260310", "", "23:59:59"),
        ("20260310", "9999", None),
        ("", "1011", None),
        ("20260230", "1011", None),
        ("2026", "1011", None),
    ],
)
def test_dates_are_local_and_may_be_wrong(date: str, time: str, clock: str | None) -> None:
    at = made_at(date, time)
    assert (None if at is None else f"{at:%H:%M:%S}") == clock
    assert at is None or at.tzinfo is not None


def test_what_was_learned_moves_by_one_step() -> None:
    feature = LearnedFeature("modality", "CR", 9, 0, 0, 0.9, 0.1, 1)
    found = Classifier(learn=lambda _facts: ((feature,), 1)).classify(study("CR", **OLD), NOW)
    assert (found.priority, found.learned, found.learned_adjustment) == (HIGH, (feature,), 1)
    found = Classifier(learn=lambda _facts: ((feature,), 1)).classify(study("XA", **OLD), NOW)
    assert found.priority is URGENT


@given(st.text(), st.text())
def test_a_word_is_found_between_others_and_not_inside_one(before: str, after: str) -> None:
    assert contains(words_of(f"{before} stat {after}"), words_of("STAT"))
    glued = "".join(letter for letter in after if letter.isalpha())
    assert contains(words_of(f"stat{glued}"), ("stat",)) is (words_of(f"stat{glued}") == ("stat",))
