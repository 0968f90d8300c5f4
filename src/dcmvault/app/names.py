"""How places are called where their address must not stand, as it may name a patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dcmvault.config.readable import as_source
from dcmvault.config.settings import Settings
from dcmvault.model.identifiers import DestinationId


@dataclass(slots=True)
class Names:
    """Configured names, else `#` and the catalogue's number.

    `known` tells the addresses of all destinations that were ever used.
    """

    settings: Settings
    known: Callable[[], Mapping[DestinationId, str]]
    _destinations: Mapping[DestinationId, str] = field(default_factory=dict)

    def destination(self, destination_id: DestinationId) -> str:
        """Return how a destination is called."""
        address = self._addresses(destination_id).get(destination_id, "")
        return self._configured(address) or f"#{destination_id}"

    def destination_at(self, address: str) -> str:
        """Return how the destination at an address is called; empty where it was never used."""
        if name := self._configured(address):
            return name
        for destination_id, known in self._addresses(address).items():
            if known == address:
                return f"#{destination_id}"
        return ""

    def address(self, name: str) -> str:
        """Return the address of what is called so, for an operator's own screen; else the name."""
        if not name.startswith("#"):
            return name
        destination_id = DestinationId(int(name.removeprefix("#")))
        return self._addresses(destination_id).get(destination_id, name)

    def source(self, address: str, number: int) -> str:
        """Return how the source at an address is called."""
        for name, section in self.settings.sources.items():
            if section.address == address:
                return name
        for name, destination in self.settings.destinations.items():
            if as_source(destination.section).address == address:
                return name
        return f"#{number}"

    def _configured(self, address: str) -> str:
        for name, destination in self.settings.destinations.items():
            if destination.section.address == address:
                return name
        return ""

    def _addresses(self, wanted: DestinationId | str) -> Mapping[DestinationId, str]:
        """Return the addresses that are known, asked for anew where what is wanted is not there."""
        if wanted not in self._destinations and wanted not in self._destinations.values():
            self._destinations = self.known()
        return self._destinations
