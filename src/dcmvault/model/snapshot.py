"""Where files of a run come from, and the snapshot that a vault takes of what a run brought."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dcmvault.model.identifiers import RunId
from dcmvault.model.job import Priority


@dataclass(frozen=True, slots=True)
class Origin:
    """The run that delivers, and the canonical address of the source whose files it delivers.

    `priority` is that of the most urgent job among those that are delivered.
    """

    run_id: RunId
    source: str
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """A snapshot of a destination, as an outside witness remembers it.

    `snapshot_id` is the destination's own name of it. `generation` grows along the chain: a
    snapshot's is higher than that of each snapshot it follows. `created_at` is aware UTC.
    """

    snapshot_id: str
    generation: int
    created_at: datetime
