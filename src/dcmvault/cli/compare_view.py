"""What a comparison found, in words for people."""

from __future__ import annotations

from itertools import islice

import click

from dcmvault.app.compare import Outcome
from dcmvault.cli.output import say, table
from dcmvault.i18n import format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.certificate import Sample
from dcmvault.model.comparison import Basis, SideNotes, StudyComparison, Verdict
from dcmvault.reports.comparison_words import how_it_differs, verdict_word
from dcmvault.reports.escaping import visible

#: Studies that are shown by name on a terminal; CSV and JSON have all.
_SHOWN = 20
_SHOWN_NAMES = 20


def say_outcome(outcome: Outcome) -> None:
    """Say what was found: counts first, then the studies that differ."""
    tally = outcome.compared.tally
    total = tally.total
    rows = [
        ["A", visible(outcome.address_a), format_number(total.studies_a)],
        ["B", visible(outcome.address_b), format_number(total.studies_b)],
    ]
    if total.instances_a or total.instances_b:
        rows[0].append(format_number(total.instances_a))
        rows[1].append(format_number(total.instances_b))
        head = ["", "", _("studies"), _("instances")]
    else:
        head = ["", "", _("studies")]
    say(table(head, rows, right=frozenset({2, 3})))
    say()
    for verdict in Verdict:
        if count := tally.verdicts[verdict]:
            say(f"  {format_number(count):>9}  {verdict_word(verdict)}{_by(outcome, verdict)}")
    _say_studies(outcome)
    _say_names(outcome.not_found)
    for name, notes in (("A", outcome.notes_a), ("B", outcome.notes_b)):
        _say_notes(name, notes)
    if outcome.sample is not None:
        _say_sample(outcome.sample)
    say()
    say(_verdict(outcome))


def _by(outcome: Outcome, verdict: Verdict) -> str:
    """Say what sameness rests on: a count is no proof."""
    if verdict is not Verdict.SAME:
        return ""
    words = {
        Basis.COUNT: _("by count"),
        Basis.INSTANCES: _("by their instances"),
        Basis.CONTENT: _("by content"),
    }
    parts = [
        f"{format_number(count)} {words[basis]}"
        for basis, count in outcome.compared.tally.same_by.items()
        if count and basis in words
    ]
    return f" ({', '.join(parts)})" if parts else ""


def _say_studies(outcome: Outcome) -> None:
    verdicts = outcome.compared.tally.verdicts
    count = sum(verdicts.values()) - verdicts[Verdict.SAME]
    if not count:
        return
    say()
    for study in islice(outcome.exceptions(), _SHOWN):
        say(f"  {visible(study.study_instance_uid)}  {_difference(study)}")
    if (more := count - _SHOWN) > 0:
        say("  " + ngettext("and %s more", "and %s more", more) % format_number(more))


def _difference(study: StudyComparison) -> str:
    return f"{verdict_word(study.verdict)}: {visible(how_it_differs(study))}"


def _say_names(names: tuple[str, ...]) -> None:
    if not names:
        return
    say()
    text = ngettext(
        "%s name of the list is found in neither:",
        "%s names of the list are found in neither:",
        len(names),
    )
    say(text % format_number(len(names)))
    for name in names[:_SHOWN_NAMES]:
        say(f"  {visible(name)}")
    if (more := len(names) - _SHOWN_NAMES) > 0:
        say("  " + ngettext("and %s more", "and %s more", more) % format_number(more))


def _say_notes(name: str, notes: SideNotes) -> None:
    if notes.unreadable:
        text = ngettext(
            "%(side)s: %(count)s file could not be read, so that nothing is known of it.",
            "%(side)s: %(count)s files could not be read, so that nothing is known of them.",
            notes.unreadable,
        )
        say(text % {"side": name, "count": format_number(notes.unreadable)})
    if notes.not_instances:
        text = ngettext(
            "%(side)s: %(count)s file is no DICOM instance, and was not compared.",
            "%(side)s: %(count)s files are no DICOM instances, and were not compared.",
            notes.not_instances,
        )
        say(text % {"side": name, "count": format_number(notes.not_instances)})
    for reason in notes.reasons:
        say(f"  {name}: {visible(sentence(reason))}")


def _say_sample(sample: Sample) -> None:
    say()
    text = ngettext(
        "%(proven)s of %(read)s study read back from both is the same (seed %(seed)s).",
        "%(proven)s of %(read)s studies read back from both are the same (seed %(seed)s).",
        len(sample.studies),
    )
    say(
        text
        % {
            "proven": format_number(sample.proven),
            "read": format_number(len(sample.studies)),
            "seed": visible(sample.seed),
        }
    )
    for study in sample.studies:
        if not study.is_proven:
            say(f"  {visible(study.study_instance_uid)}")
            for reason in study.reasons:
                say(f"    {visible(reason)}")


def _has_more(outcome: Outcome) -> bool:
    """Say whether what only B has is all that differs."""
    sample, notes = outcome.sample, (outcome.notes_a, outcome.notes_b)
    fails = sample is not None and sample.proven < len(sample.studies)
    unread = any(one.unreadable or one.may_have_more for one in notes)
    return not (outcome.compared.tally.not_whole_in_b or outcome.not_found or fails or unread)


def _verdict(outcome: Outcome) -> str:
    tally = outcome.compared.tally
    if tally.total.studies_b and not tally.total.studies_a:
        return click.style(_("A has no study that was to be compared"), fg="red") + "."
    if outcome.exit_status and _has_more(outcome):
        return _("B has what A has, and more.")
    if outcome.exit_status:
        return click.style(_("They differ, or not everything could be found out."), fg="red")
    if not tally.total.studies_a:
        return _("Neither has any study.")
    if tally.same_by[Basis.COUNT]:
        return _("They hold the same by count, which is no proof: --depth instance looks closer.")
    return click.style(_("They hold the same."), fg="green", bold=True)
