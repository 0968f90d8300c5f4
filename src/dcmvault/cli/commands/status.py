"""`dcmvault status`: what is protected where, proven how, and when that was last seen."""

from __future__ import annotations

from collections.abc import Iterator, Set

import click

from dcmvault.app.as_data import alert_data, run_data, source_data
from dcmvault.app.backup import paused_destinations
from dcmvault.app.known_status import known_status
from dcmvault.app.notify import ChannelView, silent_channels
from dcmvault.app.status import EvidenceView, SourceView, latest_drills, recent_runs
from dcmvault.app.top import open_alerts, with_addresses
from dcmvault.cli.alert_lines import alert_line
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.output import format_age, mark, print_json, say
from dcmvault.cli.restore_drills import drill_lines, drill_object
from dcmvault.cli.session import current_settings, opened
from dcmvault.cli.words import run_kind_word
from dcmvault.i18n import format_bytes, format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.alert import Alert, AlertSeverity
from dcmvault.model.drill import Drill
from dcmvault.model.evidence import Level
from dcmvault.ports.catalogue import RunRecord
from dcmvault.ports.status import CoverageStatus
from dcmvault.reports.alert_words import alert_remedy
from dcmvault.reports.escaping import visible
from dcmvault.reports.wording import state_label

_RUNS = 5


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "status",
        callback=_status,
        text=_("Show what is protected where, at which level of evidence, and how old that is."),
        params=[json_option()],
        examples=[(_("At a glance"), "dcmvault status")],
    )


def _status(as_json: bool) -> int:
    settings = current_settings()
    with opened(settings) as session:
        known = known_status(session.workplace)
        runs = recent_runs(session.workplace, _RUNS)
        drills = latest_drills(session.workplace)
        paused = paused_destinations(session.workplace)
        silent = silent_channels(session.workplace)
        alerts = open_alerts(session.workplace)
        shown_alerts = with_addresses(session.workplace, alerts) if alerts else []
    views = known.views
    if as_json:
        print_json(
            {
                "sources": [source_data(view) for view in views],
                "counted_at": known.counted_at.isoformat(timespec="milliseconds"),
                "runs": [run_data(run) for run in runs],
                "drills": [drill_object(drill) for drill in drills],
                "silent_channels": [view.name for view in silent],
                "alerts": [alert_data(alert) for alert in alerts],
                "exit_status": 0,
            }
        )
        return 0
    if shown_alerts:
        _say_alerts(shown_alerts)
    if not any(view.source.last_seen_at for view in views):
        say(_("Nothing was backed up yet. Begin with: dcmvault backup SOURCE --to DESTINATION"))
    for view in views:
        # A path that nothing was ever found at was misspelt, most of the time.
        if view.source.last_seen_at is not None:
            _say_source(view, paused)
    if not known.took_s:
        say(_("counted %s") % format_age(known.counted_at))
        say()
    if drills:
        _say_drills(drills)
    if silent:
        _say_silent(silent)
    if runs:
        say(click.style(_("Latest runs"), bold=True))
        for run in runs:
            _say_run(run)
    return 0


def _say_alerts(alerts: list[Alert]) -> None:
    say(click.style(_("What is wrong"), bold=True))
    for alert in alerts:
        colour = "red" if alert.severity is AlertSeverity.CRITICAL else "yellow"
        say("  " + click.style(alert_line(alert), fg=colour))
        say(f"    → {alert_remedy(alert.code)}")
    say()


def _say_drills(drills: list[Drill]) -> None:
    say(click.style(_("Latest drills"), bold=True))
    for drill in drills:
        say(f"  {mark(drill.passed)} {visible(drill.place)}")
        words = ", ".join([*drill_lines(drill), format_age(drill.drilled_at)])
        say(f"    {words}")
    say()


def _say_silent(silent: list[ChannelView]) -> None:
    say(click.style(_("Channels that do not tell everybody"), bold=True))
    for view in silent:
        assert view.state is not None
        count = view.state.given_up
        given_up = ngettext("%s message given up", "%s messages given up", count)
        told = f": {given_up % format_number(count)}" if count else ""
        say(f"  {mark(ok=False)} {view.name}{told}")
        say(f"    {visible(sentence(view.state.message))}")
    say("  → " + _("Try them with: dcmvault notify test"))
    say()


def _say_source(view: SourceView, paused: Set[str]) -> None:
    source = view.source
    say(click.style(visible(source.name), bold=True))
    studies = ngettext("%s study", "%s studies", source.studies) % format_number(source.studies)
    instances = ngettext("%s instance", "%s instances", source.instances)
    seen = _("looked at %s") % format_age(source.last_seen_at)
    size = format_bytes(source.bytes)
    say(f"  {studies}, {instances % format_number(source.instances)}, {size}; {seen}")
    if view.excluded:
        words = ngettext("%s study is excluded", "%s studies are excluded", view.excluded)
        say("  " + words % format_number(view.excluded))
    for coverage in view.coverage:
        _say_coverage(coverage, paused)
        _say_evidence(view.evidence[coverage.destination])
    if not view.coverage:
        say(f"  {mark(ok=False)} " + _("not backed up anywhere"))
    say()


def _say_coverage(coverage: CoverageStatus, paused: Set[str]) -> None:
    say(f"  {mark(_is_protected(coverage))} {visible(coverage.destination)}")
    protected = ngettext(
        "%(protected)s of %(studies)s study protected",
        "%(protected)s of %(studies)s studies protected",
        coverage.studies,
    )
    held = ngettext(
        "%(held)s of %(instances)s instance held",
        "%(held)s of %(instances)s instances held",
        coverage.instances,
    )
    words = {
        "protected": format_number(coverage.studies_protected),
        "studies": format_number(coverage.studies),
        "held": format_number(coverage.instances_held),
        "instances": format_number(coverage.instances),
    }
    levels = ", ".join(_levels(coverage))
    say("    " + protected % words + ", " + held % words + (f" ({levels})" if levels else ""))
    if coverage.oldest_evidence_at is not None:
        say("    " + _("oldest evidence: %s") % format_age(coverage.oldest_evidence_at))
    if coverage.destination in paused:
        say("    " + click.style(_("paused"), fg="yellow"))


def _levels(coverage: CoverageStatus) -> Iterator[str]:
    """Say how many are held at each level, the highest first."""
    for level, count in sorted(coverage.by_level.items(), reverse=True):
        plain = count - coverage.coerced if level is Level.PROVEN else count
        if plain:
            yield f"{format_number(plain)} {level.word}"
        if plain != count:
            yield _("%s “proven, with coercions”") % format_number(coverage.coerced)


def _say_evidence(evidence: EvidenceView) -> None:
    """Show how old the facts of each level are, and what verification is owed."""
    for level, fact in sorted(evidence.facts.items(), reverse=True):
        ages = dict.fromkeys((format_age(fact.oldest_at), format_age(fact.newest_at)))
        instances = ngettext("%s instance", "%s instances", fact.instances)
        say(f"    {level.word}: {instances % format_number(fact.instances)}, {' – '.join(ages)}")
    owed = evidence.debt
    if not owed.instances:
        return
    studies = ngettext("%s study", "%s studies", owed.studies) % format_number(owed.studies)
    instances = ngettext("%s instance", "%s instances", owed.instances)
    words = {
        "studies": studies,
        "instances": instances % format_number(owed.instances),
        "size": format_bytes(owed.bytes),
        "level": evidence.level.word,
        "days": format_number(evidence.oldest_s // 86_400),
        "hours": format_number(evidence.oldest_s // 3600),
    }
    if not evidence.oldest_s:
        text = _("verification debt: %(studies)s, %(instances)s, %(size)s not “%(level)s”")
    elif evidence.oldest_s % 86_400:
        text = _(
            "verification debt: %(studies)s, %(instances)s, %(size)s not “%(level)s” in the last "
            "%(hours)s hours"
        )
    else:
        text = _(
            "verification debt: %(studies)s, %(instances)s, %(size)s not “%(level)s” in the last "
            "%(days)s days"
        )
    say("    " + click.style(text % words, fg="yellow"))


def _is_protected(coverage: CoverageStatus) -> bool | None:
    """Say yes only on evidence: what was merely sent is neither good nor bad."""
    if coverage.instances_held < coverage.instances:
        return False
    claims = coverage.by_level.get(Level.SENT, 0) + coverage.by_level.get(Level.NONE, 0)
    return None if claims or not coverage.instances else True


def _say_run(run: RunRecord) -> None:
    """Show a run in lines short enough for any terminal: addresses are long."""
    what = f"{run_kind_word(run.request.kind)}, {state_label(run.state)}"
    say(f"  {run.run_id}  {what}, {format_age(run.created_at)}")
    to = ", ".join(one.address for one in run.request.destinations)
    say(f"    {visible(run.request.source)} → {visible(to)}")
