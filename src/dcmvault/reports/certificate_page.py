"""What a migration certificate says, in words and figures, whatever it is rendered as."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dcmvault.i18n import format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.certificate import Certificate, Sample, SampledStudy, SideReport
from dcmvault.model.comparison import Basis, Depth, Verdict
from dcmvault.reports.bars import Bar, bar
from dcmvault.reports.comparison_words import how_it_differs, verdict_word
from dcmvault.reports.times import utc

_MOST_NAMES = 200
_MOST_ATTRIBUTES = 20


@dataclass(frozen=True, slots=True)
class MonthRow:
    """Studies and instances of one month and modality at both sides."""

    month: str
    modalities: str
    studies_a: str
    studies_b: str
    instances_a: str
    instances_b: str
    studies_agree: bool
    instances_agree: bool

    @property
    def agrees(self) -> bool:
        """Whether both sides have as much."""
        return self.studies_agree and self.instances_agree


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One study that was read back."""

    study_instance_uid: str
    instances: str
    result: str
    is_proven: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExceptionRow:
    """One study that is not the same."""

    study_instance_uid: str
    verdict: str
    how: str


@dataclass(frozen=True, slots=True)
class CertificatePage:
    """Everything that is shown. `tone` is good, claim or bad."""

    title: str
    tone: str
    headline: str
    detail: str
    figures: tuple[tuple[str, str], ...]
    bar: Bar
    facts: tuple[tuple[str, str], ...]
    sides: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    months: tuple[MonthRow, ...]
    sample_method: str
    sample: tuple[SampleRow, ...]
    exceptions: tuple[ExceptionRow, ...]
    exceptions_left_out: str
    not_found: tuple[str, ...]
    not_found_left_out: str
    explanations: tuple[str, ...]


def certificate_page(certificate: Certificate, json_digest: str = "") -> CertificatePage:
    """Put the page together in the language in use.

    `json_digest` is the SHA-256 of the same certificate as JSON, which has every study.
    """
    tone = _tone(certificate)
    not_found = certificate.listed.not_found if certificate.listed else ()
    return CertificatePage(
        title=_("Migration certificate"),
        tone=tone,
        headline=_headline(certificate, tone),
        detail=_detail(certificate),
        figures=tuple(_figures(certificate)),
        bar=_bar(certificate),
        facts=tuple(_facts(certificate, json_digest)),
        sides=(
            (_("A, the original"), tuple(_side(certificate.a))),
            (_("B, the copy"), tuple(_side(certificate.b))),
        ),
        months=tuple(_months(certificate)),
        sample_method=_sample_method(certificate.sample),
        sample=tuple(map(_sampled, certificate.sample.studies if certificate.sample else ())),
        exceptions=tuple(
            ExceptionRow(one.study_instance_uid, verdict_word(one.verdict), how_it_differs(one))
            for one in certificate.exceptions
        ),
        exceptions_left_out=_left_out(certificate.exceptions_in_all - len(certificate.exceptions)),
        not_found=not_found[:_MOST_NAMES],
        not_found_left_out=_left_out(len(not_found) - _MOST_NAMES),
        explanations=tuple(_explanations(certificate)),
    )


def words() -> dict[str, str]:
    """Return the fixed words."""
    return {
        "exceptions": _("What is not the same"),
        "study": _("Study"),
        "verdict": _("Verdict"),
        "how": _("How"),
        "months": _("Studies and instances by month and modality"),
        "month": _("Month"),
        "modality": _("Modality"),
        "studies_a": _("Studies in A"),
        "studies_b": _("Studies in B"),
        "instances_a": _("Instances in A"),
        "instances_b": _("Instances in B"),
        "sample": _("Read back and compared"),
        "instances": _("Instances"),
        "result": _("Result"),
        "not_found": _("Names of the list that are found in neither"),
        "sides": _("The two places"),
        "facts": _("The comparison"),
        "how_to_read": _("How to read this"),
        "footer": _("Made by dcmvault. Times are UTC."),
        "unknown": _("not known"),
    }


def _tone(certificate: Certificate) -> str:
    if not certificate.is_complete:
        return "bad"
    # What A may have besides, nobody looked for.
    original = certificate.a
    is_claim = certificate.tally.same_by[Basis.COUNT] or original.remarks or original.not_instances
    return "claim" if is_claim else "good"


def _headline(certificate: Certificate, tone: str) -> str:
    if not certificate.tally.total.studies_a:
        return _("A has no study that was to be compared")
    if tone == "bad":
        return _("Not everything of A is certainly in B")
    if certificate.tally.same_by[Basis.COUNT]:
        return _("B has as much as A, by count")
    if certificate.a.not_instances and not certificate.a.remarks:
        return _("Every instance of A is in B; what is no DICOM instance was not compared")
    if tone == "claim":
        return _("Everything that A told of is in B; A may have more")
    return _("Everything of A is in B")


def _detail(certificate: Certificate) -> str:
    tally = certificate.tally
    counts = {
        Basis.COUNT: _("%s by count alone, which is no proof"),
        Basis.INSTANCES: _("%s by the UID of every instance"),
        Basis.CONTENT: _("%s by the SHA-256 of every file"),
    }
    parts = [
        text % format_number(tally.same_by[basis])
        for basis, text in counts.items()
        if tally.same_by[basis]
    ]
    studies = tally.total.studies_a
    text = ngettext("%s study in A", "%s studies in A", studies) % format_number(studies)
    if parts:
        text += ". " + _("The same: %s") % "; ".join(parts)
    if tally.not_whole_in_b:
        lacking = ngettext(
            "%s study is not certainly whole in B",
            "%s studies are not certainly whole in B",
            tally.not_whole_in_b,
        )
        text += ". " + lacking % format_number(tally.not_whole_in_b)
    return f"{text}."


def _figures(certificate: Certificate) -> Iterator[tuple[str, str]]:
    total = certificate.tally.total
    yield format_number(total.studies_a), _("studies in A")
    yield format_number(total.studies_b), _("studies in B")
    yield format_number(total.instances_a), _("instances in A")
    yield format_number(total.instances_b), _("instances in B")
    yield format_number(certificate.tally.not_whole_in_b), _("not certainly whole in B")
    sample = certificate.sample
    yield (
        f"{format_number(sample.proven)} / {format_number(len(sample.studies))}" if sample else "–",
        _("read back and proven"),
    )


def _bar(certificate: Certificate) -> Bar:
    tally = certificate.tally
    by_count = tally.same_by[Basis.COUNT]
    parts = [
        ("stored", _("the same"), tally.verdicts[Verdict.SAME] - by_count),
        ("claimed", _("the same by count"), by_count),
        ("failed", verdict_word(Verdict.ONLY_A), tally.verdicts[Verdict.ONLY_A]),
        ("conflict", verdict_word(Verdict.DIFFERENT), tally.verdicts[Verdict.DIFFERENT]),
        ("unreadable", verdict_word(Verdict.UNKNOWN), tally.verdicts[Verdict.UNKNOWN]),
        ("open", verdict_word(Verdict.ONLY_B), tally.verdicts[Verdict.ONLY_B]),
    ]
    return bar([(kind, label, float(count), format_number(count)) for kind, label, count in parts])


def _facts(certificate: Certificate, json_digest: str) -> Iterator[tuple[str, str]]:
    yield _("Question"), certificate.question
    yield _("Depth"), _depth_words(certificate.depth)
    yield _("Began"), utc(certificate.began_at)
    yield _("Ended"), utc(certificate.ended_at)
    yield _("Asked by"), f"{certificate.operator} @ {certificate.machine}"
    yield _("Versions"), ", ".join(f"{name} {it}" for name, it in certificate.versions.items())
    if certificate.listed is not None:
        yield (
            _("List of studies"),
            _("%(names)s names, SHA-256 %(digest)s")
            % {
                "names": format_number(certificate.listed.names),
                "digest": certificate.listed.sha256,
            },
        )
    for one in certificate.delivered:
        text = ngettext(
            "%(run)s: %(studies)s study, exit status %(status)s",
            "%(run)s: %(studies)s studies, exit status %(status)s",
            one.studies,
        )
        yield (
            _("Delivered before the last look"),
            text
            % {
                "run": one.run,
                "studies": format_number(one.studies),
                "status": one.exit_status,
            },
        )
    if json_digest:
        yield _("Every study (JSON), SHA-256"), json_digest


def _depth_words(depth: Depth) -> str:
    return {
        Depth.STUDY: _("studies: counts, and instances where counts differ"),
        Depth.SERIES: _("series: the instances of every study"),
        Depth.INSTANCE: _("instances: those of every study, by UID"),
    }[depth]


def _side(side: SideReport) -> Iterator[tuple[str, str]]:
    yield _("Address"), side.address
    yield _("SHA-256 of its list of studies"), side.digest
    if side.unreadable:
        yield _("Could not be read"), format_number(side.unreadable)
    if side.not_instances:
        yield _("Not DICOM instances"), format_number(side.not_instances)
    for remark in side.remarks:
        yield _("Remark"), sentence(remark)


def _months(certificate: Certificate) -> Iterator[MonthRow]:
    for (month, modalities), counts in sorted(certificate.tally.by_month.items()):
        yield MonthRow(
            month or "–",
            modalities or "–",
            format_number(counts.studies_a),
            format_number(counts.studies_b),
            format_number(counts.instances_a),
            format_number(counts.instances_b),
            studies_agree=counts.studies_a == counts.studies_b,
            instances_agree=counts.instances_a == counts.instances_b,
        )


def _sample_method(sample: Sample | None) -> str:
    if sample is None:
        return _("No study was read back.")
    text = ngettext(
        "%(read)s study of the %(all)s that both have was read back from both, and every instance "
        "compared: its file, or else its data set and its pixels. It was chosen by the seed "
        "“%(seed)s”: that whose SHA-256 of “seed:Study Instance UID” is smallest.",
        "%(read)s studies of the %(all)s that both have were read back from both, and every "
        "instance compared: its file, or else its data set and its pixels. They were chosen by the "
        "seed “%(seed)s”: those whose SHA-256 of “seed:Study Instance UID” are smallest.",
        len(sample.studies),
    )
    return text % {
        "read": format_number(len(sample.studies)),
        "all": format_number(sample.candidates),
        "seed": sample.seed,
    }


def _sampled(study: SampledStudy) -> SampleRow:
    parts = [
        (study.identical, _("%s the same bytes")),
        (study.equal, _("%s the same data set")),
        (study.transcoded, _("%s the same pixels in another transfer syntax")),
        (study.coerced, _("%s the same but for listed coercions")),
        (study.different, _("%s different")),
        (study.unreadable, _("%s unreadable")),
        (study.missing_in_b, _("%s missing in B")),
        (study.extra_in_b, _("%s only in B")),
    ]
    result = ", ".join(text % format_number(count) for count, text in parts if count)
    if study.coerced_attributes:
        result += f" {' '.join(study.coerced_attributes[:_MOST_ATTRIBUTES])}"
        if more := _left_out(len(study.coerced_attributes) - _MOST_ATTRIBUTES):
            result += f" {more}"
    return SampleRow(
        study.study_instance_uid,
        format_number(study.instances),
        result or _("nothing could be read back"),
        study.is_proven,
        (*study.reasons, *filter(None, (_more(study.reasons_left_out),))),
    )


def _more(count: int) -> str:
    """Say how many instances are not the same beside those that are listed."""
    if count <= 0:
        return ""
    text = ngettext("... and %s more instance", "... and %s more instances", count)
    return text % format_number(count)


def _left_out(count: int) -> str:
    if count <= 0:
        return ""
    text = ngettext("... and %(n)s more: see the JSON.", "... and %(n)s more: see the JSON.", count)
    return text % {"n": format_number(count)}


def _explanations(certificate: Certificate) -> Iterator[str]:
    yield _(
        "This says what was asked of the two places, and what they answered, at the time given. "
        "What came or went since, it does not know."
    )
    if certificate.tally.same_by[Basis.COUNT]:
        yield _(
            "The same by count: both tell the same numbers of series and instances. That is a "
            "reason to believe, and no proof; --depth instance compares every instance."
        )
    yield _(
        "What a PACS does not list was asked for by its UID before it was called missing. Only "
        "what was read back shows that a copy is also the same inside."
    )
    if certificate.tally.verdicts[Verdict.ONLY_B]:
        yield _("What only B has does not count against the migration; it is listed all the same.")
