"""What is true of a study in two places, in words."""

from __future__ import annotations

from dcmvault.i18n import format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.comparison import StudyComparison, StudySummary, Verdict


def verdict_word(verdict: Verdict) -> str:
    """Name a verdict."""
    return {
        Verdict.SAME: _("the same"),
        Verdict.DIFFERENT: _("different"),
        Verdict.ONLY_A: _("only in A"),
        Verdict.ONLY_B: _("only in B"),
        Verdict.UNKNOWN: _("not known"),
    }[verdict]


def how_it_differs(study: StudyComparison) -> str:
    """Say how a study differs, or why nothing is known of it."""
    if study.verdict is Verdict.UNKNOWN:
        return sentence(study.reason)
    if study.verdict in (Verdict.ONLY_A, Verdict.ONLY_B):
        return _counts(study.a or study.b)
    if not study.series:
        return _("A has %(a)s; B has %(b)s") % {"a": _counts(study.a), "b": _counts(study.b)}
    only_a = sum(len(one.only_a) for one in study.series)
    only_b = sum(len(one.only_b) for one in study.series)
    other = sum(len(one.other_content) for one in study.series)
    parts = []
    if only_a:
        text = ngettext("%s instance only in A", "%s instances only in A", only_a)
        parts.append(text % format_number(only_a))
    if only_b:
        text = ngettext("%s instance only in B", "%s instances only in B", only_b)
        parts.append(text % format_number(only_b))
    if other:
        text = ngettext("%s instance in other bytes", "%s instances in other bytes", other)
        parts.append(text % format_number(other))
    series = ngettext("in %s series", "in %s series", len(study.series))
    return ", ".join([*parts, series % format_number(len(study.series))])


def _counts(summary: StudySummary | None) -> str:
    if summary is None or summary.instances is None:
        return _("an unknown number of instances")
    instances = ngettext("%s instance", "%s instances", summary.instances)
    text = instances % format_number(summary.instances)
    if summary.series is None:
        return text
    series = ngettext("%s series", "%s series", summary.series)
    return f"{series % format_number(summary.series)}, {text}"
