from __future__ import annotations

import json
from dataclasses import replace

from dcmvault.app.backup import Followed
from dcmvault.cli.pace import Pace
from dcmvault.cli.progress import JsonLines, PlainLines, sentence, shown
from dcmvault.model.report import RunState
from dcmvault.ports.catalogue import RunProgress

PLANNING = RunProgress(RunState.PLANNING, 0, 0, 0, 0, 0, 0, scanned=1234)
RUNNING = RunProgress(
    RunState.RUNNING,
    items=1000,
    settled=0,
    sent=0,
    failed=0,
    bytes=100_000_000,
    settled_bytes=0,
    scanned=1234,
)


class Ticks:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rates_and_eta_come_from_the_last_seconds() -> None:
    pace = Pace()
    assert pace.observe(0.0, RUNNING).eta_s is None
    for second in range(1, 31):
        done = 10 * second if second <= 10 else 100 + 20 * (second - 10)
        standing = pace.observe(
            float(second), replace(RUNNING, settled=done, settled_bytes=done * 100_000)
        )
    assert standing.done == 500
    assert standing.instances_per_s == 20
    assert standing.bytes_per_s == 2_000_000
    assert standing.eta_s == 25


def test_what_is_delivered_counts_before_it_is_verified() -> None:
    pace = Pace()
    pace.observe(0.0, RUNNING)
    standing = pace.observe(10.0, replace(RUNNING, sent=500, failed=100))
    assert standing.done == 600
    assert standing.done_bytes == 60_000_000
    assert standing.eta_s is not None


def test_a_finished_run_has_nothing_left() -> None:
    pace = Pace()
    pace.observe(0.0, RUNNING)
    done = replace(RUNNING, settled=1000, settled_bytes=100_000_000)
    assert pace.observe(1.0, done).eta_s is None


def test_rates_without_bytes() -> None:
    pace = Pace()
    pace.observe(0.0, replace(RUNNING, bytes=0))
    standing = pace.observe(10.0, replace(RUNNING, bytes=0, settled=100))
    assert standing.eta_s == 90


def test_the_sentence_says_where_a_run_stands() -> None:
    pace = Pace()
    assert sentence(PLANNING, pace.observe(0.0, PLANNING)) == (
        "Looking at the source: 1,234 files listed"
    )
    pace = Pace()
    pace.observe(0.0, RUNNING)
    now = replace(RUNNING, settled=250, settled_bytes=25_000_000, failed=3)
    assert sentence(now, pace.observe(10.0, now)) == (
        "250 of 1,000 instances (25 %), 30 s left, 25 instances/s, 2.5 MB/s, 3 failed"
    )


def test_what_is_delivered_and_not_settled_is_being_verified() -> None:
    now = replace(RUNNING, sent=1000, settled=500)
    assert sentence(now, Pace().observe(0.0, now)) == (
        "1,000 of 1,000 instances (100 %), verifying"
    )


def test_plain_lines_are_few() -> None:
    lines: list[str] = []
    clock = Ticks()
    watch = PlainLines(lines.append, Pace(), clock)
    for step in range(100):
        watch(Followed(replace(RUNNING, settled=step), True))
        clock.now += 0.2
    assert len(lines) == 4
    watch(Followed(replace(RUNNING, settled=1000, state=RunState.FINISHED), True))
    assert lines[-1].startswith("1,000 of 1,000 instances (100 %)")


def test_plain_lines_say_who_works() -> None:
    lines: list[str] = []
    watch = PlainLines(lines.append, Pace(), Ticks())
    watch(Followed(PLANNING, False))
    watch(Followed(PLANNING, False))
    assert lines[0] == "Another process does this work; following it."
    assert len(lines) == 2


def test_json_lines_are_objects() -> None:
    lines: list[str] = []
    clock = Ticks()
    watch = JsonLines(lines.append, Pace(), clock)
    for _step in range(10):
        watch(Followed(RUNNING, True))
        clock.now += 0.2
    assert len(lines) == 2
    first = json.loads(lines[0])
    assert first["event"] == "progress"
    assert (first["items"], first["eta_s"], first["working"]) == (1000, None, True)


def test_nothing_is_shown_where_nothing_is_asked() -> None:
    with shown("none") as watch:
        watch(Followed(RUNNING, True))


def test_in_a_verification_only_what_is_settled_is_done() -> None:
    pace = Pace(delivers=False)
    verifying = replace(RUNNING, sent=1000)
    pace.observe(0.0, verifying)
    now = replace(verifying, settled=250, sent=750, settled_bytes=25_000_000)
    assert sentence(now, pace.observe(10.0, now)) == (
        "250 of 1,000 instances (25 %), 30 s left, 25 instances/s, 2.5 MB/s"
    )


def test_a_run_with_nothing_due_has_no_percentage() -> None:
    idle = replace(RUNNING, items=0, bytes=0, state=RunState.FINISHED)
    assert sentence(idle, Pace().observe(0.0, idle)) == "Nothing is due"


def test_a_slow_rate_is_not_zero() -> None:
    pace = Pace()
    pace.observe(0.0, RUNNING)
    now = replace(RUNNING, settled=4, settled_bytes=400_000)
    assert "0.4 instances/s" in sentence(now, pace.observe(10.0, now))


def test_who_waits_is_told_of_a_paused_destination_once() -> None:
    lines: list[str] = []
    clock = Ticks()
    watch = PlainLines(lines.append, Pace(), clock)
    pacs = "dicom://A@h:1?calling=B"
    for paused in ((pacs,), (pacs,), ()):
        watch(Followed(RUNNING, True, paused))
        clock.now += 0.2
    told = [line for line in lines if pacs in line]
    assert told == [
        f"{pacs} is paused. To go on: dcmvault queue resume '{pacs}'",
        f"{pacs} is taken up again.",
    ]


def test_who_waits_is_told_that_the_next_attempt_is_waited_for() -> None:
    line = sentence(RUNNING, Pace().observe(0.0, RUNNING), retrying=True)
    assert line.endswith("waiting before the next attempt")
