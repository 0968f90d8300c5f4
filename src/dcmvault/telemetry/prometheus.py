"""Figures as text for Prometheus (exposition format 0.0.4), and the list of what is told.

Labels are configured names and numbers: never addresses, paths or anything of a patient. There is
one series for each destination, disk or open alert, so their number is bounded by what is
configured and used, whatever is backed up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a scraper may do with the values."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Metric:
    """One name: what it tells, in which unit (in its name), and by which labels."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()


#: A value, with those of its labels in the metric's order.
Value = tuple[tuple[str, ...], float]

_G, _C = Kind.GAUGE, Kind.COUNTER
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("dcmvault_info", _G, "The version; always 1.", ("version",)),
        Metric("dcmvault_working", _G, "Whether a process works in the state folder (0 or 1)."),
        Metric("dcmvault_start_time_seconds", _G, "When the process that works began (Unix time)."),
        Metric(
            "dcmvault_worker_silent_seconds",
            _G,
            "Seconds since a worker of several hosts said last that it lives.",
            ("worker", "role", "process"),
        ),
        Metric(
            "dcmvault_worker_running",
            _G,
            "Runs and bundles of jobs that a worker of several hosts carries out.",
            ("worker", "role", "process"),
        ),
        Metric(
            "dcmvault_moved_bytes_total",
            _C,
            "Bytes that went to a destination since the process that works began.",
            ("destination",),
        ),
        Metric(
            "dcmvault_throughput_bytes_per_second",
            _G,
            "Bytes that went to a destination in the last second.",
            ("destination",),
        ),
        Metric(
            "dcmvault_associations",
            _G,
            "Deliveries at work at a destination.",
            ("destination",),
        ),
        Metric(
            "dcmvault_jobs",
            _G,
            "Jobs that have not ended.",
            ("destination", "state"),
        ),
        Metric(
            "dcmvault_left_instances",
            _G,
            "Instances that runs are still to deliver to a destination.",
            ("destination",),
        ),
        Metric(
            "dcmvault_left_bytes",
            _G,
            "Bytes that runs are still to deliver to a destination.",
            ("destination",),
        ),
        Metric(
            "dcmvault_left_seconds",
            _G,
            "Seconds until that is done, at the pace of the last minute.",
            ("destination",),
        ),
        Metric("dcmvault_cpu_ratio", _G, "How busy all processors together are (0 to 1)."),
        Metric(
            "dcmvault_process_cpu_ratio", _G, "What of that the process that works takes (0 to 1)."
        ),
        Metric(
            "dcmvault_process_resident_memory_bytes",
            _G,
            "Resident memory of the process that works.",
        ),
        Metric("dcmvault_memory_available_bytes", _G, "Memory that the machine could still give."),
        Metric("dcmvault_disk_free_bytes", _G, "Room on a disk that is written to.", ("disk",)),
        Metric("dcmvault_disk_size_bytes", _G, "Size of a disk that is written to.", ("disk",)),
        Metric(
            "dcmvault_alert",
            _G,
            "An alert that is raised now; always 1.",
            ("code", "severity", "kind", "subject"),
        ),
        Metric(
            "dcmvault_source_studies",
            _G,
            "Studies that a source showed when last seen.",
            ("source",),
        ),
        Metric(
            "dcmvault_excluded_studies",
            _G,
            "Those of them that are excluded from backups.",
            ("source",),
        ),
        Metric(
            "dcmvault_source_instances",
            _G,
            "Instances that a source showed when last seen.",
            ("source",),
        ),
        Metric(
            "dcmvault_protected_studies",
            _G,
            "Studies of a source of which a destination holds every instance.",
            ("source", "destination"),
        ),
        Metric(
            "dcmvault_held_instances",
            _G,
            "Instances of a source that a destination holds.",
            ("source", "destination"),
        ),
        Metric(
            "dcmvault_verification_debt_instances",
            _G,
            "Copies without evidence of the asked level that is young enough.",
            ("source", "destination"),
        ),
        Metric(
            "dcmvault_oldest_evidence_seconds",
            _G,
            "Age of the oldest evidence about copies of a source.",
            ("source", "destination"),
        ),
        Metric(
            "dcmvault_last_success_timestamp_seconds",
            _G,
            "When the newest backup of a source ended in which everything reached its level (Unix"
            " time).",
            ("source",),
        ),
    )
}


def render(values: Mapping[str, Iterable[Value]]) -> str:
    """Write values by the names of their metrics, in the order of the list; KeyError for others."""
    for name in values:
        METRICS[name]
    lines: list[str] = []
    for metric in METRICS.values():
        some = sorted(values.get(metric.name, ()))
        if not some:
            continue
        lines += [
            f"# HELP {metric.name} {metric.about}",
            f"# TYPE {metric.name} {metric.kind.value}",
        ]
        for labels, value in some:
            pairs = ",".join(
                f'{label}="{_escaped(text)}"'
                for label, text in zip(metric.labels, labels, strict=True)
            )
            lines.append(f"{metric.name}{'{' + pairs + '}' if pairs else ''} {_number(value)}")
    return "\n".join(lines) + "\n" if lines else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isfinite(value) and value == int(value):
        return str(int(value))
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)
