"""The classifier in force: what people did to studies in the catalogue moves others like them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcmvault.app.classifying import classifier_of, what_was_learned
from dcmvault.catalogue import open_catalogue
from dcmvault.cli.classification_views import classification_lines, classification_object
from dcmvault.config.classification_section import ClassificationSection
from dcmvault.config.settings import Settings
from dcmvault.model.classification import StudyFacts
from dcmvault.model.instance import SeriesAttributes
from dcmvault.model.job import Priority
from dcmvault.model.learning import LessonKind
from dcmvault.testing.catalogue_world import START, World, header, scanned


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A catalogue of 40 CT studies, and of 10 of ultrasound."""
    world = World(open_catalogue(str(tmp_path / "catalogue.sqlite3")))
    listed = []
    for number in range(1, 51):
        head = header(number, 1, 1)
        if number > 40:
            head = head._replace(series=SeriesAttributes("US", "1", "Liver", "ABDOMEN"))
        listed.append(scanned(str(number), str(number), head))
    world.scan(world.run(), listed)
    return world


ULTRASOUND = StudyFacts("2.25.99", frozenset({"US"}), ("Liver",))


def test_learning_moves_by_one_step_and_says_why(world: World) -> None:
    book, facts = world.catalogue.lessons, world.catalogue.study_facts
    moved = [f"2.25.{number}" for number in range(41, 51)]
    book.record_lesson(LessonKind.RAISED, moved[:9], START)
    assert not what_was_learned(book, facts).is_enough
    few = classifier_of(Settings(), book, facts).classify(ULTRASOUND, START)
    assert (few.priority, few.learned_adjustment) == (Priority.NORMAL, 0)
    book.record_lesson(LessonKind.RESTORED, moved[9:], START)
    found = classifier_of(Settings(), book, facts).classify(ULTRASOUND, START)
    assert found.priority is Priority.HIGH
    *_fired, learned = classification_lines(found)
    assert learned.startswith(
        "learned +1: modality “US”: moved forward 9, moved back 0, restored 1"
    )
    assert "in 100 % of these studies, and in 20 % of all" in learned
    told = classification_object(found)["learned"]
    assert isinstance(told, dict)
    assert told["adjustment"] == 1
    assert told["because"][0]["raised"] == 9
    # CT was not moved; and whoever wants none of it says so.
    computed = StudyFacts("2.25.98", frozenset({"CT"}))
    assert classifier_of(Settings(), book, facts).classify(computed, START).learned == ()
    off = Settings(classification=ClassificationSection(learn=False))
    assert classifier_of(off, book, facts).classify(ULTRASOUND, START).priority is Priority.NORMAL
    book.forget_lessons()
    assert classifier_of(Settings(), book, facts).classify(ULTRASOUND, START).learned == ()
