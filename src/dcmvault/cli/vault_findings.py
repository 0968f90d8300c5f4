"""What a check of a vault found, in words and for JSON; checks and repairs share it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

import click

from dcmvault.app.restore_plan import study_word
from dcmvault.cli.output import say, tell_error
from dcmvault.i18n import format_bytes, format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible
from dcmvault.reports.vault_words import trouble_heading
from dcmvault.vault.findings import CheckResult, Finding, Trouble

#: Findings of a kind, studies, and instances of a study that are shown; `--json` has all.
_SHOWN = 50
_SHOWN_INSTANCES = 5

_PAST = frozenset({Trouble.SNAPSHOT_GONE, Trouble.ROLLED_BACK})

#: Studies by UID with the SOP Instance UIDs in question; none where they are not known.
Studies = Mapping[str, tuple[str, ...]]


def say_findings(findings: Sequence[Finding]) -> None:
    """Say what is wrong by its kind, then what is worth a line."""
    for trouble in Trouble:
        some = [one for one in findings if one.trouble is trouble and not one.is_note]
        if some:
            _say_group(click.style(trouble_heading(trouble), bold=True), some)
    notes = [one for one in findings if one.is_note]
    if notes:
        _say_group(_("Worth knowing, and no damage"), notes)


def _say_group(heading: str, findings: Sequence[Finding]) -> None:
    say()
    say(f"{heading} ({format_number(len(findings))})")
    for finding in findings[:_SHOWN]:
        say(f"  {visible(sentence(finding.message))}")
    _say_more(len(findings))


def _say_more(count: int) -> None:
    if (more := count - _SHOWN) > 0:
        say("  " + ngettext("and %s more", "and %s more", more) % format_number(more))


def say_studies(heading: str, studies: Studies) -> None:
    """List studies with instances, by UID."""
    if not studies:
        return
    say()
    say(click.style(heading, bold=True) + f" ({format_number(len(studies))})")
    for uid, instances in list(studies.items())[:_SHOWN]:
        word = visible(study_word(uid))
        if not instances:
            say("  " + _("%s: it is not known which instances") % word)
            continue
        count = ngettext("%s instance", "%s instances", len(instances))
        say(f"  {word}: {count % format_number(len(instances))}")
        for instance in instances[:_SHOWN_INSTANCES]:
            say(f"    {visible(instance)}" if instance else "    " + _("a file without a UID"))
        if (more := len(instances) - _SHOWN_INSTANCES) > 0:
            say("    " + ngettext("and %s more", "and %s more", more) % format_number(more))
    _say_more(len(studies))


def touched(findings: Iterable[Finding]) -> dict[str, tuple[str, ...]]:
    """Return the studies and instances that need what is damaged."""
    studies: dict[str, set[str]] = {}
    for finding in findings:
        if not finding.is_note:
            for uid, instances in finding.studies.items():
                studies.setdefault(uid, set()).update(instances)
    return {uid: tuple(sorted(instances)) for uid, instances in sorted(studies.items())}


def figures(result: CheckResult) -> list[str]:
    """Say how much was looked at."""
    objects = ngettext("%s object", "%s objects", result.objects)
    snapshots = ngettext("%s snapshot", "%s snapshots", result.snapshots)
    packs = ngettext("%s pack", "%s packs", result.packs)
    return [
        objects % format_number(result.objects),
        snapshots % format_number(result.snapshots),
        packs % format_number(result.packs),
        _("%s stored") % format_bytes(result.bytes_stored),
        _("%s read") % format_bytes(result.bytes_read),
    ]


def lost_past(result: CheckResult) -> bool:
    """Say whether snapshots are gone: no repair brings these back."""
    return any(one.trouble in _PAST for one in result.errors)


def damage(result: CheckResult) -> list[Finding]:
    """List what is wrong with what is there."""
    return [one for one in result.errors if one.trouble not in _PAST]


def say_how_to_go_on_without(vault: str) -> None:
    """Say what to do about snapshots that are gone."""
    word = command_word(vault)
    say(
        "→ "
        + _(
            "Is it the right disk, or a copy that is older? If this is the vault to go on with: "
            "`dcmvault verify SOURCE --at %s` finds what it lost, and the next backup stores that "
            "again."
        )
        % word
    )


def command_word(text: str) -> str:
    """Quote an argument as a shell wants it."""
    return visible(shlex.quote(text))


def tell_of_catalogue(trouble: str) -> None:
    """Say on stderr that nobody outside the vault could be asked about its past."""
    if trouble:
        tell_error(
            _("What this machine knew of the vault could not be looked up: %s") % sentence(trouble),
            _("So it was not compared which snapshots the vault should have."),
        )


def result_object(result: CheckResult) -> dict[str, object]:
    """Return what a check found for JSON."""
    return {
        "level": result.level,
        "sound": result.is_sound,
        "mendable": result.is_mendable,
        "objects": result.objects,
        "snapshots": result.snapshots,
        "packs": result.packs,
        "bytes": {"stored": result.bytes_stored, "read": result.bytes_read},
        "findings": [_finding_object(finding) for finding in result.findings],
        "studies": studies_object(touched(result.findings)),
    }


def studies_object(studies: Studies) -> dict[str, list[str]]:
    """Return studies with instances for JSON."""
    return {uid: list(instances) for uid, instances in studies.items()}


def _finding_object(finding: Finding) -> dict[str, object]:
    return {
        "trouble": finding.trouble.value,
        "key": finding.key,
        "message": finding.message,
        "mendable": finding.mendable,
        "note": finding.is_note,
        "studies": studies_object(finding.studies),
    }
