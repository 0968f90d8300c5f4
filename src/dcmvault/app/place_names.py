"""How sources and destinations are called on a page: by configured names where there are any."""

from __future__ import annotations

from dataclasses import dataclass, field

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.readable import as_source


@dataclass(slots=True)
class PlaceNames:
    """Names by address. An address may name a patient: `shows_addresses` to who may know."""

    workplace: Workplace
    shows_addresses: bool
    _names: dict[str, str] = field(default_factory=dict)
    _numbers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.workplace.settings
        for name, destination in settings.destinations.items():
            self._names[destination.section.address] = name
            self._names.setdefault(as_source(destination.section).address, name)
        for name, section in settings.sources.items():
            self._names[section.address] = name
        if not self.shows_addresses:
            status = self.workplace.catalogue.status
            self._numbers = {
                address: f"#{number}" for number, address in status.destinations().items()
            }
            self._numbers |= {one.name: f"#{one.source_id}" for one in status.sources()}

    def __call__(self, address: str) -> str:
        """Return how a place is called; an address that is hidden is a number, or a dash."""
        if address in self._names.values():
            return address
        if name := self._names.get(address):
            return name
        return address if self.shows_addresses else self._numbers.get(address, "–")

    def all_names(self) -> dict[str, str]:
        """Return the name of each address that has one, to put them into texts."""
        return self._numbers | self._names
