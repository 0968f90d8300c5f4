"""The workers that share an installation, as people and programs see them."""

from __future__ import annotations

from collections.abc import Sequence

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.ports.workers import KnownWorker


def workers(workplace: Workplace) -> Sequence[KnownWorker]:
    """List them; none where an installation is of one host."""
    book = workplace.catalogue.workers
    return () if book is None else book.workers()


def worker_data(worker: KnownWorker, *, shows_places: bool = True) -> dict[str, object]:
    """Return one as plain data; places that it cannot reach may be left out."""
    identity, doing = worker.identity, worker.doing
    return {
        "name": identity.name,
        "role": identity.role,
        "process": identity.process,
        "version": identity.version,
        "started_at": worker.started_at.isoformat(timespec="milliseconds"),
        "beat_at": worker.beat_at.isoformat(timespec="milliseconds"),
        "silent_s": round(worker.silent_s, 1),
        "running": doing.running,
        "associations": sum(doing.associations.values()),
        "moved_bytes": sum(doing.moved.values()),
        "lacks": dict(doing.lacks) if shows_places else {},
    }
