"""Rules tried before they are saved: whose priority they would change."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dcmvault.app.classifying import classifier_of
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.settings import Settings
from dcmvault.model.classification import NO_MARKS, Classification

#: Studies, the newest, that are looked at; some in one go.
LOOKED_AT = 5_000
_AT_ONCE = 500
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ChangedStudy:
    """A study whose priority would be another one."""

    study_instance_uid: str
    before: Classification
    after: Classification


@dataclass(frozen=True, slots=True)
class RulesTried:
    """What other rules would make of the newest studies."""

    studies: int
    changed: int
    #: The first of them, newest first.
    first: tuple[ChangedStudy, ...]


def try_rules(workplace: Workplace, proposed: Settings) -> RulesTried:
    """Ask the rules in force and other ones about the newest studies; nothing is changed.

    What only a library's index says (locked, albums, auto-clean) is not known here.
    """
    catalogue = workplace.catalogue
    facts = catalogue.study_facts
    now = workplace.clock.now()
    old = workplace.classifier()
    new = classifier_of(proposed, catalogue.lessons, facts)
    keys = list(facts.newest_studies(LOOKED_AT))
    looked = changed = 0
    first: list[ChangedStudy] = []
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        found = facts.study_facts(some)
        for key in some:
            if key not in found:
                continue
            looked += 1
            study = replace(found[key], marks=NO_MARKS)
            before, after = old.classify(study, now), new.classify(study, now)
            if before.priority is not after.priority:
                changed += 1
                if len(first) < _SHOWN:
                    first.append(ChangedStudy(study.study_instance_uid, before, after))
    return RulesTried(looked, changed, tuple(first))
