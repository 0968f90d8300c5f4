"""The classifier in force: the configuration's rules, dcmvault's own, and what was learned."""

from __future__ import annotations

from functools import partial

from dcmvault.config.settings import Settings
from dcmvault.model.classification import ClassificationRule
from dcmvault.model.learning import Learned
from dcmvault.pipeline.classification import BUILT_IN_RULES, Classifier, Learn, learn_nothing
from dcmvault.pipeline.learning import NEEDED_STUDIES, adjustment_for, learn
from dcmvault.ports.strategy import LessonBook, StudyFactsCatalogue

#: Studies, the newest, that show how frequent something is anyway.
_USUAL_STUDIES = 2_000


def rules_in_force(settings: Settings) -> tuple[ClassificationRule, ...]:
    """Return the rules in their order."""
    own = BUILT_IN_RULES if settings.classification.built_in else ()
    return (*(section.rule for section in settings.rules), *own)


def what_was_learned(book: LessonBook, facts: StudyFactsCatalogue) -> Learned:
    """Sum up the lessons; with too few of them nothing is adjusted."""
    lessons = book.lessons()
    known = facts.study_facts(list(lessons))
    usual = facts.study_facts(facts.newest_studies(_USUAL_STUDIES)) if lessons else {}
    return learn([(known[key], lessons[key]) for key in lessons if key in known], usual.values())


def classifier_of(settings: Settings, book: LessonBook, facts: StudyFactsCatalogue) -> Classifier:
    """Make the classifier that the configuration and the lessons come to now."""
    section = settings.classification
    learns: Learn = learn_nothing
    if section.learn and len(book.lessons()) >= NEEDED_STUDIES:
        learns = partial(adjustment_for, what_was_learned(book, facts))
    return Classifier(rules_in_force(settings), section.otherwise_priority, learns)
