"""What Prometheus is told: by its format, and by the list of metrics."""

from __future__ import annotations

import re

import pytest

from dcmvault.telemetry.prometheus import METRICS, Kind, render

_NAME = re.compile(r"dcmvault_[a-z_]+\Z")
_UNITS = ("_bytes", "_seconds", "_ratio", "_per_second", "_total", "_instances", "_studies")


def test_a_value_has_help_type_and_labels() -> None:
    text = render({"dcmvault_jobs": [(("pacs", "queued"), 3.0), (("pacs", "pending"), 0.5)]})
    assert text == (
        "# HELP dcmvault_jobs Jobs that have not ended.\n"
        "# TYPE dcmvault_jobs gauge\n"
        'dcmvault_jobs{destination="pacs",state="pending"} 0.5\n'
        'dcmvault_jobs{destination="pacs",state="queued"} 3\n'
    )


def test_labels_are_escaped() -> None:
    text = render({"dcmvault_associations": [(('a"b\\c\nd',), 1.0)]})
    assert text.endswith('dcmvault_associations{destination="a\\"b\\\\c\\nd"} 1\n')


def test_nothing_is_told_of_what_is_not_there() -> None:
    assert render({}) == render({"dcmvault_jobs": []}) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(float("inf"), "+Inf"), (float("-inf"), "-Inf"), (float("nan"), "NaN"), (1e18, str(10**18))],
)
def test_numbers_that_are_none_are_written_as_the_format_wants(value: float, text: str) -> None:
    assert render({"dcmvault_cpu_ratio": [((), value)]}).endswith(f"dcmvault_cpu_ratio {text}\n")


def test_a_metric_that_is_not_in_the_list_is_a_defect() -> None:
    with pytest.raises(KeyError):
        render({"dcmvault_other": [((), 1.0)]})
    with pytest.raises(ValueError, match="zip"):
        render({"dcmvault_jobs": [(("pacs",), 1.0)]})


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_names_follow_the_conventions(metric: object) -> None:
    """prometheus.io/docs/practices/naming: a prefix, base units, and counters end in _total."""
    from dcmvault.telemetry.prometheus import Metric

    assert isinstance(metric, Metric)
    assert _NAME.match(metric.name)
    assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total")
    assert metric.about.endswith((".", ")."))
    unitless = {"info", "working", "worker_running", "associations", "jobs", "alert"}
    assert metric.name.endswith(_UNITS) or metric.name.removeprefix("dcmvault_") in unitless
