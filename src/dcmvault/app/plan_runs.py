"""Plans as others start them: what is configured, and its runs, asked for at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dcmvault.app.backup import Started, requests_of_plan, start
from dcmvault.app.preview import Preview, preview
from dcmvault.app.wiring.workplace import Workplace


def start_plan(workplace: Workplace, name: str) -> list[Started]:
    """Ask for the runs of a configured plan, one for each source, without following them.

    Unfinished runs of the same requests are continued. Nothing is asked for where any of them is
    wrong: AddressError where there is no such plan, UsageError as `make_request`.
    """
    return [start(workplace, request) for request in requests_of_plan(workplace.settings, name)]


@dataclass(frozen=True, slots=True)
class ForetoldRun:
    """What one run of a plan would do."""

    source: str
    preview: Preview


def preview_plan(workplace: Workplace, name: str) -> Sequence[ForetoldRun]:
    """List each source of a plan and say what its run would do now; nothing is sent.

    AddressError where there is no such plan, UsageError as `make_request`.
    """
    requests = requests_of_plan(workplace.settings, name)
    return [ForetoldRun(one.source, preview(workplace, one)) for one in requests]
