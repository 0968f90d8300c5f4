"""Run requests as canonical JSON: equal requests are equal text."""

from __future__ import annotations

import json
from dataclasses import asdict

from dcmvault.model.evidence import Level
from dcmvault.model.job import Priority
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest, Sample, Strategy
from dcmvault.model.selection import Selection


def to_text(request: RunRequest) -> str:
    """Write a request as canonical JSON; a selection that leaves nothing out is not written."""
    fields = asdict(request)
    if request.selection.is_whole:
        del fields["selection"]
    if not request.accept_changes:  # as before it could be asked for
        del fields["accept_changes"]
    for destination in fields["destinations"]:
        if destination["sample"] is None:  # as before there were samples
            del destination["sample"]
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def from_text(text: str) -> RunRequest:
    """Read what `to_text` wrote; a field that a newer release added has its default."""
    fields = json.loads(text)
    fields["kind"] = RunKind(fields["kind"])
    fields["strategy"] = Strategy(fields["strategy"])
    fields["priority"] = Priority(fields["priority"])
    fields["destinations"] = tuple(
        DestinationRequest(
            one["address"],
            None if one["level"] is None else Level(one["level"]),
            Sample(**one["sample"]) if one.get("sample") else None,
        )
        for one in fields["destinations"]
    )
    if "selection" in fields:
        chosen = fields["selection"]
        for name, value in chosen.items():
            chosen[name] = tuple(value) if isinstance(value, list) else value
        fields["selection"] = Selection(**chosen)
    return RunRequest(**fields)
