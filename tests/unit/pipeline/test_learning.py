"""What people did moves studies alike: little, by counts, and not before there are enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dcmvault.model.classification import StudyFacts
from dcmvault.model.learning import LessonKind
from dcmvault.pipeline.learning import NEEDED_STUDIES, Lesson, adjustment_for, features_of, learn

AT = datetime(2026, 1, 31, tzinfo=UTC)


def study(modality: str, description: str = "", body_part: str = "") -> StudyFacts:
    return StudyFacts(
        "2.25.1",
        frozenset({modality}),
        (description,),
        frozenset({body_part} - {""}),
        stations=frozenset({"ROOM1"}),
    )


USUAL = [study("CT")] * 60 + [study("US")] * 10 + [study("CR")] * 30


def lessons(facts: StudyFacts, kind: LessonKind, number: int) -> list[Lesson]:
    return [(facts, {kind: AT + timedelta(days=day)}) for day in range(number)]


def test_features_are_what_studies_have_in_common() -> None:
    facts = study("ct ", "TC de Crânio, sem contraste 2", "head")
    assert features_of(facts) == {
        ("modality", "CT"),
        ("body_part", "HEAD"),
        ("station", "ROOM1"),
        ("word", "cranio"),
        ("word", "contraste"),
    }


def test_too_little_history_changes_nothing_and_says_so() -> None:
    found = learn(lessons(study("US"), LessonKind.RAISED, NEEDED_STUDIES - 1), USUAL)
    assert not found.is_enough
    assert all(feature.adjustment == 0 for feature in found.features)
    assert adjustment_for(found, study("US")) == ((), 0)
    assert not learn([], []).is_enough


def test_what_people_move_forward_and_restore_is_raised() -> None:
    given_ = lessons(study("US"), LessonKind.RAISED, 6)
    given_ += lessons(study("US"), LessonKind.RESTORED, 4)
    found = learn(given_, USUAL)
    assert (found.first_at, found.last_at) == (AT, AT + timedelta(days=5))
    features, adjustment = adjustment_for(found, study("US"))
    assert adjustment == 1
    (modality,) = (one for one in features if one.kind == "modality")
    assert (modality.raised, modality.lowered, modality.restored) == (6, 0, 4)
    assert (modality.share, modality.usual_share) == (1.0, 0.1)
    assert adjustment_for(found, study("CT")) == ((), 0)


def test_what_people_move_back_is_lowered() -> None:
    found = learn(lessons(study("US"), LessonKind.LOWERED, 12), USUAL)
    assert adjustment_for(found, study("US"))[1] == -1


def test_what_all_studies_have_is_no_lesson() -> None:
    """CT is most of what there is: that most of what was moved is CT says nothing."""
    found = learn(lessons(study("CT"), LessonKind.RAISED, 12), USUAL)
    assert adjustment_for(found, study("CT")) == ((), 0)


def test_who_moves_both_ways_teaches_nothing() -> None:
    given_ = lessons(study("US"), LessonKind.LOWERED, 7)
    given_ += lessons(study("US"), LessonKind.RAISED, 7)
    assert adjustment_for(learn(given_, USUAL), study("US"))[1] == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["CT", "US", "CR"]), st.sampled_from(list(LessonKind))),
        max_size=40,
    )
)
def test_no_history_moves_a_study_by_more_than_one_step(
    history: list[tuple[str, LessonKind]],
) -> None:
    found = learn([(study(modality), {kind: AT}) for modality, kind in history], USUAL)
    for modality in ("CT", "US", "CR"):
        features, adjustment = adjustment_for(found, study(modality))
        assert adjustment in (-1, 0, 1)
        assert bool(features) or adjustment == 0
        assert found.is_enough or adjustment == 0
