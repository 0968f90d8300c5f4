"""Every report format: what it says, what it hides, and that foreign text stays text."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

import dcmvault
from dcmvault import i18n
from dcmvault.errors import DcmvaultError, DestinationError, SourceError, UsageError
from dcmvault.model.evidence import Level
from dcmvault.model.plan import RunKind
from dcmvault.model.report import Counts, Failure, Privacy, RunReport, RunState
from dcmvault.reports.as_csv import COLUMNS
from dcmvault.reports.bars import WIDTH, bar
from dcmvault.reports.escaping import locator_token, spreadsheet_cell, visible
from dcmvault.reports.grouping import by_cause, readable_date, warning_sentences
from dcmvault.reports.render import FORMATS, render
from dcmvault.reports.spoken import spoken
from dcmvault.reports.summary import STAGES, summary
from dcmvault.reports.times import age_of_evidence
from dcmvault.reports.wording import Tone, cause_title, outcomes, verdict
from dcmvault.testing import sample_reports

_EVIL = "<script>alert('x')</script>\x1b[31m\u202e=cmd|'/c calc'!A1\"><img src=x onerror=y>\r\n"


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    i18n.use_language("en")
    yield
    i18n.use_language("en")


def _hostile() -> RunReport:
    """Foreign text in every field that comes from a file, a peer or a user."""
    report = sample_reports.bad()
    evil_failure = replace(
        report.failures[0],
        sop_instance_uid=_EVIL,
        study_instance_uid=_EVIL,
        destination=_EVIL,
        status=_EVIL,
        code=_EVIL,
        message=_EVIL,
        hint=_EVIL,
        locator=_EVIL,
    )
    evil_study = replace(
        report.study_reports[0],
        study_instance_uid=_EVIL,
        modalities=_EVIL,
        study_date=_EVIL,
        patient_name=_EVIL,
        patient_id=_EVIL,
        study_description=_EVIL,
    )
    return replace(
        report,
        request=replace(report.request, source=_EVIL),
        destinations=(replace(report.destinations[0], name=_EVIL, address=_EVIL),),
        failures=(evil_failure, *report.failures[1:]),
        study_reports=(replace(evil_study, destination=_EVIL),),
        warnings=(_EVIL,),
        stages={_EVIL: 1.0},
    )


class _Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)


# The summary is a contract.


def test_summary_contract() -> None:
    found = summary(sample_reports.bad())
    assert list(found) == [
        "run",
        "kind",
        "state",
        "source",
        "strategy",
        "level",
        "started_at",
        "finished_at",
        "instances",
        "bytes",
        "studies",
        "not_dicom",
        "gone",
        "duration_s",
        "stages",
        "exit_status",
        "failures",
        "warnings",
        "diversions",
        "warned",
        "destinations",
        "error",
        "performance",
    ]
    assert found["stages"] == {**dict.fromkeys(STAGES, 0.0), **sample_reports.bad().stages}
    assert found["level"] == "complete"
    assert found["instances"] == {
        "selected": 1440,
        "already_held": 17760,
        "stored": 1428,
        "failed": 11,
        "unreadable": 1,
        "conflicts": 0,
    }
    assert found["bytes"] == {"source": 756_000_000, "transferred": 750_000_000}
    assert found["duration_s"] == 367.0
    assert found["started_at"] == "2026-01-31T02:00:00.000+00:00"
    assert found["exit_status"] == 3
    assert json.loads(json.dumps(found)) == found
    failures = found["failures"]
    assert isinstance(failures, list)
    assert failures[0] == {
        "sop_instance_uid": "1.2.826.0.1.3680043.8.498.1.0",
        "study_instance_uid": "1.2.826.0.1.3680043.8.498.1",
        "destination": sample_reports.PACS,
        "code": "missing",
        "status": "0000",
        "message": "The peer accepted it, and does not list it.",
        "hint": "",
        "locator": locator_token("10000/Doe Jane 0.dcm"),
    }


def test_summary_of_a_run_that_never_planned() -> None:
    report = replace(
        sample_reports.good(),
        state=RunState.FAILED,
        finished_at=None,
        destinations=(),
        error=("source_empty", "0 of 12,345 studies are visible.", "Is the disk mounted?"),
        exit_status=1,
    )
    found = summary(report)
    assert found["level"] == "none"
    assert found["duration_s"] is None
    assert found["finished_at"] is None
    assert found["error"] == {
        "code": "source_empty",
        "message": "0 of 12,345 studies are visible.",
        "hint": "Is the disk mounted?",
    }
    for format_ in FORMATS:
        assert render(report, format_)
    judged = verdict(report)
    assert judged.tone is Tone.BAD
    assert judged.detail == "0 of 12,345 studies are visible. Is the disk mounted?"


# Verdicts.


def test_only_evidence_is_good() -> None:
    assert verdict(sample_reports.good()).tone is Tone.GOOD
    assert verdict(sample_reports.bad()).tone is Tone.BAD
    assert verdict(sample_reports.claimed()).tone is Tone.CLAIM
    page = render(sample_reports.claimed(), "html")
    assert 'class="verdict claim"' in page
    assert '<rect class="claimed"' in page
    assert '<rect class="stored"' not in page
    assert '<rect class="held"' not in page


def test_one_claim_among_evidence_is_a_claim() -> None:
    good = sample_reports.good()
    report = replace(
        good,
        destinations=(replace(good.destinations[0], level=Level.SENT), good.destinations[1]),
    )
    judged = verdict(report)
    assert judged.tone is Tone.CLAIM
    assert judged.headline == "9,600 of 19,200 copies were sent without being verified."


@pytest.mark.parametrize(
    ("counts", "headline", "tone"),
    [
        (Counts(24, 0, 24), "All 24 copies are backed up and verified.", Tone.GOOD),
        (Counts(0, 24, 0), "All 24 copies are backed up and verified.", Tone.GOOD),
        (Counts(1, 0, 1), "1 copy is backed up and verified.", Tone.GOOD),
        (Counts(24, 0, 20, 4), "4 of 24 copies did not reach their level.", Tone.BAD),
        (Counts(24, 0, 20), "4 of 24 copies did not reach their level.", Tone.BAD),
        (Counts(), "There was nothing to back up.", Tone.OPEN),
    ],
)
def test_verdict_of_counts(counts: Counts, headline: str, tone: Tone) -> None:
    good = sample_reports.good()
    report = replace(good, destinations=(replace(good.destinations[0], counts=counts),))
    assert verdict(report).headline == headline
    assert verdict(report).tone is tone


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.CANCELLED, RunState.PENDING])
def test_unfinished_is_never_good(state: RunState) -> None:
    assert verdict(replace(sample_reports.good(), state=state)).tone is Tone.OPEN


def test_exit_status_outweighs_counts() -> None:
    assert verdict(replace(sample_reports.good(), exit_status=3)).tone is Tone.BAD


def test_verification_speaks_of_verification() -> None:
    good = sample_reports.good()
    report = replace(good, request=replace(good.request, kind=RunKind.VERIFY))
    assert verdict(report).headline == "All 19,200 copies are verified."
    assert "Verification report" in render(report, "html")


def test_outcomes_add_up() -> None:
    part = replace(sample_reports.good().destinations[0], counts=Counts(20, 5, 9, 1, 2, 3))
    found = {outcome.kind: outcome.count for outcome in outcomes(part, sample_reports.good())}
    assert found == {
        "stored": 9,
        "held": 5,
        "failed": 1,
        "unreadable": 2,
        "conflict": 3,
        "open": 5,
    }


# Privacy.


@pytest.mark.parametrize("format_", FORMATS)
def test_no_patient_data_by_default(format_: str) -> None:
    shown = render(sample_reports.bad(), format_)
    for secret in ("Doe", "Jane", "PID-0815", "Thorax"):
        assert secret not in shown


@pytest.mark.parametrize("format_", FORMATS)
def test_ids_are_shown_without_names(format_: str) -> None:
    shown = render(sample_reports.bad(), format_, Privacy.IDS)
    assert "PID-0815" in shown
    for secret in ("Doe", "Jane", "Thorax"):
        assert secret not in shown


@pytest.mark.parametrize("format_", FORMATS)
def test_everything_is_shown_when_asked(format_: str) -> None:
    shown = render(sample_reports.bad(), format_, Privacy.FULL)
    for value in ("Doe^Jane", "PID-0815", "Thorax of Jane", "10000/Doe Jane 0.dcm"):
        assert value in shown


def test_tokens_are_stable_and_tell_files_apart() -> None:
    assert locator_token("a/b") == locator_token("a/b") == "file:" + "c14cddc033f6"
    assert locator_token("a/b") != locator_token("a/c")
    assert locator_token("") == ""
    assert locator_token("\udcff").startswith("file:")


# Foreign text.


def test_no_element_comes_from_a_value() -> None:
    page = render(_hostile(), "html", Privacy.FULL)
    elements = _Elements(page)
    assert not {"script", "img", "link", "iframe", "a", "object"} & set(elements.tags)
    assert not [name for name, _value in elements.attributes if name.startswith("on")]
    assert "alert('x')" in "".join(elements.text)
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "\\x1b[31m\\u202e" in page


@pytest.mark.parametrize("make", ["good", "bad", "claimed"])
def test_the_page_needs_nothing_else(make: str) -> None:
    page = render(getattr(sample_reports, make)(), "html")
    elements = _Elements(page)
    assert not {"src", "href", "style", "action", "srcset"} & {
        name for name, _ in elements.attributes
    }
    assert "url(" not in page
    assert "@import" not in page
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policies = [value for name, value in elements.attributes if name == "content"]
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in policies


def test_no_value_commands_a_terminal() -> None:
    for format_ in ("text", "json"):
        shown = render(_hostile(), format_, Privacy.FULL)
        assert not set(shown) & {"\x1b", "\r", "\x07", "\x9b", "\u202e"}
    assert "\\x1b[31m\\u202e" in render(_hostile(), "text", Privacy.FULL)
    assert visible("a\x9bb\x7f\u2066c\u2028\udc80") == "a\\x9bb\\x7f\\u2066c\\u2028\\udc80"
    assert visible("João – 日本 ✓") == "João – 日本 ✓"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\\x09=1"),
        ("\r=1", "'\\x0d=1"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),
        ("1.2.840", "1.2.840"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(value: str, cell: str) -> None:
    assert spreadsheet_cell(value) == cell


def test_csv_is_a_table() -> None:
    shown = render(_hostile(), "csv", Privacy.FULL)
    rows = list(csv.DictReader(io.StringIO(shown, newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert [row["record"] for row in rows] == ["study"] + ["failure"] * 12
    for row in rows:
        assert not [cell for cell in row.values() if cell[:1] in tuple("=+-@\t\r")]
    assert shown.count("\r\n") == len(rows) + 1


def test_csv_rows() -> None:
    rows = list(csv.DictReader(io.StringIO(render(sample_reports.bad(), "csv"), newline="")))
    assert rows[0]["verified_at"] == "2026-01-31T02:05:27Z"
    assert rows[0]["level"] == "complete"
    assert {row["run"] for row in rows} == {"20260131-020000-9f3c61d2"}
    assert rows[-1]["code"] == "unreadable"


# Formats.


def test_json_has_every_study() -> None:
    found = json.loads(render(sample_reports.good(), "json"))
    assert len(found["study_reports"]) == 16
    assert found["study_reports"][1]["level"] == "proven"
    assert found["run"] == "20260131-020000-9f3c61d2"


def test_what_planning_could_not_read_counts_although_it_was_never_due() -> None:
    report = sample_reports.good()
    part = report.destinations[0]
    counts = Counts(selected=16, stored=16, unreadable=1)
    report = replace(
        report, destinations=(replace(part, counts=counts, level=Level.COMPLETE),), exit_status=3
    )
    assert counts.total == 17
    assert render(report, "text").splitlines()[0] == "1 of 17 copies did not reach their level."


def _codes_of_outcomes() -> set[str]:
    """List every code that an instance's failure may carry."""
    root = Path(dcmvault.__file__).parent
    kinds: list[type[DcmvaultError]] = [SourceError, DestinationError]
    codes = {"malformed_dicom"}
    while kinds:
        kind = kinds.pop()
        codes.add(kind.code)
        kinds += kind.__subclasses__()
    for path in [*root.glob("app/*.py"), *root.glob("pipeline/*.py")]:
        codes |= set(re.findall(r'code="([a-z_]+)"', path.read_text("utf-8")))
    by_state = (root / "catalogue" / "run_report.py").read_text("utf-8")
    return codes | set(re.findall(r'[(]\s*"([a-z]+)",\s*"[a-z ]+', by_state))


@pytest.mark.parametrize("code", sorted(_codes_of_outcomes()))
def test_every_cause_has_a_title(code: str) -> None:
    assert cause_title(code) != code


def test_text_says_it_in_order() -> None:
    shown = render(sample_reports.bad(), "text")
    lines = shown.splitlines()
    assert lines[0] == "12 of 19,200 copies did not reach their level."
    assert "Started      2026-01-31 02:00:00 UTC" in lines
    assert shown.index("What did not reach") < shown.index("Studies, as evidence")
    assert all(len(line) < 140 for line in lines)
    assert shown.endswith("\n")
    assert "a token stands for each" in shown
    assert "a token stands for each" not in render(sample_reports.bad(), "text", Privacy.FULL)


def test_what_was_deleted_at_the_source_is_told() -> None:
    report = replace(sample_reports.good(), gone=1234)
    for format_ in ("text", "html"):
        assert re.search(r"Deleted at the source\W.*1,234", render(report, format_), re.DOTALL)
    assert summary(report)["gone"] == 1234


def test_what_is_not_whole_comes_first() -> None:
    short = sample_reports.bad().study_reports[4].study_instance_uid
    for format_ in ("text", "html"):
        shown = render(sample_reports.bad(), format_)
        uids = re.findall(r"1\.2\.826\.0\.1\.3680043\.8\.498\.\d{15,}", shown)
        assert uids[0] == short
        assert "incomplete" in shown


def test_failures_are_grouped_by_cause() -> None:
    groups = by_cause(sample_reports.bad().failures)
    assert [(group.code, len(group.failures)) for group in groups] == [
        ("missing", 10),
        ("refused_for_now", 1),
        ("unreadable", 1),
    ]
    assert groups[1].next_step == "The archive is full or busy: ask its administrator."
    assert all(group.next_step for group in groups)


def test_long_lists_say_what_they_leave_out() -> None:
    bad = sample_reports.bad()
    many = tuple(
        replace(bad.failures[0], sop_instance_uid=f"1.2.{number}") for number in range(1500)
    )
    report = replace(
        bad,
        failures=many,
        study_reports=tuple(
            sample_reports.study(number, sample_reports.PACS, Level.COMPLETE)
            for number in range(1100)
        ),
    )
    page = render(report, "html")
    assert "... and 1,300 more" in page
    assert "... and 100 more" in page
    assert "... and 1,450 more" in render(report, "text")
    assert render(report, "csv").count("\r\n") == 1 + 1500 + 1100


def test_bars_fill_their_width() -> None:
    segments = bar([("a", "", 1, "1"), ("b", "", 0, "0"), ("c", "", 999_999, "999,999")]).segments
    assert [segment.kind for segment in segments] == ["a", "c"]
    assert float(segments[-1].x) + float(segments[-1].width) == pytest.approx(WIDTH)
    assert min(float(segment.width) for segment in segments) > 5
    assert bar([]).segments == ()


def test_dates() -> None:
    assert readable_date("20200102") == "2020-01-02"
    assert readable_date("") == ""
    assert readable_date("2020") == "2020"
    assert readable_date("²0200102") == "²0200102"


def test_figures_follow_the_language() -> None:
    i18n.use_language("pt-BR")
    page = render(sample_reports.good(), "html")
    assert '<html lang="pt-BR">' in page
    assert "17.760" in page
    assert "17,760" not in page


def test_unknown_format() -> None:
    with pytest.raises(UsageError, match="docx"):
        render(sample_reports.good(), "docx")


def test_what_a_cancelled_run_left_undone_is_no_failure() -> None:
    bad = sample_reports.bad()
    part = replace(bad.destinations[0], counts=Counts(selected=10, stored=4, failed=6))
    failure = replace(bad.failures[0], destination=part.name)
    left = tuple(replace(failure, code=code) for code in ("cancelled",) * 3 + ("unfinished",) * 2)
    report = replace(bad, state=RunState.CANCELLED, destinations=(part,), failures=(failure, *left))
    found = {outcome.kind: outcome.count for outcome in outcomes(part, report)}
    assert found == {"stored": 4, "failed": 1, "open": 5}
    text = render(report, "text")
    assert "3 x Left undone: it was cancelled" in text
    assert text.count(failure.sop_instance_uid) == 1
    assert render(report, "html").count(f">{failure.sop_instance_uid}<") == 1
    assert len(json.loads(render(report, "json"))["failures"]) == 6


def test_an_error_reads_as_sentences() -> None:
    report = replace(
        sample_reports.bad(), error=("source_empty", "0 of 24 are visible", "Is it on?")
    )
    assert verdict(report).detail == "0 of 24 are visible. Is it on?"


def test_what_is_held_of_an_incomplete_study_was_verified() -> None:
    report = sample_reports.good()
    assert report.finished_at is not None
    study = replace(
        report.study_reports[0],
        instances=100,
        held=62,
        level=Level.NONE,
        verified_at=report.finished_at - timedelta(seconds=90),
    )
    assert age_of_evidence(study, report) == "evidence 1 min 30 s old"
    assert age_of_evidence(replace(study, held=0), report) == "never verified"
    assert age_of_evidence(replace(study, level=Level.SENT), report) == "never verified"


def test_an_old_runs_report_says_as_of_when_evidence_is_shown() -> None:
    """Studies are shown as they stand when the report is made, which may be long after the run."""
    run = sample_reports.good()
    report = replace(run, assembled_at=run.started_at + timedelta(days=40))
    for form in ("html", "text"):
        page = render(report, form)
        assert f"as evidence stood on {report.assembled_at:%Y-%m-%d}" in page
        assert "fresh evidence" not in page


def test_what_was_transcoded_is_counted_not_listed() -> None:
    uid = "1.2.840.10008.1.2"
    words = (
        f"sent as Implicit VR Little Endian ({uid}) instead of RLE Lossless ({uid}.5), without loss"
    )
    warned = [
        Failure(f"1.2.{number}", "1.2", sample_reports.PACS, "transcoded", "0000", words)
        for number in range(1200)
    ]
    other = Failure(
        "1.2.9", "1.2", sample_reports.PACS, "flawed", "0000", "stored as it is, but: odd"
    )
    report = replace(sample_reports.good(), warned=(*warned, other))
    assert warning_sentences(report) == [
        f"1,200 instances for {sample_reports.PACS}: {words}",
        "1.2.9: " + other.message,
    ]
    i18n.use_language("pt-BR")
    assert "1.200 instâncias para" in warning_sentences(spoken(report))[0]
    assert "em vez de" in warning_sentences(spoken(report))[0]
