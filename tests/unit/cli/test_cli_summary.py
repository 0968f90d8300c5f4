from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import click
import pytest

from dcmvault.cli.summary import summarise
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest
from dcmvault.model.report import Counts, DestinationReport, Failure, RunReport, RunState

START = datetime(2026, 1, 31, 2, 0, tzinfo=UTC)
PACS = "dicom://ORTHANC@pacs:4242?calling=DCMVAULT"


def a_report(
    counts: Counts, level: Level = Level.COMPLETE, failures: tuple[Failure, ...] = ()
) -> RunReport:
    stages: Mapping[str, float] = {"scan": 0.2, "deliver": 1.5, "encode": 0.0}
    return RunReport(
        run_id=RunId("20260131-020000-9f3c61d2"),
        request=RunRequest(RunKind.BACKUP, "/studies", (DestinationRequest(PACS, level),)),
        state=RunState.FINISHED,
        started_at=START,
        finished_at=START + timedelta(seconds=3.2),
        destinations=(DestinationReport(PACS, PACS, level, counts, 12_345_678, 12_000_000),),
        studies=3,
        not_dicom=2,
        exit_status=3 if failures else 0,
        stages=stages,
        failures=failures,
    )


def shown(report: RunReport, *, show_locators: bool = False) -> str:
    return click.unstyle(summarise(report, show_locators=show_locators))


def a_failure(number: int, **changes: str) -> Failure:
    failure = Failure(
        f"1.2.{number}", "1.2", PACS, "refused", "A900", "The data set does not match.", "Ask."
    )
    return replace(failure, locator=f"/studies/{number}", **changes)


@pytest.mark.parametrize(
    ("level", "sentence", "colour"),
    [
        (Level.SENT, f"All 24 instances were sent to {PACS}. Nothing was verified.", "yellow"),
        (Level.PRESENT, "All 24 instances are present at", "green"),
        (Level.COMPLETE, "All 24 instances are complete at", "green"),
        (Level.COMMITTED, "All 24 instances are committed at", "green"),
        (Level.PROVEN, f"All 24 instances are proven at {PACS}: read back, and equal.", "green"),
    ],
)
def test_the_verdict_comes_first_and_a_claim_is_not_green(
    level: Level, sentence: str, colour: str
) -> None:
    text = summarise(
        a_report(Counts(selected=20, already_held=4, stored=20), level), show_locators=False
    )
    first = text.splitlines()[0]
    assert click.unstyle(first).startswith(sentence)
    assert first.startswith(click.style("x", fg=colour, bold=True).partition("x")[0])
    assert ("no proof" in text) is (level is Level.SENT)


def test_the_figures_follow() -> None:
    text = shown(a_report(Counts(selected=20, already_held=4, stored=20)))
    assert "20 stored, 4 held from before, 12.3 MB at the source, 12.0 MB transferred" in text
    assert "20260131-020000-9f3c61d2 (backup)" in text
    assert "/studies: 3 studies" in text
    assert "2 files, left where they are" in text
    assert "3.2 s (scan the source 0.2 s, deliver 1.5 s)" in text


def test_nothing_to_do_is_good_news() -> None:
    text = shown(a_report(Counts(already_held=24)))
    assert "All 24 instances are complete" in text
    assert "Nothing was left to do." in text


def test_an_empty_source_is_not_a_success() -> None:
    text = summarise(a_report(Counts()), show_locators=False)
    assert "holds no instances" in text
    assert click.style("x", fg="green", bold=True).partition("x")[0] not in text


def test_what_was_left_undone_is_counted() -> None:
    report = replace(a_report(Counts(selected=10, stored=4)), state=RunState.CANCELLED)
    assert f"6 of 10 instances were left undone for {PACS}." in shown(report)


def test_failures_are_grouped_and_only_the_first_are_named() -> None:
    refused = [a_failure(number) for number in range(30)]
    other = a_failure(99, code="association_lost", status="", hint="")
    report = a_report(Counts(selected=500, stored=469, failed=31), failures=(*refused, other))
    text = shown(report)
    assert text.startswith("31 of 500 instances did not reach “complete” at")
    assert f"  30 instances, {PACS}: The destination refused the instance [A900]" in text
    assert "    → Ask." in text
    assert f"  1 instance, {PACS}: The association was lost" in text
    assert "    1.2.19  file:" in text
    assert "1.2.20 " not in text
    assert "11 more instances are named by: dcmvault report 20260131-020000-9f3c61d2" in text
    assert "/studies/0" not in text


def test_file_names_are_for_the_operators_screen_and_cannot_steer_it() -> None:
    evil = replace(a_failure(1), locator="/studies/\x1b[2Jjane\u202egpj.dcm")
    report = replace(
        a_report(Counts(selected=2, stored=1, failed=1), failures=(evil,)),
        warnings=("\x1b[2Jwarned",),
    )
    text = shown(report, show_locators=True)
    assert "/studies/\\x1b[2Jjane\\u202egpj.dcm" in text
    assert "\\x1b[2Jwarned" in text
    assert "jane" not in shown(report)


def test_instances_that_deserve_a_word_are_warned_of() -> None:
    warned = replace(a_failure(7), message="Truncated pixel data.")
    report = replace(a_report(Counts(selected=1, stored=1)), warned=(warned,))
    assert "/studies/7: Truncated pixel data." in shown(report, show_locators=True)
    assert "Truncated pixel data." in shown(report)
    assert "/studies/7" not in shown(report)


def test_many_warnings_are_counted() -> None:
    report = replace(
        a_report(Counts(selected=1, stored=1)), warnings=tuple(f"w{n}" for n in range(25))
    )
    assert "and 5 more" in shown(report)


def test_where_nothing_arrived_for_one_reason_nobody_is_named() -> None:
    failures = tuple(a_failure(number, code="unreachable") for number in range(3))
    text = shown(a_report(Counts(selected=3, failed=3), failures=failures))
    assert "  3 instances, " in text
    assert "1.2.0" not in text


def test_what_planning_could_not_read_is_part_of_the_whole() -> None:
    lost = a_failure(1, code="vanished", hint="", status="")
    text = shown(a_report(Counts(already_held=16, unreadable=1), failures=(lost,)))
    assert text.startswith("1 of 17 instances did not reach")
    assert "16 held from before, 1 unreadable" in text
    assert "Nothing was left to do" not in text


def test_a_cancelled_run_is_no_failure() -> None:
    left = tuple(a_failure(number, code="cancelled") for number in range(6))
    report = a_report(Counts(selected=10, stored=4, failed=6), failures=left)
    text = shown(replace(report, state=RunState.CANCELLED))
    assert text.startswith(f"6 of 10 instances were left undone for {PACS}.")
    assert "failed" not in text


def test_a_vault_that_lost_snapshots_is_not_said_to_hold_anything() -> None:
    report = a_report(Counts(already_held=40))
    why = ("vault_set_back", "the vault is not what it was", "Is it the right disk?")
    (part,) = report.destinations
    text = shown(replace(report, destinations=(replace(part, snapshot_failure=why),)))
    assert "may be gone" in text.splitlines()[0]
    assert "Is it the right disk?" in text
    assert not any(lie in text for lie in ("complete", "Nothing was left", "copies are there"))
