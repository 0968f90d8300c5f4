"""Classification: rules give each study a priority, and say why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from dcmvault.model.classification import (
    Classification,
    ClassificationRule,
    Conditions,
    FiredRule,
    LearnedFeature,
    StudyFacts,
)
from dcmvault.model.job import Priority
from dcmvault.pipeline.conditions import StudySeen, met_by

_HOUR_S = 3600
_DAY_S = 24 * _HOUR_S


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.replace("-", " ").split("|"))


_EMERGENCY_WORDS = _phrases(
    "emergency|urgent|stat|trauma|stroke|hemorrhage|haemorrhage|acute"
    "|emergência|urgência|urgente|politrauma|AVC|hemorragia|agudo|aguda"
    "|acidente-vascular-cerebral|acidente-vascular-encefálico"
)
#: Descriptions that say the contrary in the same words.
_NOT_EMERGENCY_WORDS = _phrases(
    "not-urgent|non-urgent|no-acute|not-acute|non-acute"
    "|sem-urgência|não-urgente|não-aguda|não-agudo"
)


def _own(name: str, conditions: Conditions, priority: Priority) -> ClassificationRule:
    return ClassificationRule(name, conditions, priority, built_in=True)


#: The rules that follow those of the configuration.
BUILT_IN_RULES: tuple[ClassificationRule, ...] = (
    _own(
        "emergency-words",
        Conditions(words=_EMERGENCY_WORDS, without_words=_NOT_EMERGENCY_WORDS),
        Priority.EMERGENCY,
    ),
    _own("angiography", Conditions(modality=("XA",)), Priority.URGENT),
    _own("cross-sectional", Conditions(modality=("CT", "MR")), Priority.HIGH),
    _own("projection", Conditions(modality=("CR", "DX", "US", "MG")), Priority.NORMAL),
    _own("secondary", Conditions(modality=("OT", "SC")), Priority.LOW),
    _own("last-hour", Conditions(younger_than_s=_HOUR_S), Priority.URGENT),
    _own("last-day", Conditions(younger_than_s=_DAY_S), Priority.HIGH),
    _own("last-week", Conditions(younger_than_s=7 * _DAY_S), Priority.NORMAL),
    _own("older", Conditions(older_than_s=7 * _DAY_S), Priority.LOW),
    ClassificationRule("auto-clean", Conditions(auto_clean_risk=True), raises=1, built_in=True),
)

#: Says what was learned about a study: the features that count, and their adjustment.
Learn = Callable[[StudyFacts], tuple[tuple[LearnedFeature, ...], int]]


def learn_nothing(_facts: StudyFacts) -> tuple[tuple[LearnedFeature, ...], int]:
    """Adjust nothing."""
    return (), 0


@dataclass(frozen=True, slots=True)
class Classifier:
    """The rules in force, in order."""

    rules: Sequence[ClassificationRule] = BUILT_IN_RULES
    #: Where no rule gives a priority.
    otherwise: Priority = Priority.NORMAL
    learn: Learn = learn_nothing

    def classify(self, facts: StudyFacts, now: datetime) -> Classification:
        """Give a study its priority.

        The first rule with a priority that fires decides. Raises and what was learned are added,
        and end at urgent and low: emergency is for what a rule calls so.
        """
        study = StudySeen(facts, now)
        fired: list[FiredRule] = []
        decided: Priority | None = None
        raised = 0
        for rule in self.rules:
            met = met_by(rule.conditions, study)
            if met is None:
                continue
            decides = rule.priority is None or decided is None
            fired.append(FiredRule(rule, met, decides))
            raised += rule.raises
            if rule.priority is not None and decided is None:
                decided = rule.priority
        features, adjustment = self.learn(facts)
        priority = self.otherwise if decided is None else decided
        priority = _moved(_moved(priority, raised), adjustment)
        return Classification(priority, tuple(fired), features, adjustment)


def _moved(priority: Priority, steps: int) -> Priority:
    if priority is Priority.EMERGENCY and steps >= 0:
        return priority
    return Priority(min(max(priority + steps, Priority.LOW), Priority.URGENT))
