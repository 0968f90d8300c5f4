"""What the API tells a viewer of places: names or numbers, for a path may name a patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dcmvault.app.place_names import PlaceNames
from dcmvault.model.report import RunReport
from dcmvault.reports.redaction import with_names
from dcmvault.web.backstage import Backstage
from dcmvault.web.roles import Role
from dcmvault.web.visitors import Visitor

_PLACE = frozenset({"source", "destination"})
_PLACES = frozenset({"sources", "destinations"})
#: Words of an error, which may tell a path.
_WORDS = frozenset({"problem", "message", "hint"})


@dataclass(frozen=True, slots=True)
class Hiding:
    """Calls places in answers by what may be told; without names everything stays as it is."""

    names: PlaceNames | None

    def __call__(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Return an answer of the API, or an event, as it may be told."""
        return dict(told) if self.names is None else {key: self._at(key, told[key]) for key in told}

    def report(self, report: RunReport) -> RunReport:
        """Return a report as it may be told, beside what its privacy takes away."""
        return report if self.names is None else with_names(report, self.names.all_names())

    def _at(self, key: str, value: Any) -> Any:
        assert self.names is not None
        if isinstance(value, str):
            if key in _WORDS:
                return ""
            return self.names(value) if key in _PLACE else value
        if isinstance(value, Mapping):
            return self(value)
        if isinstance(value, list | tuple):
            return [self._one(key, one) for one in value]
        return value

    def _one(self, key: str, one: Any) -> Any:
        assert self.names is not None
        if isinstance(one, Mapping):
            told = self(one)
            if key in _PLACES and isinstance(one.get("name"), str):
                told["name"] = self.names(one["name"])
            return told
        return self.names(one) if key in _PLACES and isinstance(one, str) else one


def hiding_for(behind: Backstage, visitor: Visitor) -> Hiding:
    """Return what is hidden from somebody. Asks the catalogue, for a viewer."""
    if visitor.role.may(Role.OPERATOR):
        return Hiding(None)
    return Hiding(PlaceNames(behind.workplace, shows_addresses=False))
