"""Rules: what is in force, what it makes of a study, and what was learned."""

from __future__ import annotations

from dataclasses import replace

from dcmvault.app.classifying import what_was_learned
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.classification import NO_MARKS, Classification, StudyFacts
from dcmvault.model.learning import Learned


def classify_known(workplace: Workplace, study_instance_uid: str) -> Classification:
    """Ask the rules about a study in the catalogue.

    What only a library's index says (locked, albums, auto-clean) is not known here. UsageError for
    an unknown study.
    """
    facts = workplace.catalogue.study_facts
    key = facts.study_key(study_instance_uid)
    found = facts.study_facts([key]) if key is not None else {}
    if key is None or key not in found:
        raise UsageError(
            _("The study %s is not in the catalogue.") % study_instance_uid,
            hint=_("`dcmvault backup SOURCE --to DESTINATION --dry-run` looks at a source."),
        )
    return workplace.classifier().classify(
        replace(found[key], marks=NO_MARKS), workplace.clock.now()
    )


def classify_described(workplace: Workplace, facts: StudyFacts) -> Classification:
    """Ask the rules about a study that need not exist."""
    return workplace.classifier().classify(facts, workplace.clock.now())


def learned(workplace: Workplace) -> Learned:
    """Sum up what people did to single studies."""
    return what_was_learned(workplace.catalogue.lessons, workplace.catalogue.study_facts)
