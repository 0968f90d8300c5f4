"""The bottleneck of a run, by rules over its recorded seconds: a table of shares and thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcmvault.model.performance import Advice, Bottleneck, DestinationPerformance, Performance
from dcmvault.model.report import DestinationReport, RunReport

#: Seconds of work below which nothing is concluded.
LEAST_S = 2.0


@dataclass(frozen=True, slots=True)
class Rule:
    """It fits where `part` is at least `threshold` of `whole`, both sums of stages (seconds)."""

    bottleneck: Bottleneck
    part: tuple[str, ...]
    whole: tuple[str, ...]
    threshold: float


#: Of a destination's part. The first that fits is what is told: a limit that was asked for comes
#: before what it slows down, and what is inside of a delivery before the delivery. `encode` and
#: `write` are inside of `deliver`, and so are `paced`, `send` and `wait`, which are sums over
#: associations.
DESTINATION_RULES: Sequence[Rule] = (
    Rule(Bottleneck.VERIFY, ("verify",), ("read", "deliver", "verify"), 0.6),
    Rule(Bottleneck.BANDWIDTH, ("paced",), ("paced", "send", "wait"), 0.4),
    Rule(Bottleneck.READ, ("read",), ("read", "deliver"), 0.5),
    Rule(Bottleneck.ENCODE, ("encode",), ("deliver",), 0.6),
    Rule(Bottleneck.WRITE, ("write",), ("deliver",), 0.6),
    Rule(Bottleneck.ANSWERS, ("wait",), ("paced", "send", "wait"), 0.6),
    Rule(Bottleneck.NETWORK, ("send",), ("paced", "send", "wait"), 0.6),
)
#: Of the run as a whole, where nothing of a destination is larger.
RUN_RULES: Sequence[Rule] = (
    Rule(Bottleneck.SCAN, ("scan", "plan"), ("scan", "plan", "read", "deliver", "verify"), 0.5),
)


def analyse(report: RunReport) -> Performance:
    """Say where the time went. A run whose parts have no stages of their own is told as a whole."""
    parts = tuple(map(_analysed, report.destinations))
    advice = first_fitting(RUN_RULES, report.stages)
    where = ""
    if advice is None:
        busiest = max(parts, key=_busy_s, default=None)
        if busiest is not None and busiest.advice is not None:
            advice, where = busiest.advice, busiest.name
    return Performance(report.stages, parts, advice, where)


def first_fitting(rules: Sequence[Rule], stages: Mapping[str, float]) -> Advice | None:
    """Return the first rule that fits, with its figures; None where nothing stands out."""
    for rule in rules:
        part = sum(stages.get(stage, 0.0) for stage in rule.part)
        whole = sum(stages.get(stage, 0.0) for stage in rule.whole)
        if whole >= LEAST_S and part / whole >= rule.threshold:
            names = (_sum_of(rule.part, stages), _sum_of(rule.whole, stages))
            # What ran beside each other adds up to more seconds than passed.
            share = min(part / whole, 1.0)
            return Advice(rule.bottleneck, share, part, *names, rule.threshold)
    return None


def _sum_of(wanted: Sequence[str], stages: Mapping[str, float]) -> str:
    """Name the stages that count in a sum."""
    return " + ".join(stage for stage in wanted if stages.get(stage))


def _analysed(part: DestinationReport) -> DestinationPerformance:
    seconds = part.stages.get("read", 0.0) + part.stages.get("deliver", 0.0)
    moved = part.transferred_bytes
    return DestinationPerformance(
        name=part.name,
        stages=part.stages,
        instances=part.counts.stored,
        transferred_bytes=moved,
        bytes_per_s=moved / seconds if seconds and moved else None,
        advice=first_fitting(DESTINATION_RULES, part.stages),
    )


def _busy_s(part: DestinationPerformance) -> float:
    return sum(part.stages.get(stage, 0.0) for stage in ("read", "deliver", "verify"))


def performance_object(report: RunReport) -> dict[str, object]:
    """Return the analysis, ready for JSON."""
    told = analyse(report)
    return {
        "bottleneck": _advice(told.advice),
        "destination": told.destination or None,
        "destinations": [
            {
                "name": part.name,
                "stages": {stage: round(seconds, 3) for stage, seconds in part.stages.items()},
                "bytes_per_s": None if part.bytes_per_s is None else round(part.bytes_per_s, 1),
                "bottleneck": _advice(part.advice),
            }
            for part in told.destinations
        ],
    }


def _advice(advice: Advice | None) -> dict[str, object] | None:
    if advice is None:
        return None
    return {
        "kind": advice.bottleneck.value,
        "seconds": round(advice.seconds, 3),
        "share": round(advice.share, 3),
        "part": advice.part,
        "whole": advice.whole,
        "threshold": advice.threshold,
    }
