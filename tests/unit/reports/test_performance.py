"""Each rule of the performance analysis fits at its threshold, and says what to change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcmvault.model.performance import Bottleneck
from dcmvault.model.report import RunReport
from dcmvault.reports.performance import (
    DESTINATION_RULES,
    LEAST_S,
    RUN_RULES,
    Rule,
    analyse,
    first_fitting,
    performance_object,
)
from dcmvault.reports.performance_words import (
    bottleneck_sentence,
    performance_blocks,
    what_to_change,
)
from dcmvault.reports.render import render
from dcmvault.testing import sample_reports

RULES = [*DESTINATION_RULES, *RUN_RULES]


def stages_at(rule: Rule, share: float) -> dict[str, float]:
    """Return seconds in which the rule's part is exactly this share of its whole, of 100 s."""
    others = [stage for stage in rule.whole if stage not in rule.part]
    first = rule.part[0]
    if first in rule.whole:
        return {first: 100 * share, others[-1]: 100 * (1 - share)}
    return {first: 100 * share, rule.whole[0]: 100.0}


@pytest.mark.parametrize("rule", RULES, ids=[rule.bottleneck.value for rule in RULES])
def test_a_rule_fits_at_its_threshold_and_not_below(rule: Rule) -> None:
    at, below = (stages_at(rule, rule.threshold + more) for more in (0.001, -0.001))
    found = first_fitting([rule], at)
    assert found is not None
    assert found.bottleneck is rule.bottleneck
    assert found.share == pytest.approx(rule.threshold + 0.001)
    assert first_fitting([rule], below) is None


@pytest.mark.parametrize("rule", RULES, ids=[rule.bottleneck.value for rule in RULES])
def test_no_share_is_more_than_all(rule: Rule) -> None:
    """Several deliveries at once, or several runs, add up to more seconds than passed."""
    stages = {**stages_at(rule, 1.0), rule.part[0]: 250.0}
    found = first_fitting([rule], stages)
    assert found is not None
    assert found.share <= 1
    assert found.seconds == 250
    words = bottleneck_sentence(found)
    assert "250 %" not in words
    assert ("beside each other" in words) == (found.share == 1)


@pytest.mark.parametrize("rule", RULES, ids=[rule.bottleneck.value for rule in RULES])
def test_of_a_short_run_nothing_is_said(rule: Rule) -> None:
    short = {stage: seconds * LEAST_S / 200 for stage, seconds in stages_at(rule, 1.0).items()}
    assert first_fitting([rule], short) is None


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        # A peer that answers slowly, whether or not it is also slow to take bytes.
        ({"read": 5, "deliver": 100, "send": 20, "wait": 170}, Bottleneck.ANSWERS),
        ({"read": 5, "deliver": 100, "send": 170, "wait": 20}, Bottleneck.NETWORK),
        # What was asked for explains what it slows down.
        ({"read": 5, "deliver": 100, "send": 20, "wait": 100, "paced": 90}, Bottleneck.BANDWIDTH),
        ({"read": 120, "deliver": 100, "encode": 70}, Bottleneck.READ),
        ({"read": 20, "deliver": 100, "encode": 70, "write": 80}, Bottleneck.ENCODE),
        ({"read": 20, "deliver": 100, "encode": 30, "write": 80}, Bottleneck.WRITE),
        ({"read": 5, "deliver": 20, "verify": 80, "wait": 19}, Bottleneck.VERIFY),
        ({"read": 20, "deliver": 100, "encode": 40, "write": 40}, None),
        ({}, None),
    ],
)
def test_what_is_told_of_a_destination(
    stages: dict[str, float], expected: Bottleneck | None
) -> None:
    found = first_fitting(DESTINATION_RULES, stages)
    assert (found and found.bottleneck) is expected


def report(**stages: float) -> RunReport:
    """Return a run with these seconds at its first destination, and few at the other."""
    good = sample_reports.good()
    first, second = good.destinations
    return replace(
        good,
        destinations=(
            replace(first, stages=stages),
            replace(second, stages={"read": 3.0, "deliver": 4.0}),
        ),
        stages={"scan": 1.0, "read": 8.0, "deliver": 104.0},
    )


def test_the_busiest_destination_speaks_for_the_run() -> None:
    told = analyse(report(read=5.0, deliver=100.0, send=20.0, wait=170.0))
    assert told.advice is not None
    assert (told.advice.bottleneck, told.destination) == (Bottleneck.ANSWERS, sample_reports.PACS)
    assert told.destinations[0].bytes_per_s == pytest.approx(252_000_000 / 105)
    assert told.destinations[1].advice is None


def test_a_run_that_only_looked_is_told_as_a_whole() -> None:
    told = analyse(replace(report(deliver=1.0), stages={"scan": 50.0, "plan": 5.0, "deliver": 1.0}))
    assert told.advice is not None
    assert (told.advice.bottleneck, told.destination) == (Bottleneck.SCAN, "")


@pytest.mark.parametrize("format_", ["html", "text"])
def test_the_report_names_it_with_figures_and_what_to_change(format_: str) -> None:
    text = render(report(read=5.0, deliver=100.0, send=20.0, wait=170.0), format_)
    flat = " ".join(text.split())
    assert "What took the time" in text
    assert "2 min 50 s, 89 % of send + wait for answers" in flat
    assert "TCP_NODELAY" in text


def test_each_bottleneck_has_its_advice() -> None:
    assert all(what_to_change(bottleneck) for bottleneck in Bottleneck)
    assert {rule.bottleneck for rule in RULES} == set(Bottleneck)


def test_of_runs_from_before_stages_were_written_down_nothing_is_told() -> None:
    assert list(performance_blocks(sample_reports.good())) == []
    told = performance_object(sample_reports.good())
    assert told["bottleneck"] is None
