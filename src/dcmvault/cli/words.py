"""Words for the states and reasons of the model, in the language in use."""

from __future__ import annotations

from dcmvault.i18n import gettext as _
from dcmvault.i18n import ngettext
from dcmvault.model.evidence import Level
from dcmvault.model.job import JobState, Priority
from dcmvault.model.plan import RunKind


def run_kind_word(kind: RunKind) -> str:
    """Name what a run is for."""
    return {
        RunKind.BACKUP: _("backup"),
        RunKind.VERIFY: _("verification"),
        RunKind.RESTORE: _("restore"),
    }[kind]


def job_state_word(state: JobState) -> str:
    """Name the state of a job."""
    return {
        JobState.PENDING: _("planned"),
        JobState.QUEUED: _("queued"),
        JobState.IN_PROGRESS: _("in progress"),
        JobState.VERIFYING: _("being verified"),
        JobState.RETRYING: _("waiting to be tried again"),
        JobState.COMPLETED: _("completed"),
        JobState.FAILED: _("failed"),
        JobState.CANCELLED: _("cancelled"),
    }[state]


def priority_word(priority: Priority) -> str:
    """Name a priority."""
    return {
        Priority.LOW: _("low"),
        Priority.NORMAL: _("normal"),
        Priority.HIGH: _("high"),
        Priority.URGENT: _("urgent"),
        Priority.EMERGENCY: _("emergency"),
    }[priority]


def probe_step_word(name: str) -> str:
    """Name a step of `node echo`; an unknown one stays as it is."""
    words = {
        "resolve": _("name"),
        "connect": _("connection"),
        "tls": _("TLS"),
        "associate": _("association"),
        "echo": _("C-ECHO"),
        "secrets": _("secrets"),
        "token": _("token"),
        "http": _("HTTP"),
        "qido": _("search (QIDO-RS)"),
        "stow": _("storage (STOW-RS)"),
        "folder": _("folder"),
        "write": _("writing"),
        "space": _("space"),
        "latency": _("round trip"),
        "storage": _("storage"),
        "syntaxes": _("transfer syntaxes"),
        "query": _("query"),
        "commitment": _("commitment"),
        "bandwidth": _("bandwidth"),
    }
    return words.get(name, name)


def reached_sentence(level: Level, instances: int) -> str:
    """Return the sentence for instances that all reached `level`: %(count)s, %(destination)s."""
    match level:
        case Level.PROVEN:
            return ngettext(
                "The %(count)s instance is proven at %(destination)s: read back, and equal.",
                "All %(count)s instances are proven at %(destination)s: read back, and equal.",
                instances,
            )
        case Level.COMMITTED:
            return ngettext(
                "The %(count)s instance is committed at %(destination)s: it promised to keep it.",
                "All %(count)s instances are committed at %(destination)s: "
                "it promised to keep them.",
                instances,
            )
        case Level.COMPLETE:
            return ngettext(
                "The %(count)s instance is complete at %(destination)s: found there by name.",
                "All %(count)s instances are complete at %(destination)s: "
                "each was found there by name.",
                instances,
            )
        case Level.PRESENT:
            return ngettext(
                "The %(count)s instance is present at %(destination)s: the counts agree.",
                "All %(count)s instances are present at %(destination)s: the counts agree.",
                instances,
            )
        case _:
            return ngettext(
                "The %(count)s instance was sent to %(destination)s. Nothing was verified.",
                "All %(count)s instances were sent to %(destination)s. Nothing was verified.",
                instances,
            )
