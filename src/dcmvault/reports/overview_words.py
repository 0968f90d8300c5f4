"""The overview in words: one sentence on the state of everything, and what each part of it says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from dcmvault.i18n import format_bytes, format_duration, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.job import Priority
from dcmvault.model.overview import (
    Basis,
    Need,
    NeedKind,
    Occasion,
    Outcome,
    Overview,
    Pause,
    Place,
    Proof,
    Rule,
    Ruling,
    Standing,
    Verb,
    Verdict,
)
from dcmvault.reports.alert_words import alert_sentence

#: Writes a moment as its reader's clock shows it.
When = Callable[[datetime], str]


def standing_words(standing: Standing) -> str:
    """Name the state of everything in a word or two."""
    return {
        Standing.NOTHING_CONFIGURED: _("Nothing is configured yet"),
        Standing.NEEDS_YOU: _("Something needs you"),
        Standing.NEVER_RAN: _("Nothing ran yet"),
        Standing.WORKING: _("Working"),
        Standing.PAUSED: _("Paused"),
        Standing.BEHIND: _("Not everything is protected yet"),
        Standing.COUNTING: _("Counting"),
        Standing.ALL_WELL: _("All is well"),
    }[standing]


def state_sentence(overview: Overview, when: When) -> str:
    """Say the state of everything, with the last run and the next one."""
    return f"{first_sentence(overview)} {then_sentence(overview, when)}".strip()


def then_sentence(overview: Overview, when: When) -> str:
    """Say what ran last and what runs next."""
    parts = []
    if overview.last is not None and overview.standing is not Standing.NOTHING_CONFIGURED:
        parts.append(_last(overview.last, when))
    if overview.next is not None:
        parts.append(_next(overview.next, overview.at, when))
    elif overview.plans:
        parts.append(_("No run is planned."))
    return " ".join(parts)


def first_sentence(overview: Overview) -> str:
    """Say the state of everything."""
    protection = overview.protection
    counts = {
        "protected": format_number(protection.protected if protection else 0),
        "studies": format_number(protection.studies if protection else 0),
    }
    match overview.standing:
        case Standing.NOTHING_CONFIGURED:
            return _("Nothing is configured yet: say where your studies are, and where copies go.")
        case Standing.NEEDS_YOU:
            return ngettext(
                "%s thing needs you.", "%s things need you.", overview.pressing
            ) % format_number(overview.pressing)
        case Standing.NEVER_RAN:
            return _("Everything is configured, and nothing ran yet.")
        case Standing.WORKING if overview.instances_left:
            return ngettext(
                "Working: %s instance is left.",
                "Working: %s instances are left.",
                overview.instances_left,
            ) % format_number(overview.instances_left)
        case Standing.WORKING:
            return _("Working: what is due is being found out.")
        case Standing.PAUSED:
            return _("Paused: there is work, and every queue that has some stands.")
        case Standing.BEHIND:
            return (
                _("%(protected)s of %(studies)s studies are protected; nothing is wrong.") % counts
            )
        case Standing.COUNTING:
            return _("Nothing is wrong; what is protected is being counted.")
        case Standing.ALL_WELL if protection is not None and protection.studies:
            return ngettext(
                "All is well: your one study is protected.",
                "All is well: all %s studies are protected.",
                protection.studies,
            ).replace("%s", counts["studies"])
        case _:
            return _("All is well.")


def _last(last: Occasion, when: When) -> str:
    facts = {"plan": last.plan, "when": when(last.at)}
    if last.outcome is Outcome.WHOLE:
        if last.plan:
            return _("“%(plan)s” ended well %(when)s.") % facts
        return _("The last run ended well %(when)s.") % facts
    if last.plan:
        return _("“%(plan)s” ended %(when)s, and not as it should.") % facts
    return _("The last run ended %(when)s, and not as it should.") % facts


def _next(following: Occasion, now: datetime, when: When) -> str:
    facts = {"plan": following.plan, "when": when(following.at)}
    if following.at <= now:
        return _("“%(plan)s” is due now.") % facts
    return _("Next is “%(plan)s”, %(when)s.") % facts


def need_sentence(need: Need) -> str:
    """Say what needs somebody."""
    count = format_number(need.count)
    match need.kind:
        case NeedKind.ALERT:
            assert need.alert is not None
            return alert_sentence(need.alert)
        case NeedKind.RUN_FAILED:
            return _("The last run of “%s” failed.") % need.subject
        case NeedKind.RUN_INCOMPLETE:
            if not need.count:
                return _("The last run of “%s” did not reach everything.") % need.subject
            return ngettext(
                "The last run of “%(plan)s” did not reach %(count)s instance.",
                "The last run of “%(plan)s” did not reach %(count)s instances.",
                need.count,
            ) % {"plan": need.subject, "count": count}
        case NeedKind.REFUTED:
            return ngettext(
                "%(count)s copy at %(place)s is missing or damaged.",
                "%(count)s copies at %(place)s are missing or damaged.",
                need.count,
            ) % {"place": need.subject, "count": count}
        case NeedKind.UNREADABLE:
            if not need.subject:
                return (
                    ngettext("%s file cannot be read.", "%s files cannot be read.", need.count)
                    % count
                )
            return ngettext(
                "%(count)s file of %(source)s cannot be read.",
                "%(count)s files of %(source)s cannot be read.",
                need.count,
            ) % {"source": need.subject, "count": count}
        case NeedKind.NO_DRILL if need.critical:
            return _("The last try to bring studies back failed.")
        case NeedKind.NO_DRILL if need.since is not None:
            return _("It is long ago that studies were brought back and proven.")
        case NeedKind.NO_DRILL:
            return _("It was never tried whether studies come back.")
        case NeedKind.NEVER_RAN:
            return _("“%s” never ran.") % need.subject
        case NeedKind.UNTOLD:
            return _("The channel “%s” cannot be told anything.") % need.subject


def verb_words(verb: Verb) -> str:
    """Name the one thing to do, as on a button."""
    return {
        Verb.LOOK_AT_RUN: _("Look at the run"),
        Verb.RUN_NOW: _("Back up now"),
        Verb.TRY: _("Try it"),
        Verb.MAKE_ROOM: _("See what fills it"),
        Verb.VERIFY: _("Verify"),
        Verb.LOOK_AT_SOURCE: _("Look at the source"),
        Verb.RENEW: _("See the certificate"),
        Verb.LOOK_AT_WORK: _("Look at the work"),
        Verb.DRILL: _("Start a drill"),
        Verb.TEST_CHANNEL: _("Test the channel"),
    }[verb]


def outcome_words(outcome: Outcome) -> str:
    """Name how a run ended."""
    return {
        Outcome.WHOLE: _("everything reached"),
        Outcome.INCOMPLETE: _("not everything reached"),
        Outcome.FAILED: _("failed"),
        Outcome.CANCELLED: _("cancelled"),
        Outcome.GOES_ON: _("goes on"),
    }[outcome]


def place_words(place: Place) -> str:
    """Name a kind of place."""
    return {
        Place.FOLDER: _("Folder"),
        Place.VAULT: _("Vault"),
        Place.CLOUD: _("Vault in a cloud"),
        Place.SFTP: _("Vault over SFTP"),
        Place.PACS: _("PACS"),
        Place.DICOMWEB: _("DICOMweb"),
        Place.OTHER: _("Plug-in"),
    }[place]


def pause_words(pause: Pause) -> str:
    """Say why a queue stands."""
    return {
        Pause.BY_HAND: _("paused by hand"),
        Pause.WINDOW: _("paused by its window"),
    }[pause]


def priority_words(priority: Priority) -> str:
    """Name a place in a queue."""
    return {
        Priority.LOW: _("low"),
        Priority.NORMAL: _("normal"),
        Priority.HIGH: _("high"),
        Priority.URGENT: _("urgent"),
        Priority.EMERGENCY: _("emergency"),
    }[priority]


def rule_title(rule: Rule) -> str:
    """Name a rule of 3-2-1-1-0, beside its figure."""
    return {
        Rule.COPIES: _("copies"),
        Rule.MEDIA: _("media"),
        Rule.OFF_SITE: _("off-site"),
        Rule.IMMUTABLE: _("immutable or offline"),
        Rule.ERRORS: _("errors"),
    }[rule]


def verdict_words(verdict: Verdict) -> str:
    """Name a verdict."""
    return {
        Verdict.KEPT: _("kept"),
        Verdict.BROKEN: _("not kept"),
        Verdict.UNKNOWN: _("not known"),
    }[verdict]


def basis_words(basis: Basis) -> str:
    """Say what a verdict rests on."""
    return {
        Basis.EVIDENCE: _("by evidence"),
        Basis.CONFIGURATION: _("assumed from the configuration"),
        Basis.NOTHING: _("nobody told"),
    }[basis]


def ruling_sentence(ruling: Ruling) -> str:
    """Say what was found of a rule."""
    found, names = format_number(ruling.found), ", ".join(ruling.names)
    match ruling.rule, ruling.verdict:
        case Rule.COPIES, Verdict.UNKNOWN:
            return _("How many copies there are was not counted yet.")
        case Rule.COPIES, _:
            return _("Every study has at least %s, the original included.") % ngettext(
                "%s copy", "%s copies", ruling.found
            ).replace("%s", found)
        case Rule.MEDIA, Verdict.UNKNOWN:
            return _("No destination is known to hold anything.")
        case Rule.MEDIA, _:
            return ngettext(
                "Originals and copies are on one medium.",
                "Originals and copies are on %s media.",
                ruling.found,
            ).replace("%s", found)
        case Rule.OFF_SITE, Verdict.KEPT:
            return _("%s is at a provider, and so elsewhere.") % names
        case Rule.OFF_SITE, Verdict.BROKEN:
            return _("All copies are on this machine.")
        case Rule.OFF_SITE, _ if names:
            return _("%s is another machine; whether it is elsewhere nobody told.") % names
        case Rule.OFF_SITE, _:
            return _("No destination is known to hold anything.")
        case Rule.IMMUTABLE, Verdict.KEPT:
            return _("%s is configured to let nothing be deleted for a while.") % names
        case Rule.IMMUTABLE, _:
            return _("No destination is configured so; whether one is offline nobody told.")
        case Rule.ERRORS, Verdict.BROKEN:
            return (
                ngettext(
                    "%s error: a copy, a file or a restore that failed.",
                    "%s errors: copies, files or a restore that failed.",
                    ruling.found,
                )
                % found
            )
        case Rule.ERRORS, Verdict.KEPT:
            return _("No copy is missing or damaged, and every file can be read.")
        case _:
            return _("Nothing was verified yet.")


def proof_sentence(proof: Proof | None, now: datetime) -> str:
    """Say when it was last proven that studies come back."""
    if proof is None:
        return _("never tried")
    facts = {
        "age": format_duration((now - proof.at).total_seconds()),
        "place": proof.place,
    }
    if not proof.passed:
        return _("failed %(age)s ago, from %(place)s") % facts
    if proof.is_drill:
        return _("drill %(age)s ago, from %(place)s") % facts
    return _("restore %(age)s ago, from %(place)s") % facts


def full_sentence(full_in_days: tuple[str, float] | None) -> str:
    """Say which disk is full first, and when."""
    if full_in_days is None:
        return _("No disk is known to fill up.")
    name, days = full_in_days
    return ngettext(
        "%(name)s is full in %(days)s day, as it goes.",
        "%(name)s is full in %(days)s days, as it goes.",
        round(days),
    ) % {"name": name, "days": format_number(days)}


def protected_words(overview: Overview) -> str:
    """Say how much is protected, in bytes."""
    protection = overview.protection
    if protection is None:
        return _("being counted")
    words = _("%(protected)s of %(bytes)s") % {
        "protected": format_bytes(protection.protected_bytes),
        "bytes": format_bytes(protection.bytes),
    }
    if not protection.excluded:
        return words
    excluded = ngettext(
        "%s study is excluded", "%s studies are excluded", protection.excluded
    ) % format_number(protection.excluded)
    return f"{words} · {excluded}"
