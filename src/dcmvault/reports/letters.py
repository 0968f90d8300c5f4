"""What a notice says to people: one headline, a few figures, and one thing to do next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dcmvault.i18n import format_bytes, format_duration, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.alert import AlertCode, Subject, SubjectKind
from dcmvault.model.notice import Event, Notice, Severity
from dcmvault.reports.alert_words import alert_remedy, alert_title, subject_words
from dcmvault.reports.times import utc
from dcmvault.reports.wording import Tone, as_sentence, cause_title, next_step

#: Causes that a letter names; the report has them all.
_MOST_CAUSES = 5


@dataclass(frozen=True, slots=True)
class Letter:
    """The words of one notice, in the language in use."""

    tone: Tone
    subject: str
    headline: str
    detail: str
    #: The one thing to do; a letter where nothing is to be done says so.
    next_step: str
    #: A command that goes with it; empty for none.
    command: str = ""
    #: Big numbers: value and what it counts.
    figures: tuple[tuple[str, str], ...] = ()
    #: Facts in rows: what, and how it stands.
    rows: tuple[tuple[str, str], ...] = ()
    #: Sentences in a list, with a title.
    points_title: str = ""
    points: tuple[str, ...] = ()


def letter_of(notice: Notice) -> Letter:
    """Write what a notice says."""
    writers: Mapping[Event, Callable[[Notice], Letter]] = {
        Event.RUN_STARTED: _run_started,
        Event.RUN_OK: _run_ended,
        Event.RUN_INCOMPLETE: _run_ended,
        Event.RUN_FAILED: _run_ended,
        Event.ALERT: _alert,
        Event.ALERT_CLEARED: _alert,
        Event.OVERDUE: _overdue,
        Event.OVERDUE_CLEARED: _overdue,
        Event.DIGEST: _digest,
        Event.WEEKLY: _digest,
        Event.TEST: _test,
    }
    return writers[notice.event](notice)


def _name_of(notice: Notice) -> str:
    return notice.plan or str(notice.facts.get("source", "dcmvault"))


def _nothing_to_do() -> str:
    return _("Nothing. This is for you to know.")


def _test(notice: Notice) -> Letter:
    return Letter(
        Tone.GOOD,
        _("dcmvault: a test message"),
        _("This channel works."),
        _("Somebody ran `dcmvault notify test`. What happens from now on is told here."),
        _nothing_to_do(),
        rows=((_("Channel"), str(notice.facts.get("channel", ""))), (_("Sent"), utc(notice.at))),
    )


def _run_started(notice: Notice) -> Letter:
    name = _name_of(notice)
    return Letter(
        Tone.OPEN,
        _("%(name)s: the run began") % {"name": name},
        _("The run began."),
        _("Another message tells how it ended."),
        _nothing_to_do(),
        rows=_run_rows(notice),
    )


def _run_ended(notice: Notice) -> Letter:
    tone, headline, detail = _verdict(notice)
    causes = _dicts(notice.facts.get("causes"))
    step, command = _run_step(notice, causes)
    return Letter(
        tone,
        f"{_name_of(notice)}: {headline.removesuffix('.')}",
        headline,
        detail,
        step,
        command,
        figures=_run_figures(notice),
        rows=_run_rows(notice),
        points_title=_("What did not reach its level") if causes else "",
        points=tuple(map(_cause_sentence, causes[:_MOST_CAUSES])),
    )


def _verdict(notice: Notice) -> tuple[Tone, str, str]:
    facts = notice.facts
    counts = _counts(facts)
    copies = counts["stored"] + counts["already_held"]
    if notice.event is Event.RUN_FAILED:
        if facts.get("state") == "cancelled":
            return Tone.OPEN, _("The run was cancelled."), _("What was finished before is kept.")
        detail = as_sentence(cause_title(str(facts.get("error") or "failed")))
        return Tone.BAD, _("The run ended by an error."), detail
    if notice.event is Event.RUN_INCOMPLETE:
        short = counts["failed"] + counts["unreadable"] + counts["conflicts"]
        if not short:
            return (
                Tone.BAD,
                _("The run finished, but not as it should."),
                _("The copies are there; its report says what is missing."),
            )
        headline = ngettext(
            "%(n)s of %(total)s copy did not reach its level.",
            "%(n)s of %(total)s copies did not reach their level.",
            copies + short,
        )
        words = {"n": format_number(short), "total": format_number(copies + short)}
        detail = _("What is missing is due in the next run; the rest is held.")
        return Tone.BAD, headline % words, detail
    if facts.get("level") == "sent":
        headline = ngettext(
            "%(n)s copy was sent, and nothing was verified.",
            "%(n)s copies were sent, and nothing was verified.",
            copies,
        )
        claim = _("The destination says that it took them. That is a claim, not evidence.")
        return Tone.CLAIM, headline % {"n": format_number(copies)}, claim
    if not copies:
        return Tone.OPEN, _("There was nothing to do."), _("The run found nothing that was due.")
    headline = ngettext("%(n)s copy is verified.", "All %(n)s copies are verified.", copies)
    detail = ngettext(
        "%(n)s of them reached its level in this run.",
        "%(n)s of them reached their level in this run.",
        counts["stored"],
    ) % {"n": format_number(counts["stored"])}
    return Tone.GOOD, headline % {"n": format_number(copies)}, detail


def _run_step(notice: Notice, causes: list[Mapping[str, Any]]) -> tuple[str, str]:
    report = f"dcmvault report {notice.run_id}"
    if notice.event is Event.RUN_OK:
        return _nothing_to_do(), ""
    if notice.event is Event.RUN_FAILED and notice.facts.get("state") != "cancelled":
        step = next_step(str(notice.facts.get("error") or ""))
        return step or _("Read what the report of the run says about it."), report
    if causes:
        step = next_step(str(causes[0]["code"]))
        return step or _("Read what the report of the run says about it."), report
    if notice.facts.get("state") == "cancelled":
        return _("Run it again when you want it to go on: it does the rest."), ""
    return _("Read what the report of the run says about it."), report


def _cause_sentence(cause: Mapping[str, Any]) -> str:
    count = int(cause["instances"])
    text = ngettext(
        "%(n)s instance for %(name)s: %(cause)s",
        "%(n)s instances for %(name)s: %(cause)s",
        count,
    )
    return text % {
        "n": format_number(count),
        "name": cause["destination"],
        "cause": cause_title(str(cause["code"])),
    }


def _run_figures(notice: Notice) -> tuple[tuple[str, str], ...]:
    facts, counts = notice.facts, _counts(notice.facts)
    seconds = facts.get("duration_s")
    figures = [
        (counts["stored"], _("reached the level")),
        (counts["already_held"], _("held already")),
        (counts["failed"] + counts["unreadable"] + counts["conflicts"], _("did not")),
    ]
    return (
        *((format_number(value), label) for value, label in figures),
        (
            format_duration(float(seconds)) if isinstance(seconds, int | float) else "–",
            _("duration"),
        ),
    )


def _run_rows(notice: Notice) -> tuple[tuple[str, str], ...]:
    facts = notice.facts
    rows = [(_("Plan"), notice.plan)] if notice.plan else []
    rows.append((_("Source"), str(facts.get("source", ""))))
    for part in _dicts(facts.get("destinations")):
        counts = _counts(part)
        words = _("%(held)s of %(total)s held, level “%(level)s”") % {
            "held": format_number(counts["stored"] + counts["already_held"]),
            "total": format_number(counts["selected"] + counts["already_held"]),
            "level": part.get("level", ""),
        }
        rows.append((str(part["name"]), words))
    if moved := facts.get("transferred_bytes"):
        rows.append((_("Transferred"), format_bytes(int(str(moved)))))
    rows.append((_("Run"), notice.run_id))
    return tuple(rows)


def _alert(notice: Notice) -> Letter:
    facts = notice.facts
    code = AlertCode(str(facts["code"]))
    title, subject = alert_title(code), _subject_words(facts)
    figures = facts.get("figures")
    rows = [(_("About"), subject), (_("Since"), _when(facts.get("since"), notice.at))]
    if isinstance(figures, Mapping):
        rows += [(str(name), _figure(value)) for name, value in figures.items() if name != "reason"]
    if notice.event is Event.ALERT_CLEARED:
        return Letter(
            Tone.GOOD,
            _("Over: %(title)s (%(subject)s)") % {"title": title, "subject": subject},
            _("This is over: %s") % as_sentence(title),
            _why_over(figures) or _("It went away by %s.") % utc(notice.at),
            _nothing_to_do(),
            rows=tuple(rows),
        )
    return Letter(
        Tone.BAD if notice.severity is Severity.CRITICAL else Tone.CLAIM,
        f"{title} ({subject})",
        as_sentence(title),
        _("Another message comes when it is over."),
        alert_remedy(code),
        rows=tuple(row for row in rows if row[1]),
    )


def _why_over(figures: object) -> str:
    """Say why an alert is over that did not end by getting better; empty for one that did."""
    if isinstance(figures, Mapping) and figures.get("reason") == "not_configured":
        return _("It is not configured any more, so nobody looks whether it is well.")
    return ""


def _subject_words(facts: Mapping[str, object]) -> str:
    kind = SubjectKind(str(facts["subject_kind"]))
    return subject_words(Subject(kind, str(facts.get("subject", ""))))


def _overdue(notice: Notice) -> Letter:
    facts = notice.facts
    last = facts.get("last_success")
    rows = (
        (_("Plan"), notice.plan),
        (_("Last success"), _when(last, None) or _("never")),
        (_("Expected by"), _when(facts.get("expected_by"), None)),
    )
    if notice.event is Event.OVERDUE_CLEARED:
        return Letter(
            Tone.GOOD,
            _("%(name)s: backed up again") % {"name": notice.plan},
            _("The plan is on time again."),
            _("Its last run reached everything."),
            _nothing_to_do(),
            rows=rows,
        )
    return Letter(
        Tone.BAD,
        _("%(name)s: the backup is overdue") % {"name": notice.plan},
        _("The backup is overdue."),
        _("The plan should have succeeded by now, and has not: newer studies may have no copy."),
        _("Run it now, and look at what it says."),
        f"dcmvault run {notice.plan}",
        rows=rows,
    )


def _digest(notice: Notice) -> Letter:
    facts = notice.facts
    weekly = notice.event is Event.WEEKLY
    concerns = _concerns(facts)
    studies, protected = _number(facts, "studies"), _number(facts, "studies_protected")
    if concerns:
        count = ngettext("%s thing needs you", "%s things need you", len(concerns))
        headline = f"{count % format_number(len(concerns))}."
        tone, detail = Tone.BAD, _("Each is named below.")
    elif not studies:
        tone, headline = Tone.OPEN, _("Nothing is backed up yet.")
        detail = _("No source was looked at so far.")
    else:
        tone, headline = Tone.GOOD, _("All is well.")
        detail = ngettext(
            "%(n)s study has a verified copy.",
            "All %(n)s studies have a verified copy.",
            studies,
        ) % {"n": format_number(studies)}
    title = _("dcmvault this week") if weekly else _("dcmvault today")
    runs = facts.get("runs")
    counts = runs if isinstance(runs, Mapping) else {}
    oldest = facts.get("oldest_unprotected")
    debt = _number(facts, "debt_studies")
    rows = [
        (
            _("Runs"),
            _("%(ok)s well, %(incomplete)s incomplete, %(failed)s failed")
            % {name: format_number(int(counts.get(name, 0))) for name in _RUN_ENDS},
        ),
        (_("Stored and verified"), format_number(_number(facts, "stored"))),
        (
            _("Verification debt"),
            ngettext("%s study", "%s studies", debt) % format_number(debt) if debt else _("none"),
        ),
        (_("Oldest unprotected study"), _when(oldest, None) or _("none")),
        (_("Last proven restore"), _when(facts.get("last_drill"), None) or _("never")),
    ]
    return Letter(
        tone,
        f"{title}: {headline.removesuffix('.')}",
        headline,
        detail,
        *_digest_step(facts, concerns),
        figures=(
            (format_number(protected), _("studies protected")),
            (format_number(studies - protected), _("not protected")),
            (format_number(debt), _("to be verified")),
        ),
        rows=tuple(rows),
        points_title=_("What needs you") if concerns else "",
        points=tuple(concerns),
    )


_RUN_ENDS = ("ok", "incomplete", "failed")


def _concerns(facts: Mapping[str, object]) -> list[str]:
    """List what is not well, the worst first."""
    concerns = [_("The plan %s is overdue.") % name for name in _texts(facts.get("overdue"))]
    for one in _dicts(facts.get("alerts")):
        title = alert_title(AlertCode(str(one["code"])))
        concerns.append(as_sentence(f"{title} ({_subject_words(one)})"))
    if missing := _number(facts, "studies") - _number(facts, "studies_protected"):
        text = ngettext(
            "%s study has no verified copy.", "%s studies have no verified copy.", missing
        )
        concerns.append(text % format_number(missing))
    for name in _texts(facts.get("silent_channels")):
        concerns.append(_("Messages by the channel %s were given up.") % name)
    return concerns


def _digest_step(facts: Mapping[str, object], concerns: list[str]) -> tuple[str, str]:
    overdue = _texts(facts.get("overdue"))
    if overdue:
        return _(
            "Run the overdue plan now, and look at what it says."
        ), f"dcmvault run {overdue[0]}"
    if concerns:
        return _(
            "Look at what is protected where, and mend the first that is not."
        ), "dcmvault status"
    if not facts.get("last_drill") and _number(facts, "studies"):
        return (
            _("Prove that you can get studies back: restore a few to scratch."),
            "dcmvault restore FROM --drill 3",
        )
    return _nothing_to_do(), ""


def _counts(facts: Mapping[str, object]) -> dict[str, int]:
    counts = facts.get("instances")
    found = counts if isinstance(counts, Mapping) else {}
    names = ("selected", "already_held", "stored", "failed", "unreadable", "conflicts")
    return {name: int(found.get(name, 0)) for name in names}


def _number(facts: Mapping[str, object], name: str) -> int:
    value = facts.get(name, 0)
    return value if isinstance(value, int) else 0


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _figure(value: object) -> str:
    if isinstance(value, float):
        return format_number(value, 1)
    return format_number(value) if isinstance(value, int) else str(value)


def _when(value: object, otherwise: datetime | None) -> str:
    """Write a moment of the facts (ISO 8601); empty for none."""
    if isinstance(value, str) and value:
        return utc(datetime.fromisoformat(value))
    return "" if otherwise is None else utc(otherwise)
