"""What `dcmvault top` shows: tables on a terminal, lines elsewhere, one object for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dcmvault.app.as_data import alert_data
from dcmvault.app.top import Now
from dcmvault.app.workers import worker_data
from dcmvault.cli.alert_lines import alert_line
from dcmvault.i18n import format_bytes, format_duration, format_number, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.alert import AlertSeverity, SubjectKind
from dcmvault.model.sample import Figure, Sample
from dcmvault.ports.workers import KnownWorker
from dcmvault.reports.escaping import visible

_JOBS = (
    Figure.JOBS_PENDING,
    Figure.JOBS_QUEUED,
    Figure.JOBS_IN_PROGRESS,
    Figure.JOBS_VERIFYING,
    Figure.JOBS_RETRYING,
)


def now_object(now: Now) -> dict[str, object]:
    """Return everything for programs; figures have the names and units of the reference."""
    return {
        "at": now.at.isoformat(timespec="milliseconds"),
        "working": now.live is not None,
        "process": now.live.process if now.live is not None else None,
        "samples": [
            {
                "kind": sample.subject.kind.value,
                "subject": sample.subject.name,
                **{figure.value: value for figure, value in sample.figures.items()},
            }
            for sample in now.samples
        ],
        "alerts": [alert_data(alert) for alert in now.alerts],
        "workers": [worker_data(worker) for worker in now.workers],
        "exit_status": 0,
    }


def lines(now: Now) -> Iterable[str]:
    """Say what goes on in a few lines, for where there is no terminal."""
    time = now.at.astimezone().strftime("%H:%M:%S")
    if now.live is None:
        yield f"{time}  " + _("nobody works here now")
    for machine in now.of_kind(SubjectKind.MACHINE):
        yield f"{time}  {_machine_words(machine.figures)}"
    for sample in now.of_kind(SubjectKind.DESTINATION):
        words = ", ".join(_destination_words(sample.figures))
        yield f"{time}  {visible(now.addresses.get(sample.subject.name, ''))}: {words}"
    for worker in now.workers:
        yield f"{time}  {visible(worker.identity.name)}: {', '.join(_worker_words(worker))}"
        for place, why in worker.doing.lacks.items():
            words = _("it leaves %(place)s to others: %(why)s")
            yield f"{time}    " + words % {"place": visible(place), "why": sentence(why)}
    for alert in now.shown_alerts:
        yield f"{time}  {alert_line(alert, now.at)}"


def _worker_words(worker: KnownWorker) -> Iterable[str]:
    yield _("%s at work") % format_number(worker.doing.running)
    if associations := sum(worker.doing.associations.values()):
        yield _("%s associations") % format_number(associations)
    yield _("heard of %s ago") % format_duration(worker.silent_s)


def _machine_words(figures: Mapping[Figure, float]) -> str:
    words = []
    if Figure.CPU_SHARE in figures:
        words.append(_("processors %s %%") % format_number(100 * figures[Figure.CPU_SHARE]))
    if Figure.PROCESS_CPU_SHARE in figures:
        share = format_number(100 * figures[Figure.PROCESS_CPU_SHARE])
        words.append(_("of that dcmvault %s %%") % share)
    if Figure.MEMORY_BYTES in figures:
        words.append(_("memory %s") % format_bytes(figures[Figure.MEMORY_BYTES]))
    if Figure.MEMORY_AVAILABLE_BYTES in figures:
        words.append(_("%s left") % format_bytes(figures[Figure.MEMORY_AVAILABLE_BYTES]))
    return ", ".join(words)


def _destination_words(figures: Mapping[Figure, float]) -> Iterable[str]:
    if Figure.BYTES_PER_S in figures:
        yield f"{format_bytes(figures[Figure.BYTES_PER_S])}/s"
    if Figure.INSTANCES_PER_S in figures:
        yield _("%s instances/s") % format_number(figures[Figure.INSTANCES_PER_S])
    if figures.get(Figure.ASSOCIATIONS):
        yield _("%s associations") % format_number(figures[Figure.ASSOCIATIONS])
    if any(figures.get(figure) for figure in _JOBS):
        waiting, working = _job_counts(figures)
        yield _("%(working)s jobs at work, %(waiting)s waiting") % {
            "working": format_number(working),
            "waiting": format_number(waiting),
        }
    if figures.get(Figure.INSTANCES_LEFT):
        yield _("%s instances left") % format_number(figures[Figure.INSTANCES_LEFT])
    if figures.get(Figure.ETA_S):
        yield _("%s left") % format_duration(figures[Figure.ETA_S])


def _job_counts(figures: Mapping[Figure, float]) -> tuple[float, float]:
    working = {Figure.JOBS_IN_PROGRESS, Figure.JOBS_VERIFYING}
    return (
        sum(figures.get(figure, 0.0) for figure in _JOBS if figure not in working),
        sum(figures.get(figure, 0.0) for figure in working),
    )


def screen(now: Now) -> RenderableType:
    """Draw everything for a terminal."""
    parts: list[RenderableType] = [_head(now)]
    if destinations := now.of_kind(SubjectKind.DESTINATION):
        parts += [Text(), _destinations(now, destinations)]
    if runs := now.of_kind(SubjectKind.RUN):
        parts += [Text(), _runs(runs)]
    if disks := now.of_kind(SubjectKind.DISK):
        parts += [Text(), _disks(disks)]
    if now.workers:
        parts += [Text(), _workers(now.workers)]
    if now.shown_alerts:
        parts.append(Text())
    for alert in now.shown_alerts:
        is_critical = alert.severity is AlertSeverity.CRITICAL
        parts.append(Text(alert_line(alert, now.at), style="red" if is_critical else "yellow"))
    return Group(*parts)


def _head(now: Now) -> Text:
    time = now.at.astimezone().strftime("%H:%M:%S")
    text = Text(f"dcmvault  {time}  ", style="bold")
    if now.live is None:
        return text.append(_("nobody works here now"), style="not bold")
    words = [_machine_words(machine.figures) for machine in now.of_kind(SubjectKind.MACHINE)]
    return text.append(", ".join(words), style="not bold")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(columns[0], overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _destinations(now: Now, samples: Iterable[Sample]) -> Table:
    table = _table(
        _("Destination"),
        _("per second"),
        _("associations"),
        _("at work"),
        _("waiting"),
        _("left"),
        _("ready in"),
    )
    for sample in samples:
        figures = sample.figures
        waiting, working = _job_counts(figures)
        table.add_row(
            Text(visible(now.addresses.get(sample.subject.name, ""))),
            _bytes(figures, Figure.BYTES_PER_S),
            _number(figures, Figure.ASSOCIATIONS),
            format_number(working),
            format_number(waiting),
            _number(figures, Figure.INSTANCES_LEFT),
            _duration(figures),
        )
    return table


def _runs(samples: Iterable[Sample]) -> Table:
    table = _table(_("Run"), _("instances/s"), _("left"), _("bytes left"), _("ready in"))
    for sample in samples:
        figures = sample.figures
        table.add_row(
            Text(visible(sample.subject.name)),
            _number(figures, Figure.INSTANCES_PER_S),
            _number(figures, Figure.INSTANCES_LEFT),
            _bytes(figures, Figure.BYTES_LEFT),
            _duration(figures),
        )
    return table


def _disks(samples: Iterable[Sample]) -> Table:
    table = _table(_("Disk"), _("free"), _("size"))
    for sample in samples:
        table.add_row(
            Text(visible(sample.subject.name)),
            _bytes(sample.figures, Figure.DISK_FREE_BYTES),
            _bytes(sample.figures, Figure.DISK_TOTAL_BYTES),
        )
    return table


def _workers(workers: Iterable[KnownWorker]) -> Table:
    table = _table(_("Worker"), _("at work"), _("associations"), _("heard of"), _("leaves"))
    for worker in workers:
        table.add_row(
            Text(visible(worker.identity.name)),
            format_number(worker.doing.running),
            format_number(sum(worker.doing.associations.values())),
            _("%s ago") % format_duration(worker.silent_s),
            Text(visible(", ".join(worker.doing.lacks))),
        )
    return table


def _number(figures: Mapping[Figure, float], figure: Figure) -> str:
    return format_number(figures[figure]) if figure in figures else ""


def _bytes(figures: Mapping[Figure, float], figure: Figure) -> str:
    return format_bytes(figures[figure]) if figure in figures else ""


def _duration(figures: Mapping[Figure, float]) -> str:
    return format_duration(figures[Figure.ETA_S]) if Figure.ETA_S in figures else ""
