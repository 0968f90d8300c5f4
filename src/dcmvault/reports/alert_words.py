"""Alerts in words: a title for each, a sentence with its figures, and what to do."""

from __future__ import annotations

from collections.abc import Mapping

from dcmvault.i18n import format_bytes, format_duration, format_number
from dcmvault.i18n import gettext as _
from dcmvault.model.alert import Alert, AlertCode, AlertSeverity, Subject, SubjectKind
from dcmvault.reports.wording import cause_title


def alert_title(code: AlertCode) -> str:
    """Say what is wrong, in a few words."""
    return {
        AlertCode.STALLED: _("The work stands still"),
        AlertCode.DISK_LOW: _("A disk is nearly full"),
        AlertCode.DISK_FULL_FORECAST: _("A disk will be full soon"),
        AlertCode.CPU_HIGH: _("The processors are busy"),
        AlertCode.DESTINATION_DOWN: _("A destination does not answer"),
        AlertCode.CERTIFICATE_EXPIRING: _("A certificate ends soon"),
        AlertCode.RUN_OVERDUE: _("A plan is overdue"),
        AlertCode.VERIFICATION_DEBT: _("Copies are to be verified again"),
        AlertCode.SOURCE_HELD: _("Backups of a source are held"),
    }[code]


def alert_remedy(code: AlertCode) -> str:
    """Say what to do."""
    return {
        AlertCode.STALLED: _("Try the way there: dcmvault node probe NAME."),
        AlertCode.DISK_LOW: _("Make room, or name another disk."),
        AlertCode.DISK_FULL_FORECAST: _("Make room, or name another disk, in good time."),
        AlertCode.CPU_HIGH: _("See what else runs; a vault's profile “fast” needs less."),
        AlertCode.DESTINATION_DOWN: _(
            "Try it: dcmvault node echo NAME. What is due is delivered when it is back."
        ),
        AlertCode.CERTIFICATE_EXPIRING: _("Have it renewed, and put it in its place."),
        AlertCode.RUN_OVERDUE: _("See why: dcmvault status, dcmvault report."),
        AlertCode.VERIFICATION_DEBT: _("Verify what is due: dcmvault verify --due."),
        AlertCode.SOURCE_HELD: _(
            "Look at the source. If it is as it should be: dcmvault backup --accept-changes."
        ),
    }[code]


def alert_advice(code: AlertCode) -> str:
    """Say what to do beside a button that does it: without the command."""
    beside = {
        AlertCode.STALLED: "",
        AlertCode.DESTINATION_DOWN: _("What is due is delivered when it is back."),
        AlertCode.RUN_OVERDUE: "",
        AlertCode.VERIFICATION_DEBT: "",
    }
    return beside[code] if code in beside else alert_remedy(code)


def severity_word(severity: AlertSeverity) -> str:
    """Name a severity."""
    words = {AlertSeverity.WARNING: _("warning"), AlertSeverity.CRITICAL: _("critical")}
    return words[severity]


def subject_words(subject: Subject) -> str:
    """Name what an alert is about."""
    kinds = {
        SubjectKind.MACHINE: _("this machine"),
        SubjectKind.DISK: _("disk %s"),
        SubjectKind.DESTINATION: _("destination %s"),
        SubjectKind.SOURCE: _("source %s"),
        SubjectKind.PLAN: _("plan %s"),
        SubjectKind.RUN: _("run %s"),
        SubjectKind.CERTIFICATE: _("certificate of %s"),
    }
    text = kinds[subject.kind]
    return text % subject.name if subject.name else text.removesuffix(" %s")


def alert_sentence(alert: Alert) -> str:
    """Say what is wrong with what, with its figures."""
    figures = _figure_words(alert.code, alert.figures)
    if alert.code is AlertCode.DESTINATION_DOWN:
        what = _("The destination %s does not answer") % alert.subject.name
    else:
        what = f"{alert_title(alert.code)}: {subject_words(alert.subject)}"
    return f"{what} ({figures})" if figures else what


def _figure_words(code: AlertCode, figures: Mapping[str, float | int | str]) -> str:
    def number(name: str) -> float:
        value = figures.get(name, 0)
        return float(value) if isinstance(value, int | float) else 0.0

    match code:
        case AlertCode.STALLED:
            return _("nothing for %s") % format_duration(number("still_s"))
        case AlertCode.DISK_LOW:
            return _("%s free") % format_bytes(number("free_bytes"))
        case AlertCode.DISK_FULL_FORECAST if "full_in_s" in figures:
            return _("in %s") % format_duration(number("full_in_s"))
        case AlertCode.CPU_HIGH:
            return _("%s %%") % format_number(number("cpu_percent"))
        case AlertCode.DESTINATION_DOWN:
            error = str(figures.get("error", ""))
            # That it cannot be reached is what the sentence says already.
            return "" if error in {"", "unreachable"} else cause_title(error)
        case AlertCode.CERTIFICATE_EXPIRING:
            return _("%s days left") % format_number(number("days_left"))
        case AlertCode.RUN_OVERDUE:
            return _("late by %s") % format_duration(number("late_s"))
        case AlertCode.VERIFICATION_DEBT:
            return _("%s instances") % format_number(number("instances"))
        case AlertCode.SOURCE_HELD:
            return _("of %(known)s instances %(changed)s changed, %(gone)s are gone") % {
                "known": format_number(number("known")),
                "changed": format_number(number("changed")),
                "gone": format_number(number("gone")),
            }
        case _:
            return ""
