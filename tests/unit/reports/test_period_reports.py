"""Reports of a period and of a destination: every format, nothing fetched, nothing hidden."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from dcmvault import i18n
from dcmvault.errors import UsageError
from dcmvault.model.evidence import Level
from dcmvault.model.report import RunState
from dcmvault.model.statistics import PeriodReport, RunRow
from dcmvault.reports.charts import WIDTH, Chart, buckets
from dcmvault.reports.period_csv import COLUMNS
from dcmvault.reports.period_document import percent, period_document, run_tone
from dcmvault.reports.render import FORMATS, render_pdf, render_period
from dcmvault.reports.wording import Tone
from dcmvault.testing import sample_periods, sample_reports

EVIL = "<script>alert('x')</script>\x1b[31m\u202e=cmd|'/c calc'!A1\"><img src=x onerror=y>\r\n"
EVERY = [sample_periods.good(), sample_periods.bad(), sample_periods.empty()]


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    i18n.use_language("en")
    yield
    i18n.use_language("en")


def hostile() -> PeriodReport:
    """Foreign text in everything that somebody else may name."""
    report = sample_periods.bad()
    return replace(
        report,
        destination=EVIL,
        runs=(
            replace(
                report.runs[0],
                source=EVIL,
                parts=(replace(report.runs[0].parts[0], name=EVIL, address=EVIL),),
            ),
        ),
        evidence=(replace(report.evidence[0], source=EVIL, destination=EVIL),),
        causes=(replace(report.causes[0], destination=EVIL, code=EVIL, status=EVIL),),
    )


class Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


@pytest.mark.parametrize("language", ["en", "pt_BR"])
@pytest.mark.parametrize("report", [*EVERY, hostile()], ids=["good", "bad", "empty", "hostile"])
def test_the_page_stands_alone_and_runs_nothing(language: str, report: PeriodReport) -> None:
    i18n.use_language(language)
    text = render_period(report, "html")
    page = Page(text)
    assert {"script", "img", "link", "iframe", "object"}.isdisjoint(page.tags)
    names = {name for name, _value in page.attributes}
    assert {"href", "src", "style", "onerror", "onload"}.isdisjoint(names)
    assert ("http-equiv", "Content-Security-Policy") in page.attributes
    assert any(value and value.startswith("default-src 'none'") for _n, value in page.attributes)
    assert not re.search(r"url\(|@import|http-equiv=\"refresh\"", text)
    assert "\x1b" not in text
    assert "\u202e" not in text
    for kind in ("pdf", "text"):
        assert render_pdf(report) if kind == "pdf" else render_period(report, kind)


def test_the_pictures_are_there_and_within_their_frames() -> None:
    document = period_document(sample_periods.bad())
    charts = [
        block for section in document.shown for block in section.blocks if isinstance(block, Chart)
    ]
    timeline, moved, speed = charts
    assert len(timeline.rects) == 35
    assert sum(rect.kind == "failed" for rect in timeline.rects) == 2
    assert len(moved.rects) == len(speed.rects) == 30
    for chart in charts:
        for rect in chart.rects:
            assert rect.x >= 0
            assert rect.x + rect.width <= WIDTH + 0.01
            assert rect.y >= 0
            assert rect.y + rect.height <= chart.height
    page = render_period(sample_periods.bad(), "html")
    assert page.count("<svg") > 8


def test_nothing_is_green_for_a_claim() -> None:
    run = sample_periods.run(1)
    claim = replace(run, parts=(replace(run.parts[0], level=Level.SENT), run.parts[1]))
    assert run_tone(run) is Tone.GOOD
    assert run_tone(claim) is Tone.CLAIM
    assert run_tone(replace(run, exit_status=3)) is Tone.BAD
    assert run_tone(replace(run, state=RunState.RUNNING)) is Tone.OPEN
    assert period_document(replace(sample_periods.good(), runs=(claim,))).tone is Tone.CLAIM


@pytest.mark.parametrize(
    ("report", "tone", "words"),
    [
        (EVERY[0], Tone.GOOD, "Everything that was due reached its level."),
        (EVERY[1], Tone.BAD, "74 instances did not reach their level."),
        (EVERY[2], Tone.OPEN, "No run in this time."),
    ],
)
def test_the_answer_comes_first(report: PeriodReport, tone: Tone, words: str) -> None:
    document = period_document(report)
    assert (document.tone, document.headline) == (tone, words)
    assert words in render_period(report, "text").splitlines()[2]


def test_csv_columns_are_the_documented_ones_and_rows_add_up() -> None:
    report = sample_periods.bad()
    rows = list(csv.DictReader(io.StringIO(render_period(report, "csv"))))
    assert tuple(rows[0]) == COLUMNS
    by_record = {
        kind: [row for row in rows if row["record"] == kind]
        for kind in ("total", "run", "evidence", "cause")
    }
    (total,) = by_record["total"]
    for column in ("selected", "stored", "failed", "transferred_bytes", "source_bytes"):
        assert int(total[column]) == sum(int(row[column]) for row in by_record["run"])
    assert (total["runs"], total["studies"], total["failed"]) == ("35", "301", "74")
    assert len(by_record["run"]) == 70
    assert by_record["cause"][0]["status"] == "A700"
    assert by_record["evidence"][0]["level"] == "complete 21363"


def test_no_cell_is_a_formula() -> None:
    for row in csv.reader(io.StringIO(render_period(hostile(), "csv"))):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)
        assert "\x1b" not in "".join(row)


def test_json_has_the_statistics() -> None:
    told = json.loads(render_period(sample_periods.bad(), "json"))
    assert told["statistics"]["instances"]["failed"] == 74
    assert told["statistics"]["success"] == 0.998
    assert told["statistics"]["bytes_per_s"] > 1_000_000
    assert told["causes"][0]["code"] == "refused_for_now"
    assert [row["held"] for row in told["evidence"]] == [21_363, 21_400]


def test_equal_reports_are_equal_bytes_on_paper() -> None:
    paper = render_pdf(sample_periods.bad())
    assert paper == render_pdf(sample_periods.bad())
    assert paper.startswith(b"%PDF-")
    assert render_pdf(sample_reports.bad()).startswith(b"%PDF-")


def test_another_format_is_refused() -> None:
    assert FORMATS == ("html", "json", "csv", "text")
    with pytest.raises(UsageError, match="docx"):
        render_period(sample_periods.good(), "docx")


@pytest.mark.parametrize(
    ("share", "told"),
    [(1.0, "100"), (0.0, "0"), (0.99999, "99.9"), (0.00001, "0.1"), (0.5, "50.0")],
)
def test_a_hundred_per_cent_is_all(share: float, told: str) -> None:
    assert percent(share) == told


@pytest.mark.parametrize("days", [0.02, 1, 2, 7, 31, 63, 90, 400, 1200])
def test_stretches_of_time_cover_a_period_without_a_gap(days: float) -> None:
    since = datetime(2026, 1, 31, 13, 37, tzinfo=UTC)
    until = since + timedelta(days=days)
    pieces = buckets(since, until)
    assert pieces[0].begin <= since
    assert pieces[-1].end >= until
    assert all(one.end == other.begin for one, other in pairwise(pieces))
    assert len(pieces) <= 70


@pytest.mark.parametrize("state", [RunState.PENDING, RunState.PLANNING, RunState.RUNNING])
def test_a_period_is_not_green_while_a_run_goes_on(state: RunState) -> None:
    going_on = replace(sample_periods.run(1), state=state, finished_at=None, exit_status=0)
    runs = (*sample_periods.good().runs, going_on)
    document = period_document(replace(sample_periods.good(), runs=runs))
    assert (document.tone, document.headline) == (Tone.OPEN, "1 run has not ended.")


def test_evidence_of_today_does_not_say_that_what_was_unreadable_is_made_good() -> None:
    """A file that could not be read is in no catalogue, so nothing is missing of it either."""
    report = replace(sample_periods.bad(), evidence=sample_periods.good().evidence)
    assert period_document(report).detail.endswith("ended with something undone.")


def test_what_a_run_that_goes_on_has_moved_makes_no_other_run_faster() -> None:
    ended = sample_periods.run(1)
    going_on = replace(sample_periods.run(1, hour=4), state=RunState.RUNNING, finished_at=None)

    def speeds(*runs: RunRow) -> list[str]:
        report = replace(sample_periods.good(), runs=runs)
        blocks = [block for one in period_document(report).shown for block in one.blocks]
        charts = [block for block in blocks if isinstance(block, Chart)]
        return [rect.title for rect in charts[2].rects]

    assert speeds(ended, going_on) == speeds(ended)


def test_names_that_are_higher_than_a_page_are_printed() -> None:
    """What fonts cannot show is written with escapes, six characters for one."""
    run = replace(sample_periods.run(1), source="\u5c71" * 4000)
    report = replace(sample_periods.good(), runs=(run,))
    assert render_pdf(report).startswith(b"%PDF-")
