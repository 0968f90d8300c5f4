"""Metrics: the figures of now and of what is protected, for monitoring systems."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from dcmvault import __version__
from dcmvault.app.known_status import known_status
from dcmvault.app.monitoring import disk_paths, places_written_to
from dcmvault.app.names import Names
from dcmvault.app.status import SourceView
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.app.workers import workers
from dcmvault.model.alert import Alert, SubjectKind
from dcmvault.model.sample import Figure, Sample
from dcmvault.telemetry.live_file import Live, read_live
from dcmvault.telemetry.machine import disk_space
from dcmvault.telemetry.prometheus import Value, render
from dcmvault.telemetry.samples_csv import csv_lines

#: What is protected is counted anew so often at most: it takes a while where there is much.
_COUNTED_EACH = timedelta(minutes=5)

_JOB_STATES = {
    Figure.JOBS_PENDING: "pending",
    Figure.JOBS_QUEUED: "queued",
    Figure.JOBS_IN_PROGRESS: "in_progress",
    Figure.JOBS_VERIFYING: "verifying",
    Figure.JOBS_RETRYING: "retrying",
}
_BY_FIGURE = {
    Figure.BYTES_PER_S: "dcmvault_throughput_bytes_per_second",
    Figure.ASSOCIATIONS: "dcmvault_associations",
    Figure.INSTANCES_LEFT: "dcmvault_left_instances",
    Figure.BYTES_LEFT: "dcmvault_left_bytes",
    Figure.ETA_S: "dcmvault_left_seconds",
    Figure.CPU_SHARE: "dcmvault_cpu_ratio",
    Figure.PROCESS_CPU_SHARE: "dcmvault_process_cpu_ratio",
    Figure.MEMORY_BYTES: "dcmvault_process_resident_memory_bytes",
    Figure.MEMORY_AVAILABLE_BYTES: "dcmvault_memory_available_bytes",
    Figure.DISK_FREE_BYTES: "dcmvault_disk_free_bytes",
    Figure.DISK_TOTAL_BYTES: "dcmvault_disk_size_bytes",
}

_Values = dict[str, list[Value]]


def gather(workplace: Workplace) -> str:
    """Return all figures of now in Prometheus' text format."""
    now = workplace.clock.now()
    return render(_of_now(workplace, now) | _of_protection(workplace, now))


class WorkplaceMetrics:
    """Implements `ports.metrics.Metrics`: what takes a while is counted every few minutes."""

    def __init__(self, workplace: Callable[[], Workplace]) -> None:
        self._workplace = workplace
        self._lock = threading.Lock()
        self._counted: _Values = {}
        self._counted_at: datetime | None = None

    def render(self) -> str:
        """Return the present figures."""
        workplace = self._workplace()
        now = workplace.clock.now()
        return render(_of_now(workplace, now) | self._protection(workplace, now))

    def _protection(self, workplace: Workplace, now: datetime) -> _Values:
        with self._lock:
            then = self._counted_at
            if then is None or not timedelta(0) <= now - then < _COUNTED_EACH:
                self._counted = _of_protection(workplace, now)
                self._counted_at = now
            return self._counted


def _of_now(workplace: Workplace, now: datetime) -> _Values:
    live = read_live(workplace.home)
    if live is not None and not live.is_fresh(now):
        live = None
    values: _Values = defaultdict(list)
    values["dcmvault_info"] = [((__version__,), 1.0)]
    values["dcmvault_working"] = [((), float(live is not None))]
    if live is None:
        places = places_written_to(workplace.home, workplace.settings)
        for name, path in disk_paths(places).items():
            if (room := disk_space(path)) is not None:
                values["dcmvault_disk_free_bytes"].append(((name,), float(room.free)))
                values["dcmvault_disk_size_bytes"].append(((name,), float(room.total)))
    else:
        _add_live(values, live)
    for worker in workers(workplace):
        labels = (worker.identity.name, worker.identity.role, str(worker.identity.process))
        values["dcmvault_worker_silent_seconds"].append((labels, worker.silent_s))
        values["dcmvault_worker_running"].append((labels, float(worker.doing.running)))
    # Of several runs one series is left, and whoever reads takes no series twice.
    alerts = dict.fromkeys(map(_labels_of, workplace.catalogue.alerts.open_alerts()))
    if alerts:
        values["dcmvault_alert"] = [(labels, 1.0) for labels in alerts]
    return values


def _labels_of(alert: Alert) -> tuple[str, ...]:
    subject = alert.subject
    # Runs come and go without end: a series for each would never do.
    name = "" if subject.kind is SubjectKind.RUN else subject.name
    return (alert.code.value, alert.severity.value, subject.kind.value, name)


def _add_live(values: _Values, live: Live) -> None:
    values["dcmvault_start_time_seconds"] = [((), live.started_at.timestamp())]
    values["dcmvault_moved_bytes_total"] = [
        ((name,), float(size)) for name, size in live.moved.items()
    ]
    for sample in live.samples:
        if sample.subject.kind is not SubjectKind.RUN:
            _add_sample(values, sample)


def _add_sample(values: _Values, sample: Sample) -> None:
    name = sample.subject.name
    labels = (name,) if name else ()
    for figure, value in sample.figures.items():
        if figure in _JOB_STATES:
            values["dcmvault_jobs"].append(((name, _JOB_STATES[figure]), value))
        elif figure in _BY_FIGURE:
            values[_BY_FIGURE[figure]].append((labels, value))


def _of_protection(workplace: Workplace, now: datetime) -> _Values:
    names = Names(workplace.settings, workplace.catalogue.status.destinations)
    values: _Values = defaultdict(list)
    for view in known_status(workplace).views:
        source = names.source(view.source.name, view.source.source_id)
        values["dcmvault_source_studies"].append(((source,), float(view.source.studies)))
        values["dcmvault_excluded_studies"].append(((source,), float(view.excluded)))
        values["dcmvault_source_instances"].append(((source,), float(view.source.instances)))
        end = workplace.catalogue.notices.latest_end(view.source.name, (), good=True)
        if end is not None:
            labels = ((source,), end[1].timestamp())
            values["dcmvault_last_success_timestamp_seconds"].append(labels)
        _add_coverage(values, view, source, names, now)
    return values


def _add_coverage(
    values: _Values, view: SourceView, source: str, names: Names, now: datetime
) -> None:
    for one in view.coverage:
        labels = (source, names.destination(one.destination_id))
        debt = view.evidence[one.destination].debt.instances
        values["dcmvault_protected_studies"].append((labels, float(one.studies_protected)))
        values["dcmvault_held_instances"].append((labels, float(one.instances_held)))
        values["dcmvault_verification_debt_instances"].append((labels, float(debt)))
        if one.oldest_evidence_at is not None:
            age_s = (now - one.oldest_evidence_at).total_seconds()
            values["dcmvault_oldest_evidence_seconds"].append((labels, round(age_s)))


@dataclass(frozen=True, slots=True)
class Span:
    """Which samples are wanted: how long each is, and from when on."""

    span_s: int
    since: datetime


def export_samples(workplace: Workplace, span: Span, write: Callable[[str], object]) -> None:
    """Write samples as CSV, day by day, so that a year needs no memory."""
    now = workplace.clock.now()
    samples = workplace.catalogue.samples

    def pages() -> list[tuple[datetime, datetime]]:
        edges = [span.since]
        while edges[-1] <= now:
            edges.append(edges[-1] + timedelta(days=1))
        return list(pairwise(edges))

    found = (one for begin, end in pages() for one in samples.samples(span.span_s, begin, end))
    for line in csv_lines(found):
        write(line)


def write_textfile(path: Path, text: str) -> None:
    """Write a file for node_exporter in one piece, readable by all; OSError as it comes."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(path)
