"""Run requests as canonical JSON: equal requests are equal text."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from dcmvault.model.classification import Conditions
from dcmvault.model.evidence import Level
from dcmvault.model.job import Priority
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest, Sample, Strategy
from dcmvault.model.routing import Routing, RoutingMode, RoutingRule
from dcmvault.model.selection import Selection


def to_text(request: RunRequest) -> str:
    """Write a request as canonical JSON; a selection that leaves nothing out is not written."""
    fields = asdict(request)
    # What says nothing is left out, as before there was any of it.
    if request.selection.is_whole:
        del fields["selection"]
    if request.routing.is_plain:
        del fields["routing"]
    if not request.max_studies:
        del fields["max_studies"]
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
    if "routing" in fields:
        fields["routing"] = _routing(fields["routing"])
    return RunRequest(**fields)


def _routing(fields: dict[str, Any]) -> Routing:
    rules = []
    for rule in fields["rules"]:
        asked: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in rule["conditions"].items()
        }
        rules.append(RoutingRule(Conditions(**asked), tuple(rule["to"]), RoutingMode(rule["mode"])))
    return Routing(RoutingMode(fields["mode"]), tuple(rules))
