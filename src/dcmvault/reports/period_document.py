"""A report over a time, or about a destination, put together for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from dcmvault.i18n import format_bytes, format_duration, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.report import RunState
from dcmvault.model.statistics import CauseRow, EvidenceRow, PeriodReport, RunRow
from dcmvault.reports.bars import Bar, bar
from dcmvault.reports.charts import Bucket, Chart, Span, buckets, columns, timeline
from dcmvault.reports.document import Card, Cell, Document, Facts, Note, Section, Step, Table
from dcmvault.reports.times import utc
from dcmvault.reports.wording import Tone, cause_title, level_meaning, next_step, state_label

#: A page stays readable; the rest is in CSV and JSON, and the page says so.
_MOST_RUNS = 200
_MOST_ROWS = 12
_MOST_DRAWN = 3000
_OPEN = frozenset({RunState.PENDING, RunState.PLANNING, RunState.RUNNING})
#: How a run's colour is called in drawings.
_KINDS: Mapping[Tone, str] = {
    Tone.GOOD: "stored",
    Tone.CLAIM: "claimed",
    Tone.BAD: "failed",
    Tone.OPEN: "open",
}


def period_document(report: PeriodReport) -> Document:
    """Put the report together in the language in use."""
    tone, headline, detail = _verdict(report)
    is_of_one = report.destination is not None
    title = _("Destination report") if is_of_one else _("Report of a period")
    return Document(
        title=title,
        tone=tone,
        headline=headline,
        detail=detail,
        figures=_figures(report),
        sections=(
            Section(_("Runs over time"), tuple(_timeline(report))),
            Section(_("Throughput"), tuple(_throughput(report))),
            Section(
                _("Evidence by destination, as it stands now"),
                tuple(_evidence(row) for row in report.evidence if row.instances),
            ),
            Section(_("What did not reach its level, by cause"), tuple(_causes(report))),
            Section(_("Runs"), tuple(_runs(report))),
            Section(_("How to read this"), tuple(_explanations(report))),
            Section(_("This report"), (_facts(report),)),
        ),
        footer=_("Made by dcmvault. Times are UTC."),
        kicker=report.destination or period_words(report),
    )


def period_words(report: PeriodReport) -> str:
    """Say from when to when."""
    if report.since is None:
        return _("until %s") % utc(report.until)
    return _("%(since)s to %(until)s") % {"since": utc(report.since), "until": utc(report.until)}


def run_tone(run: RunRow) -> Tone:
    """Return the colour of a run: nothing is green for a claim."""
    if run.state in _OPEN:
        return Tone.OPEN
    if run.exit_status:
        return Tone.BAD
    claims = any(part.level <= Level.SENT and part.counts.total for part in run.parts)
    return Tone.CLAIM if claims else Tone.GOOD


def _verdict(report: PeriodReport) -> tuple[Tone, str, str]:
    runs, counts = report.runs, report.counts
    words = ngettext("%s run", "%s runs", len(runs)) % format_number(len(runs))
    if not runs:
        return Tone.OPEN, _("No run in this time."), _("Nothing was backed up or verified then.")
    tones = [run_tone(run) for run in runs]
    bad = tones.count(Tone.BAD)
    if counts.short:
        text = ngettext(
            "%s instance did not reach its level.",
            "%s instances did not reach their level.",
            counts.short,
        )
        what = ngettext(
            "%(bad)s of %(runs)s ended with something undone.",
            "%(bad)s of %(runs)s ended with something undone.",
            bad,
        )
        detail = what % {"bad": format_number(bad), "runs": words}
        told = f"{detail} {_still_due(report)}".strip()
        return Tone.BAD, text % format_number(counts.short), told
    if bad:
        headline = ngettext("%s run failed.", "%s runs failed.", bad) % format_number(bad)
        return (
            Tone.BAD,
            headline,
            _("Of what was due, everything that was tried reached its level."),
        )
    if open_runs := tones.count(Tone.OPEN):
        headline = ngettext("%s run has not ended.", "%s runs have not ended.", open_runs)
        return (
            Tone.OPEN,
            headline % format_number(open_runs),
            _("Until then it is not known whether everything reaches its level."),
        )
    if Tone.CLAIM in tones:
        return (
            Tone.CLAIM,
            _("Sent, but not verified everywhere."),
            _("Some runs asked for receipts only: a claim of the destination, not evidence."),
        )
    return (
        Tone.GOOD,
        _("Everything that was due reached its level."),
        _("%(runs)s, %(studies)s")
        % {
            "runs": words,
            "studies": ngettext("%s study due.", "%s studies due.", report.studies)
            % format_number(report.studies),
        },
    )


def _still_due(report: PeriodReport) -> str:
    left = sum(row.instances - row.held for row in report.evidence)
    if not left:
        # Nothing is known of what could not be read, and evidence may be of a lower level than was
        # asked: that nothing is missing now does not say that what failed was made good.
        return ""
    return ngettext(
        "Today %s instance is without evidence.", "Today %s instances are without evidence.", left
    ) % format_number(left)


def _figures(report: PeriodReport) -> tuple[tuple[str, str], ...]:
    counts = report.counts
    speed, success = report.bytes_per_s, report.success
    return (
        (format_number(len(report.runs)), ngettext("run", "runs", len(report.runs))),
        (format_number(report.studies), ngettext("study due", "studies due", report.studies)),
        (format_number(counts.stored), _("instances at their level")),
        (format_bytes(report.transferred_bytes), _("transferred")),
        ("–" if speed is None else f"{format_bytes(speed)}/s", _("while runs worked")),
        ("–" if success is None else f"{percent(success)} %", _("reached their level")),
    )


def percent(share: float) -> str:
    """Write a share; 100 only for all, 0 only for none."""
    shown = 100 * share
    if 0 < shown < 0.1 or 99.9 < shown < 100:
        shown = 0.1 if shown < 1 else 99.9
    return format_number(shown, 0 if shown in {0.0, 100.0} else 1)


def _timeline(report: PeriodReport) -> Iterator[Chart | Note]:
    if not report.runs:
        return
    begin = report.since or report.runs[0].started_at
    end = min(report.until, report.made_at)
    sources = list(dict.fromkeys(run.source for run in report.runs))
    shown = set(sources[:_MOST_ROWS])
    spans = [
        Span(
            run.source,
            run.started_at,
            run.finished_at or end,
            _KINDS[run_tone(run)],
            f"{run.run_id}: {state_label(run.state)}",
        )
        for run in report.runs[-_MOST_DRAWN:]
        if run.source in shown
    ]
    tones = [run_tone(run) for run in report.runs]
    words = {
        Tone.GOOD: _("all reached its level"),
        Tone.CLAIM: _("sent, not verified"),
        Tone.BAD: _("something undone"),
        Tone.OPEN: _("not finished"),
    }
    legend = [(_KINDS[tone], words[tone]) for tone in Tone if tone in tones]
    told = ", ".join(
        f"{words[tone]}: {format_number(tones.count(tone))}" for tone in Tone if tone in tones
    )
    yield timeline(spans, begin, max(end, begin + timedelta(hours=1)), told, legend)
    undrawn = max(len(report.runs) - _MOST_DRAWN, len(sources) - _MOST_ROWS)
    if undrawn > 0:
        yield Note(left_out(undrawn))


def _throughput(report: PeriodReport) -> Iterator[Chart | Note]:
    if not report.transferred_bytes:
        return
    begin = report.since or report.runs[0].started_at
    end = max(min(report.until, report.made_at), report.runs[-1].started_at + timedelta(minutes=1))
    moved: dict[Bucket, float] = defaultdict(float)
    worked: dict[Bucket, float] = defaultdict(float)
    pieces = buckets(begin, end)
    timed: dict[Bucket, float] = defaultdict(float)
    for run in report.runs:
        for piece in pieces:
            if piece.begin <= run.started_at < piece.end:
                moved[piece] += run.transferred_bytes
                if run.bytes_per_s is not None:
                    timed[piece] += run.transferred_bytes
                    worked[piece] += run.duration_s or 0.0
    yield Note(_("Transferred, by when runs began"))
    say = _("highest: %s") % format_bytes(max(moved.values()))
    yield columns([(piece, moved[piece]) for piece in pieces], format_bytes, "stage0", say)
    speeds = [(piece, timed[piece] / worked[piece] if worked[piece] else 0.0) for piece in pieces]
    if any(speed for _piece, speed in speeds):
        yield Note(_("Speed, while runs worked"))
        highest = _("highest: %s") % _speed(max(speed for _piece, speed in speeds))
        yield columns(speeds, _speed, "stage3", highest)


def _speed(bytes_per_s: float) -> str:
    return f"{format_bytes(bytes_per_s)}/s"


def _evidence(row: EvidenceRow) -> Card:
    missing = max(row.instances - row.held - row.claimed, 0)
    segments = [
        ("stored" if level is Level.PROVEN else "held", level.word, float(count), count)
        for level, count in sorted(row.by_level.items(), reverse=True)
        if level > Level.SENT
    ]
    segments += [
        ("claimed", _("sent, not verified"), float(row.claimed), row.claimed),
        ("failed", _("not there"), float(missing), missing),
    ]
    drawn: Bar = bar(
        [(kind, label, value, format_number(count)) for kind, label, value, count in segments]
    )
    studies = _("%(protected)s of %(studies)s studies protected") % {
        "protected": format_number(row.studies_protected),
        "studies": format_number(row.studies),
    }
    oldest = (
        _("oldest evidence from %s") % utc(row.oldest_evidence_at) if row.oldest_evidence_at else ""
    )
    note = Note(" · ".join(filter(None, (studies, oldest))))
    return Card(row.destination, row.source, (drawn, note))


def _causes(report: PeriodReport) -> Iterator[Card | Note]:
    highest = max((cause.instances for cause in report.causes), default=0)
    for cause in report.causes[:_MOST_ROWS]:
        yield _cause(cause, highest)
    if len(report.causes) > _MOST_ROWS:
        yield Note(left_out(len(report.causes) - _MOST_ROWS))


def _cause(cause: CauseRow, highest: int) -> Card:
    count = ngettext("%s instance", "%s instances", cause.instances)
    runs = ngettext("in %s run", "in %s runs", cause.runs) % format_number(cause.runs)
    parts = [
        ("failed", f"{count % format_number(cause.instances)}, {runs}", cause.instances, ""),
        ("blank", "", highest - cause.instances, ""),
    ]
    blocks: list[Bar | Step] = [
        bar([(kind, label, float(n), say) for kind, label, n, say in parts])
    ]
    if step := next_step(cause.code):
        blocks.append(Step(_("Next step"), step))
    where = " · ".join(filter(None, (cause.destination, cause.status, cause.code)))
    return Card(cause_title(cause.code), where, tuple(blocks))


def _runs(report: PeriodReport) -> Iterator[Table | Note]:
    if not report.runs:
        return
    newest = list(reversed(report.runs))
    yield Table(
        head=(
            _("Started"),
            _("Run"),
            _("State"),
            _("Due"),
            _("Reached"),
            _("Transferred"),
            _("Took"),
        ),
        rows=tuple(map(_run, newest[:_MOST_RUNS])),
        shares=(0.17, 0.25, 0.16, 0.1, 0.1, 0.12, 0.1),
        right=frozenset({3, 4, 5, 6}),
    )
    if len(newest) > _MOST_RUNS:
        yield Note(left_out(len(newest) - _MOST_RUNS))


def _run(run: RunRow) -> tuple[Cell, ...]:
    seconds, counts = run.duration_s, run.counts
    return (
        Cell(f"{run.started_at:%Y-%m-%d %H:%M}"),
        Cell(run.run_id, code=True),
        Cell(state_label(run.state), run_tone(run)),
        Cell(format_number(counts.selected)),
        Cell(format_number(counts.stored)),
        Cell(format_bytes(run.transferred_bytes)),
        Cell("–" if seconds is None else format_duration(seconds)),
    )


def _explanations(report: PeriodReport) -> Iterator[Note | Facts]:
    yield Note(
        _(
            "What a destination says about itself is a claim. Only what was looked up or read back "
            "afterwards is evidence, and only evidence is shown in green. From the weakest to the "
            "strongest:"
        )
    )
    found = {level for row in report.evidence for level in row.by_level}
    if levels := sorted(found - {Level.NONE}):
        yield Facts(tuple((level.word, level_meaning(level)) for level in levels))
    yield Note(
        _(
            "An instance for two destinations counts twice. Speed is what destinations took, by "
            "the time from start to end of the runs that sent anything."
        )
    )


def _facts(report: PeriodReport) -> Facts:
    rows = [(_("Period"), period_words(report)), (_("Made"), utc(report.made_at))]
    if report.destination is not None:
        rows.insert(0, (_("Destination"), report.destination))
    sources: Sequence[str] = list(dict.fromkeys(run.source for run in report.runs))
    rows += [(_("Source"), source) for source in sources[:_MOST_ROWS]]
    return Facts(tuple(rows))


def left_out(count: int) -> str:
    """Say how much is left out."""
    text = ngettext(
        "... and %(n)s more: see the CSV or JSON report.",
        "... and %(n)s more: see the CSV or JSON report.",
        count,
    )
    return text % {"n": format_number(count)}
