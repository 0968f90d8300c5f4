"""When a source was last backed up with everything at its level."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from dcmvault.model.plan import RunKind
from dcmvault.model.report import RunState
from dcmvault.ports.catalogue import RunCatalogue

#: Runs among which the newest success is looked for.
_LOOKED_AT = 200


def last_success(
    runs: RunCatalogue, source: str, destinations: Collection[str] = ()
) -> datetime | None:
    """Return when the newest such backup of a source, to these destinations at least, ended.

    By their addresses; None where none of the newest runs was one.
    """
    for run in runs.runs(_LOOKED_AT):
        request = run.request
        if (
            request.kind is RunKind.BACKUP
            and request.source == source
            and run.state is RunState.FINISHED
            and set(destinations) <= {one.address for one in request.destinations}
            and runs.report(run.run_id, studies=False).exit_status == 0
        ):
            return run.finished_at
    return None
