"""What `top` shows of figures, on a terminal and in lines, in both languages."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from dcmvault import i18n
from dcmvault.app.top import Now
from dcmvault.cli.top_view import lines, now_object, screen
from dcmvault.model.alert import Alert, AlertCode, AlertSeverity, Subject, SubjectKind
from dcmvault.model.sample import Figure, Sample
from dcmvault.reports.alert_words import alert_remedy, alert_sentence, alert_title
from dcmvault.telemetry.live_file import Live

AT = datetime(2026, 1, 31, 2, 0, tzinfo=UTC)


@pytest.fixture(params=["en", "pt-BR"])
def language(request: pytest.FixtureRequest) -> Iterator[str]:
    before = i18n.language()
    i18n.use_language(request.param)
    yield request.param
    i18n.use_language(before)


def now() -> Now:
    samples = [
        Sample(
            AT,
            Subject(SubjectKind.MACHINE),
            {Figure.CPU_SHARE: 0.5, Figure.PROCESS_CPU_SHARE: 0.25, Figure.MEMORY_BYTES: 2e8},
        ),
        Sample(
            AT,
            Subject(SubjectKind.DESTINATION, "#1"),
            {
                Figure.BYTES_PER_S: 12_500_000.0,
                Figure.ASSOCIATIONS: 4.0,
                Figure.JOBS_PENDING: 1200.0,
                Figure.JOBS_IN_PROGRESS: 2.0,
                Figure.INSTANCES_LEFT: 4321.0,
                Figure.ETA_S: 75.0,
            },
        ),
        Sample(AT, Subject(SubjectKind.RUN, "20260131-run"), {Figure.INSTANCES_LEFT: 4321.0}),
        Sample(AT, Subject(SubjectKind.DISK, "state"), {Figure.DISK_FREE_BYTES: 5e9}),
    ]
    down = Alert(
        1,
        AlertCode.DESTINATION_DOWN,
        Subject(SubjectKind.DESTINATION, "pacs"),
        AlertSeverity.CRITICAL,
        AT - timedelta(hours=3),
        figures={"error": "unreachable"},
    )
    live = Live(AT, 42, AT - timedelta(hours=1), samples)
    return Now(AT, live, samples, [down], [down], {"#1": "/copies\x1b[31m"})


def test_lines_and_screen_tell_the_same(language: str) -> None:
    told = "\n".join(lines(now()))
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(screen(now()))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    thousand = "4,321" if language == "en" else "4.321"
    for text in (told, shown):
        assert "12.5 MB/s" in text or "12,5 MB/s" in text or "12.5 MB" in text or "12,5 MB" in text
        assert thousand in text
        assert "1 min 15 s" in text
        assert "pacs" in text
        assert "\x1b" not in text
    assert "20260131-run" in shown
    assert ("processors" in told) is (language == "en")


def test_where_nobody_works_it_says_so(language: str) -> None:
    idle = Now(AT, None, (), ())
    (line,) = lines(idle)
    assert ("nobody" in line) is (language == "en")
    assert now_object(idle)["working"] is False


@pytest.mark.parametrize("code", AlertCode)
def test_every_alert_has_words(code: AlertCode, language: str) -> None:
    """A title, a remedy, and a sentence, whatever figures are there."""
    assert alert_title(code)
    assert alert_remedy(code).endswith((".", "."))
    subject = Subject(SubjectKind.MACHINE)
    some: dict[str, float | int | str] = {"full_in_s": 60, "still_s": 5, "error": "tls"}
    for figures in ({}, some):
        alert = Alert(1, code, subject, AlertSeverity.WARNING, AT, figures=figures)
        if code is not AlertCode.DESTINATION_DOWN:
            assert alert_title(code) in alert_sentence(alert)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        ("unreachable", {"en": "", "pt-BR": ""}),
        (
            "association_rejected",
            {
                "en": " (The destination rejected the association)",
                "pt-BR": " (O destino rejeitou a associação)",
            },
        ),
    ],
)
def test_a_destination_that_is_away_is_named_once(
    error: str, why: dict[str, str], language: str
) -> None:
    alert = Alert(
        *(1, AlertCode.DESTINATION_DOWN, Subject(SubjectKind.DESTINATION, "pacs")),
        *(AlertSeverity.CRITICAL, AT),
        figures={"error": error},
    )
    said = {"en": "The destination pacs does not answer", "pt-BR": "O destino pacs não responde"}
    assert alert_sentence(alert) == said[language] + why[language]
