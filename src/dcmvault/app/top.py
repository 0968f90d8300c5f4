"""What goes on right now, from whichever process works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from dcmvault.app.names import Names
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.app.workers import workers
from dcmvault.model.alert import Alert, Subject, SubjectKind
from dcmvault.model.sample import Figure, Sample
from dcmvault.ports.workers import KnownWorker
from dcmvault.telemetry.live_file import Live, read_live
from dcmvault.telemetry.sampling import JOB_FIGURES, Left


@dataclass(frozen=True, slots=True)
class Now:
    """The figures of one moment. `live` is None where no process works: then only work is known."""

    at: datetime
    live: Live | None
    samples: Sequence[Sample]
    alerts: Sequence[Alert]
    #: The same with addresses, for the operator's own screen.
    shown_alerts: Sequence[Alert] = ()
    #: Addresses of destinations by the names in samples, for the operator's own screen.
    addresses: Mapping[str, str] = field(default_factory=dict)
    #: Those that share the installation, where several hosts do.
    workers: Sequence[KnownWorker] = ()

    def of_kind(self, kind: SubjectKind) -> list[Sample]:
        """List the samples about such things."""
        return [sample for sample in self.samples if sample.subject.kind is kind]


def open_alerts(workplace: Workplace) -> list[Alert]:
    """List what is raised now, critical ones first."""
    return workplace.catalogue.alerts.open_alerts()


def with_addresses(workplace: Workplace, alerts: Sequence[Alert]) -> list[Alert]:
    """Put addresses where there is no configured name, for the operator's own screen only."""
    status = workplace.catalogue.status
    addresses = {
        Subject(SubjectKind.DESTINATION, f"#{key}"): address
        for key, address in status.destinations().items()
    } | {
        Subject(SubjectKind.SOURCE, f"#{source.source_id}"): source.name
        for source in status.sources()
    }
    return [
        replace(one, subject=replace(one.subject, name=addresses[one.subject]))
        if one.subject in addresses
        else one
        for one in alerts
    ]


def now(workplace: Workplace) -> Now:
    """Look at what the process that works says, and at the catalogue where none does."""
    at = workplace.clock.now()
    live = read_live(workplace.home)
    if live is not None and not live.is_fresh(at):
        live = None
    names = Names(workplace.settings, workplace.catalogue.status.destinations)
    samples = _waiting(workplace, names, at) if live is None else live.samples
    alerts = open_alerts(workplace)
    return Now(
        at,
        live,
        samples,
        alerts,
        with_addresses(workplace, alerts) if alerts else [],
        {
            sample.subject.name: names.address(sample.subject.name)
            for sample in samples
            if sample.subject.kind is SubjectKind.DESTINATION
        },
        workers(workplace),
    )


def _waiting(workplace: Workplace, names: Names, at: datetime) -> list[Sample]:
    """Say what is left to do, where nobody does it."""
    work = workplace.catalogue.work
    figures: dict[str, dict[Figure, float]] = {}
    for destination_id, counts in work.open_jobs().items():
        figures[names.destination(destination_id)] = {
            figure: float(counts.get(state, 0)) for state, figure in JOB_FIGURES.items()
        }
    runs = work.unfinished_runs()
    for destination_id in {run.destination_id for run in runs}:
        left = Left.of(run for run in runs if run.destination_id == destination_id)
        figures.setdefault(names.destination(destination_id), {}).update(
            {
                Figure.INSTANCES_LEFT: float(left.items - left.done),
                Figure.BYTES_LEFT: float(max(left.bytes - left.done_bytes, 0)),
            }
        )
    return [
        Sample(at, Subject(SubjectKind.DESTINATION, name), some)
        for name, some in sorted(figures.items())
    ]
