"""A report's rows put together as a reader looks for them: failures by cause, studies by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import COERCED, Level
from dcmvault.model.report import DestinationReport, Failure, RunReport, StudyReport
from dcmvault.reports.wording import as_sentence, cause_title, is_undone, next_step

#: Codes of instances that were sent in another transfer syntax, or in which the destination wrote
#: attributes itself: information, each as the other.
_COUNTED = frozenset({"transcoded", COERCED})


@dataclass(slots=True)
class FailureGroup:
    """Failures of one cause at one destination, and the one thing to do about them."""

    destination: str
    code: str
    status: str
    title: str
    next_step: str
    failures: list[Failure] = field(default_factory=list)

    @property
    def undone(self) -> bool:
        """Whether nothing went wrong: then there is nothing to say of each of them."""
        return is_undone(self.failures[0])

    @property
    def messages(self) -> list[str]:
        """The different messages, in order of appearance."""
        return list(dict.fromkeys(failure.message for failure in self.failures if failure.message))


def by_cause(failures: Sequence[Failure]) -> list[FailureGroup]:
    """Group failures by destination, code, status and hint; the largest group first."""
    groups: dict[tuple[str, str, str, str], FailureGroup] = {}
    for failure in failures:
        key = (failure.destination, failure.code, failure.status, failure.hint)
        if is_undone(failure):
            key = (failure.destination, failure.code, "", "")
        if key not in groups:
            hint = key[3] or next_step(failure.code)
            title = cause_title(failure.code)
            groups[key] = FailureGroup(*key[:3], title, hint)
        groups[key].failures.append(failure)
    return sorted(groups.values(), key=lambda group: -len(group.failures))


@dataclass(slots=True)
class StudyRow:
    """One study and what is known of it at each destination."""

    study_instance_uid: str
    study_date: str
    modalities: str
    patient: str
    description: str
    at: dict[str, StudyReport] = field(default_factory=dict)

    def is_whole(self, destinations: Sequence[str]) -> bool:
        """Whether every destination has evidence of every instance."""
        return all(
            (there := self.at.get(name)) is not None
            and there.held >= there.instances
            and there.level > Level.SENT
            for name in destinations
        )


def by_study(reports: Sequence[StudyReport], destinations: Sequence[str]) -> list[StudyRow]:
    """Put a study's destinations in one row: first what is not whole, then the newest."""
    rows: dict[str, StudyRow] = {}
    for report in reports:
        row = rows.setdefault(report.study_instance_uid, _row(report))
        row.at[report.destination] = report
    newest = sorted(rows.values(), key=lambda row: row.study_date, reverse=True)
    return sorted(newest, key=lambda row: row.is_whole(destinations))


def _row(report: StudyReport) -> StudyRow:
    return StudyRow(
        study_instance_uid=report.study_instance_uid,
        study_date=readable_date(report.study_date),
        modalities=report.modalities.replace("\\", " "),
        patient=" · ".join(part for part in (report.patient_name, report.patient_id) if part),
        description=report.study_description,
    )


def level_label(study: StudyReport) -> str:
    """Return the level's word, or say that something of the study is not there."""
    if study.held < study.instances:
        return _("incomplete")
    if study.level is Level.PROVEN and study.coercions:
        return _("proven, with coercions")
    return study.level.word


def coercion_sentences(study: StudyReport) -> list[str]:
    """List what the destination wrote itself in copies of a study, old and new."""
    return [
        ngettext(
            "%(attribute)s written by the destination in %(count)s instance: %(old)s → %(new)s",
            "%(attribute)s written by the destination in %(count)s instances: %(old)s → %(new)s",
            one.instances,
        )
        % {
            "attribute": one.attribute,
            "count": format_number(one.instances),
            "old": _("(none)") if one.old is None else one.old,
            "new": _("(none)") if one.new is None else one.new,
        }
        for one in study.coercions
    ]


def unlisted_coercions(study: StudyReport, shown: int) -> Iterator[str]:
    """Say how many more coercions there are than the first `shown`: here, and in the proof."""
    if (more := len(study.coercions) - shown) > 0:
        text = ngettext(
            "... and %(n)s more: see the CSV or JSON report.",
            "... and %(n)s more: see the CSV or JSON report.",
            more,
        )
        yield text % {"n": format_number(more)}
    if more := study.coercions_left_out:
        text = ngettext(
            "... and %(n)s more that the destination wrote, which the proof does not list.",
            "... and %(n)s more that the destination wrote, which the proof does not list.",
            more,
        )
        yield text % {"n": format_number(more)}


def readable_date(date: str) -> str:
    """Write a DA value (PS3.5 section 6.2: YYYYMMDD) as YYYY-MM-DD; leave anything else."""
    if len(date) == 8 and date.isascii() and date.isdecimal():
        return f"{date[:4]}-{date[4:6]}-{date[6:]}"
    return date


def warning_sentences(report: RunReport) -> list[str]:
    """List what is worth a word: about the run, then about instances that are held all the same."""
    return [
        *(_no_snapshot(part) for part in report.destinations if part.snapshot_failure),
        *report.warnings,
        *_counted_sentences(report.warned),
        *(_warned_sentence(warned) for warned in report.warned if warned.code not in _COUNTED),
    ]


def _counted_sentences(warned: Sequence[Failure]) -> list[str]:
    """Say of how many instances the same can be said: it may be all of them."""
    counts = Counter((one.destination, one.message) for one in warned if one.code in _COUNTED)
    return [
        ngettext(
            "%(count)s instance for %(name)s: %(what)s",
            "%(count)s instances for %(name)s: %(what)s",
            count,
        )
        % {"count": format_number(count), "name": name, "what": message}
        for (name, message), count in counts.items()
    ]


def _no_snapshot(part: DestinationReport) -> str:
    _code, message, hint = part.snapshot_failure or ("", "", "")
    why = " ".join(as_sentence(text) for text in (message, hint) if text)
    words = {"name": part.name, "why": why}
    if part.is_set_back:
        return _("%(name)s took no snapshot. %(why)s") % words
    return _("%(name)s took no snapshot; the copies are there. %(why)s") % words


def _warned_sentence(warned: Failure) -> str:
    name = " ".join(part for part in (warned.sop_instance_uid, warned.locator) if part)
    return f"{name}: {warned.message}"
