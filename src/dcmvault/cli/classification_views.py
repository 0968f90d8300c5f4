"""What rules say of studies, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from dcmvault.app.study_choice import ExplainedStudy
from dcmvault.cli.words import priority_word
from dcmvault.i18n import format_bytes, format_duration, format_number
from dcmvault.i18n import gettext as _
from dcmvault.model.classification import (
    Classification,
    ClassificationRule,
    Conditions,
    FiredRule,
    LearnedFeature,
)
from dcmvault.model.plan import Strategy
from dcmvault.reports.escaping import visible


def explained_lines(explained: Sequence[ExplainedStudy], strategy: Strategy) -> Iterator[str]:
    """Say of each study which rules fired, and what came of it."""
    if explained and strategy is not Strategy.SMART:
        yield _("What rules say of the studies (--strategy smart puts them in this order):")
    for one in explained:
        name = one.study_instance_uid or _("(files that are no instances)")
        priority = click.style(priority_word(one.classification.priority), bold=True)
        places = ", ".join(visible(place) for place in one.destinations)
        yield f"{name}  {priority}  → {places}"
        if one.instead_of:
            yield "    " + _("instead of %s, which cannot be reached") % visible(one.instead_of)
        for line in classification_lines(one.classification):
            yield f"    {line}"


def classification_lines(found: Classification) -> Iterator[str]:
    """Name each rule that fired, what it met, and what was learned."""
    for fired in found.fired:
        said = f"{visible(fired.rule.name)}: {met_words(fired)} → {effect_word(fired.rule)}"
        if not fired.decides:
            said += " " + _("(an earlier rule decided)")
        yield said
    if not any(fired.rule.priority is not None for fired in found.fired):
        yield _("no rule gave a priority")
    if found.learned_adjustment:
        reasons = "; ".join(learned_words(feature) for feature in found.learned)
        adjustment = f"{found.learned_adjustment:+d}"
        yield _("learned %(adjustment)s: %(reasons)s") % {
            "adjustment": adjustment,
            "reasons": reasons,
        }


def met_words(fired: FiredRule) -> str:
    """Say what a rule met in a study."""
    return ", ".join(
        f"{condition_word(name)} {_met_value(name, value)}".rstrip()
        for name, value in fired.met.items()
    )


def _met_value(name: str, value: str) -> str:
    if name == "age_s":
        return format_duration(float(value))
    if name == "bytes":
        return format_bytes(int(value))
    if name in ("locked", "in_album", "single_copy", "auto_clean_risk"):
        return "" if value == "true" else _("no")
    return f"“{visible(value)}”"


def effect_word(rule: ClassificationRule) -> str:
    """Say what a rule does."""
    if rule.priority is not None:
        return priority_word(rule.priority)
    return f"{rule.raises:+d}"


def condition_word(name: str) -> str:
    """Name a condition."""
    return {
        "modality": _("modality"),
        "words": _("word"),
        "without_words": _("without the words"),
        "word": _("word"),
        "body_part": _("body part"),
        "ae_title": _("AE title"),
        "station": _("station"),
        "institution": _("institution"),
        "age_s": _("age"),
        "bytes": _("size"),
        "locked": _("locked"),
        "in_album": _("in an album"),
        "single_copy": _("no copy yet"),
        "auto_clean_risk": _("auto-clean may delete it soon"),
    }.get(name, name)


def conditions_words(asked: Conditions) -> str:
    """Say what a rule asks."""
    parts = []
    for name in ("modality", "words", "without_words", "body_part", "ae_title", "station"):
        if values := getattr(asked, name):
            parts.append(f"{condition_word(name)} {', '.join(visible(one) for one in values)}")
    if asked.institution:
        parts.append(
            f"{condition_word('institution')} {', '.join(map(visible, asked.institution))}"
        )
    for text, seconds in (
        (_("younger than %s"), asked.younger_than_s),
        (_("at least %s old"), asked.older_than_s),
    ):
        if seconds:
            parts.append(text % format_duration(seconds))
    for text, size in (
        (_("larger than %s"), asked.larger_than_bytes),
        (_("smaller than %s"), asked.smaller_than_bytes),
    ):
        if size:
            parts.append(text % format_bytes(size))
    for name in ("locked", "in_album", "single_copy", "auto_clean_risk"):
        flag = getattr(asked, name)
        if flag is not None:
            parts.append(condition_word(name) + ("" if flag else ": " + _("no")))
    return "; ".join(parts)


def learned_words(feature: LearnedFeature) -> str:
    """Say what studies with a feature have in common, in counts."""
    return _(
        "%(feature)s: moved forward %(raised)s, moved back %(lowered)s, restored %(restored)s; in "
        "%(share)s %% of these studies, and in %(usual)s %% of all"
    ) % {
        "feature": f"{condition_word(feature.kind)} “{visible(feature.value)}”",
        "raised": format_number(feature.raised),
        "lowered": format_number(feature.lowered),
        "restored": format_number(feature.restored),
        "share": format_number(100 * feature.share),
        "usual": format_number(100 * feature.usual_share),
    }


def explained_objects(explained: Sequence[ExplainedStudy]) -> list[dict[str, object]]:
    """Return the same, ready for JSON."""
    return [
        {
            "study_instance_uid": one.study_instance_uid,
            "destinations": list(one.destinations),
            "instead_of": one.instead_of or None,
            **classification_object(one.classification),
        }
        for one in explained
    ]


def classification_object(found: Classification) -> dict[str, object]:
    """Return what rules made of a study, ready for JSON."""
    return {
        "priority": found.priority.name.lower(),
        "rules": [
            {
                "name": fired.rule.name,
                **effect_object(fired.rule),
                "decides": fired.decides,
                "met": dict(fired.met),
            }
            for fired in found.fired
        ],
        "learned": {
            "adjustment": found.learned_adjustment,
            "because": [feature_object(feature) for feature in found.learned],
        },
    }


def effect_object(rule: ClassificationRule) -> dict[str, object]:
    """Return what a rule does, ready for JSON."""
    return {
        "priority": None if rule.priority is None else rule.priority.name.lower(),
        "raise": rule.raises,
    }


def feature_object(feature: LearnedFeature) -> dict[str, object]:
    """Return a feature with its counts, ready for JSON."""
    return {
        "kind": feature.kind,
        "value": feature.value,
        "raised": feature.raised,
        "lowered": feature.lowered,
        "restored": feature.restored,
        "share": round(feature.share, 4),
        "usual_share": round(feature.usual_share, 4),
        "adjustment": feature.adjustment,
    }
