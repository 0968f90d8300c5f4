"""What a report says: verdicts, outcomes, levels and causes in sentences for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.plan import RunKind
from dcmvault.model.report import DestinationReport, Failure, RunReport, RunState
from dcmvault.reports.escaping import STAND_IN

#: Codes of what a run left undone when it ended early.
_UNDONE = frozenset({"cancelled", "unfinished"})


class Tone(StrEnum):
    """How a verdict looks. Only evidence is GOOD; a claim never is."""

    GOOD = "good"
    CLAIM = "claim"
    BAD = "bad"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one sentence that a hurried reader needs, and the one after it."""

    tone: Tone
    headline: str
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many of a destination's instances ended in one way."""

    kind: str  #: stored | held | claimed | failed | unreadable | conflict | open
    label: str
    count: int


def verdict(report: RunReport) -> Verdict:
    """Judge a run."""
    if report.error is not None:
        _code, message, hint = report.error
        detail = " ".join(as_sentence(text) for text in (message, hint) if text)
        return Verdict(Tone.BAD, _("The run ended by an error."), detail)
    if report.state is RunState.CANCELLED:
        return Verdict(
            Tone.OPEN,
            _("The run was cancelled."),
            _("What is counted here was finished before; the same command does the rest."),
        )
    if report.state is not RunState.FINISHED:
        return Verdict(
            Tone.OPEN,
            _("The run is not finished."),
            _("These are its figures so far; ask again for the final ones."),
        )
    return _of_finished_run(report)


def as_sentence(text: str) -> str:
    """End a text with a full stop where it has no end."""
    return text if text.endswith((".", "?", "!", ":")) else f"{text}."


def _of_finished_run(report: RunReport) -> Verdict:
    counts = report.counts
    short = max(counts.selected - counts.stored, counts.short)
    if short > 0 or report.exit_status != 0:
        return _fallen_short(short, counts.total)
    total = counts.stored + counts.already_held
    if total == 0:
        return Verdict(
            Tone.OPEN,
            _("There was nothing to back up."),
            _("The source holds no instances. If it should, check that its disk is mounted."),
        )
    claimed = sum(
        part.counts.stored + part.counts.already_held
        for part in report.destinations
        if part.level <= Level.SENT
    )
    return _claimed(claimed, total) if claimed else _all_well(report, total)


def _claimed(claimed: int, total: int) -> Verdict:
    if claimed == total:
        headline = ngettext(
            "%(n)s copy was sent, and nothing was verified.",
            "%(n)s copies were sent, and nothing was verified.",
            total,
        )
    else:
        headline = ngettext(
            "%(n)s of %(all)s copies was sent without being verified.",
            "%(n)s of %(all)s copies were sent without being verified.",
            claimed,
        )
    return Verdict(
        Tone.CLAIM,
        headline % {"n": format_number(claimed), "all": format_number(total)},
        _("The destination says that it took them. That is a claim, not evidence."),
    )


def _fallen_short(short: int, total: int) -> Verdict:
    if not short:
        return Verdict(
            Tone.BAD,
            _("The run finished, but not as it should."),
            _("The warnings below say why."),
        )
    return Verdict(
        Tone.BAD,
        ngettext(
            "%(n)s of %(total)s copy did not reach its level.",
            "%(n)s of %(total)s copies did not reach their level.",
            total,
        )
        % {"n": format_number(short), "total": format_number(total)},
        _("Each one is named below, with its cause and what to do next."),
    )


def _all_well(report: RunReport, total: int) -> Verdict:
    counts = report.counts
    figures = {
        "n": format_number(total),
        "stored": format_number(counts.stored),
        "held": format_number(counts.already_held),
    }
    if report.request.kind is RunKind.VERIFY:
        headline = ngettext("%(n)s copy is verified.", "All %(n)s copies are verified.", total)
        return Verdict(
            Tone.GOOD,
            headline % figures,
            _("Every copy was looked for, and found as it should be."),
        )
    if report.request.kind is RunKind.RESTORE:
        headline = ngettext(
            "%(n)s instance is restored and verified.",
            "All %(n)s instances are restored and verified.",
            total,
        )
    else:
        headline = ngettext(
            "%(n)s copy is backed up and verified.",
            "All %(n)s copies are backed up and verified.",
            total,
        )
    if counts.selected == 0:
        detail = _("Nothing was due: every copy was held already at the level asked for.")
    else:
        detail = _("%(stored)s reached the level in this run; %(held)s were held already.")
    return Verdict(Tone.GOOD, headline % figures, detail % figures)


def is_undone(failure: Failure) -> bool:
    """Say whether nothing went wrong with it: the run ended first, and the next one does it."""
    return failure.code in _UNDONE


def undone(part: DestinationReport, failures: Iterable[Failure]) -> int:
    """Count what a run that ended early (cancelled, say) left for the next at a destination."""
    return sum(is_undone(failure) and failure.destination == part.name for failure in failures)


def outcomes(part: DestinationReport, report: RunReport) -> list[Outcome]:
    """Split a destination's instances by what became of them; empty parts are left out."""
    counts, kind = part.counts, report.request.kind
    left = undone(part, report.failures)
    claim = part.level <= Level.SENT
    stored = _("verified in this run") if kind is RunKind.VERIFY else _("stored and verified")
    settled = counts.stored + counts.failed + counts.unreadable + counts.conflicts
    parts = [
        Outcome("claimed", _("sent, not verified"), counts.stored)
        if claim
        else Outcome("stored", stored, counts.stored),
        Outcome("claimed", _("sent earlier, not verified"), counts.already_held)
        if claim
        else Outcome("held", _("held already"), counts.already_held),
        Outcome("failed", _("failed"), counts.failed - left),
        Outcome("unreadable", _("unreadable at the source"), counts.unreadable),
        Outcome("conflict", _("in conflict"), counts.conflicts),
        Outcome("open", _("not done"), left + max(counts.selected - settled, 0)),
    ]
    return [outcome for outcome in parts if outcome.count]


def hidden_files_note(failures: Iterable[Failure], run_id: str) -> str:
    """Say how to see file names, where tokens stand for them; empty where none does."""
    if any(f.locator.startswith(STAND_IN) and not is_undone(f) for f in failures):
        return _(
            "File names may contain patient names, so a token stands for each; they are shown by: "
            "dcmvault report %(run)s --privacy full"
        ) % {"run": run_id}
    return ""


def level_meaning(level: Level) -> str:
    """Say what a level is worth."""
    meanings: Mapping[Level, str] = {
        Level.NONE: _("Nothing supports this copy."),
        Level.SENT: _("The destination said that it took the copy. A claim, not evidence."),
        Level.PRESENT: _(
            "The destination lists at least as many instances of the study as there are (a PACS), "
            "or every file is there with its size (a folder)."
        ),
        Level.COMPLETE: _(
            "The destination lists every single instance by its UID (a PACS), or every file is "
            "there with its size (a folder). Its content was not looked at."
        ),
        Level.COMMITTED: _(
            "The destination took responsibility for every instance. It did not prove its content."
        ),
        Level.PROVEN: _("Every copy was read back, and its content is identical."),
    }
    return meanings[level]


def stage_label(stage: str) -> str:
    """Name a stage of the flow."""
    labels: Mapping[str, str] = {
        "scan": _("scan the source"),
        "plan": _("plan"),
        "read": _("read"),
        "encode": _("encode"),
        "deliver": _("deliver"),
        "verify": _("verify"),
        "snapshot": _("take the snapshot"),
        "write": _("write to the store"),
        "send": _("send"),
        "wait": _("wait for answers"),
        "paced": _("held back by the bandwidth"),
    }
    return labels.get(stage, stage)


def state_label(state: RunState) -> str:
    """Name a run's state."""
    labels: Mapping[RunState, str] = {
        RunState.PENDING: _("waiting"),
        RunState.PLANNING: _("planning"),
        RunState.RUNNING: _("running"),
        RunState.FINISHED: _("finished"),
        RunState.FAILED: _("ended by an error"),
        RunState.CANCELLED: _("cancelled"),
    }
    return labels[state]


def _login_titles() -> Mapping[str, str]:
    return {
        "login": _("Somebody could not log in"),
        "login_wait": _("Too many logins failed"),
        "login_service": _("The identity provider could not be asked"),
    }


def cause_title(code: str) -> str:
    """Say what kind of failure a code is; a code that is not known speaks for itself."""
    titles: Mapping[str, str] = {
        "unreadable": _("The file cannot be read"),
        "vanished": _("The file was gone when it was to be read"),
        "lost_at_source": _("It left the source before every destination held it"),
        "changed_while_reading": _("The file changed while it was read"),
        "misnamed": _("The source's index named another instance than the file holds"),
        "malformed_dicom": _("The file is not valid DICOM"),
        "not_dicom": _("A PACS cannot take a file that is not valid DICOM"),
        "unreachable": _("The destination could not be reached"),
        "tls_refused": _("No connection to the destination that can be trusted (TLS)"),
        "association_deferred": _("The destination serves as many associations as it can"),
        "association_rejected": _("The destination rejected the association"),
        "association_lost": _("The association was lost"),
        "quarantined": _("The association was lost twice over this instance"),
        "destination_stopped": _("The destination cannot be used"),
        "refused": _("The destination refused the instance"),
        "refused_for_now": _("The destination refused the instance for now, each time"),
        "duplicate": _("The destination kept what it had under this UID"),
        "cannot_be_sent": _("The instance cannot be sent as it is"),
        "retrieval_not_offered": _("The destination does not send back what it holds"),
        "missing": _("Not there when it was looked for"),
        "damaged": _("The copy is damaged"),
        "unknown": _("The destination gave no answer about it"),
        "cannot_verify": _("It could not be verified"),
        "conflict": _("Two contents under one UID: a PACS keeps one"),
        "never_sent": _("It was never sent there"),
        "cancelled": _("Left undone: it was cancelled"),
        "unfinished": _("Left undone: the run ended first"),
        "failed": _("It did not reach its level"),
        "source": _("The source could not give it"),
        "source_unavailable": _("The source cannot be read"),
        "source_empty": _("The source shows nothing"),
        "source_held": _("Much of the source changed or is gone at once"),
        "source_index": _("The source's index cannot be used"),
        "destination": _("The destination could not do it"),
        "object_exists": _("Other bytes stand under its name at the destination"),
        "library_incomplete": _("Something of the library did not come back"),
        "object_locked": _("The store keeps it until a date"),
        "object_missing": _("Not there when it was looked for"),
        **_login_titles(),
        "level_not_supported": _("The destination cannot give this evidence"),
        "vault_missing": _("There is no vault there"),
        "destination_absent": _("The folder is not there"),
        "vault_locked": _("No key opens the vault"),
        "vault_format": _("It is no vault that this version can use"),
        "vault_damaged": _("A part of the vault is missing or damaged"),
        "vault_set_back": _("The vault lost snapshots that it had"),
        "vault_busy": _("Another process holds the vault"),
        "study_held": _("The study is under legal hold"),
        "query_too_broad": _("The query was too broad"),
        "collector_unreachable": _("The collector of audit messages is away"),
        "prune_refused": _("The prune would have dropped too much"),
        "manifest_damaged": _("A manifest is not as it was written"),
        **_titles_of_what_is_beside(),
        "internal": _("A defect of dcmvault"),
    }
    return titles.get(code, code)


def _titles_of_what_is_beside() -> Mapping[str, str]:
    """Return the titles of codes of what is not part of a copy's way."""
    return {
        "configuration_changed": _("The configuration was changed meanwhile"),
        "hook_failed": _("A command of the configuration failed"),
        "notification": _("Somebody could not be told"),
        "notification_unreachable": _("Nobody took the message"),
        "notification_refused": _("The message was refused"),
        "notification_partly_taken": _("Some recipients were refused"),
        "plugin": _("A plug-in cannot be used"),
    }


def next_step(code: str) -> str:
    """Say what to do about a failure that brought no hint of its own."""
    again = _("Run the same backup again: it sends only what is missing.")
    steps: Mapping[str, str] = {
        "unreadable": _("Check the file and the disk it is on, then run the same backup again."),
        "vanished": _("If it was not deleted on purpose, look for it at the source."),
        "lost_at_source": _("Is the volume of the spool mounted? Otherwise send it again."),
        "changed_while_reading": again,
        "misnamed": _("Run the same backup again: it delivers what the file holds."),
        "unreachable": _("Check with `dcmvault node echo`, then run the same backup again."),
        "tls_refused": _("Check certificates and TLS with `dcmvault node echo`."),
        "association_deferred": again,
        "association_rejected": _("Check the AE titles with `dcmvault node echo`."),
        "association_lost": again,
        "refused_for_now": again,
        "refused": _("Ask who runs the destination, and show them the status."),
        "missing": again,
        "damaged": again,
        "unknown": _("Verify again when the destination is less busy."),
        "cannot_verify": _("Verify again when the destination is less busy."),
        "conflict": _("A folder destination keeps both; find out which one is right."),
        "never_sent": _("Back up to this destination first."),
        "vault_missing": _(
            "Check that its disk is mounted; make a vault with `dcmvault vault init`."
        ),
        "vault_locked": _("Give the passphrase, key file or recovery key of this vault."),
        "vault_damaged": _("Find the damage with `dcmvault vault check`, mend it with `repair`."),
        "vault_busy": again,
        "cancelled": again,
        "unfinished": again,
    }
    return steps.get(code, "")


def reason_word(reason: str) -> str:
    """Say why an instance is due; an unknown reason stays as it is."""
    words = {
        "new": _("new"),
        "changed": _("changed"),
        "not_held": _("not held yet"),
        "damaged": _("found damaged"),
        "level": _("held, but not at this level"),
        "full": _("held; verified again (full)"),
        "differential": _("new since the last full run"),
    }
    return words.get(reason, reason)
