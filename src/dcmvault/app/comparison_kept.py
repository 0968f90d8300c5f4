"""A comparison whose findings outlive it: counts, what differs, what is missing, a CSV file."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dcmvault.app.backup import Started, start
from dcmvault.app.certificate import write_privately
from dcmvault.app.compare import CompareProgress, CompareRequest, Watch, comparison
from dcmvault.app.compare_act import delivery_requests
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.settings import Settings
from dcmvault.errors import RunInterruptedError
from dcmvault.i18n import gettext as _
from dcmvault.model.comparison import Depth, SideNotes, StudyComparison, Tally, Verdict
from dcmvault.model.plan import RunRequest
from dcmvault.reports import comparison_csv

#: Studies that are named beside the file, which names all.
MOST_NAMED = 200


@dataclass(frozen=True, slots=True)
class Findings:
    """What a comparison found."""

    #: As they were asked for, and as they are called.
    a: str
    b: str
    address_a: str
    address_b: str
    depth: Depth
    tally: Tally
    is_same: bool
    notes_a: SideNotes
    notes_b: SideNotes
    exceptions: tuple[StudyComparison, ...]
    exceptions_in_all: int
    #: Study Instance UIDs of which A has something that B has not, and their instances in A.
    missing: tuple[str, ...]
    missing_instances: int
    csv: Path


@dataclass(frozen=True, slots=True)
class Delivery:
    """What would be delivered to B."""

    requests: tuple[RunRequest, ...]
    studies: int
    #: At most: what B has of them already is not sent.
    instances: int

    @property
    def level(self) -> str:
        """The evidence level that is asked of B."""
        level = self.requests[0].destinations[0].level if self.requests else None
        return level.word if level is not None else ""


def compare_and_keep(
    settings: Settings, request: CompareRequest, csv: Path, watch: Watch, stop: threading.Event
) -> Findings:
    """Compare, and write every study into a CSV file (mode 0600).

    Raises what `comparison` raises, StateError where the file cannot be written, and
    RunInterruptedError when it is to stop.
    """

    def going(progress: CompareProgress) -> None:
        watch(progress)
        if stop.is_set():
            raise RunInterruptedError(
                _("The comparison was stopped."), hint=_("It changed nothing.")
            )

    with comparison(settings, request, going) as outcome:
        compared = outcome.compared
        write_privately(
            csv,
            lambda stream: comparison_csv.write(
                stream, compared.studies(), request.depth, outcome.not_found
            ),
        )
        lacking = [one for one in compared.studies() if one.missing_in_b]
        verdicts = compared.tally.verdicts
        return Findings(
            request.a,
            request.b,
            outcome.address_a,
            outcome.address_b,
            request.depth,
            compared.tally,
            outcome.exit_status == 0,
            outcome.notes_a,
            outcome.notes_b,
            tuple(islice(outcome.exceptions(), MOST_NAMED)),
            sum(verdicts.values()) - verdicts[Verdict.SAME],
            tuple(one.study_instance_uid for one in lacking),
            sum(one.a.instances or 0 for one in lacking if one.a is not None),
            csv,
        )


def delivery_of(settings: Settings, found: Findings) -> Delivery:
    """Say what would be delivered; UsageError where nothing can be delivered from A to B."""
    requests = delivery_requests(settings, found.a, found.b, found.missing)
    return Delivery(tuple(requests), len(found.missing), found.missing_instances)


def start_delivery(workplace: Workplace, delivery: Delivery) -> list[Started]:
    """Ask for the runs that deliver it, without following them."""
    return [start(workplace, request) for request in delivery.requests]
