"""Lines of the journal that fit what is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dcmvault.audit.chain import Position, check
from dcmvault.model.journal import AuditQuery


def search(folder: Path, query: AuditQuery) -> Iterator[tuple[Mapping[str, Any], bytes]]:
    """Yield the lines that fit, oldest first: what each says, and its bytes."""
    for checked in check(folder, Position(1, 0, 0, "")):
        if checked.record is None:
            continue
        record = _of_our_kinds(checked.record)
        if query.fits(record):
            yield record, checked.line.raw


def _of_our_kinds(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a line says with each part of the kind that ours have, whatever it was made.

    A line that somebody changed is found and shown like others; that it was is for `verify` to say.
    """
    actor, details = record.get("actor", {}), record.get("details", {})
    uids = record.get("study_instance_uids", [])
    if not isinstance(actor, dict):
        actor = {"name": actor}
    if not isinstance(details, dict):
        details = {"details": details}
    if not isinstance(uids, list):
        uids = [uids]
    told: dict[str, Any] = {"actor": {name: str(value) for name, value in actor.items()}}
    told |= {"details": details} if details else {}
    told |= {"study_instance_uids": list(map(str, uids))} if uids else {}
    told["event"] = str(record["event"])
    return {**record, **told}
