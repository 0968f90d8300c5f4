"""Which adapter stands behind a destination's section."""

from __future__ import annotations

import time
from collections.abc import Callable

from dcmvault.app.wiring.clock import Sleep, SystemClock
from dcmvault.app.wiring.stores import open_vault_at
from dcmvault.config import secrets
from dcmvault.config.peer_sections import DimseDestinationSection, StowDestinationSection
from dcmvault.config.plugin_sections import PluginDestinationSection
from dcmvault.config.plugins import PluginGroup, plugin
from dcmvault.config.sections import (
    DestinationSection,
    FolderDestinationSection,
    RetrySection,
    VaultDestinationSection,
)
from dcmvault.model.evidence import Level
from dcmvault.ports.clock import Clock
from dcmvault.ports.destination import Destination
from dcmvault.ports.pacing import Pacing
from dcmvault.ports.surroundings import Surroundings

#: For whoever wants to know at once.
NO_RETRY = RetrySection(attempts=1)


def default_level(section: DestinationSection) -> Level:
    """Return the level that its adapter asks for by default; only a plug-in's is made for that."""
    if isinstance(section, PluginDestinationSection):
        return build_destination(section, SystemClock()).default_level
    return Level.PROVEN if isinstance(section, FolderDestinationSection) else Level.COMPLETE


def build_destination(
    section: DestinationSection,
    clock: Clock,
    holds_copies: Callable[[], bool] | None = None,
    retry: RetrySection | None = None,
    known_snapshots: Callable[[], list[str]] = list,
    sleep: Sleep = time.sleep,
    pacing: Pacing | None = None,
) -> Destination:
    """Make the adapter for a destination's section.

    `holds_copies` tells what the catalogue knows: whether copies were stored there before;
    `known_snapshots` which snapshots should be there. `retry` and `sleep` are as for
    `open_vault_store`. `pacing` limits how fast it is sent to.
    """
    if isinstance(section, DimseDestinationSection):
        from dcmvault.destinations.dimse import DimseDestination  # noqa: PLC0415 - when needed

        return DimseDestination(section, clock, pacing)
    if isinstance(section, StowDestinationSection):
        from dcmvault.destinations.stow import StowDestination  # noqa: PLC0415 - when needed

        return StowDestination(section, clock, pacing)
    if isinstance(section, VaultDestinationSection):
        from dcmvault.destinations.vault import VaultDestination  # noqa: PLC0415 - when needed

        return VaultDestination(
            section,
            lambda: open_vault_at(section, clock, retry, sleep, pacing),
            clock,
            known_snapshots,
            pacing,
        )
    if isinstance(section, PluginDestinationSection):
        found = plugin(PluginGroup.DESTINATIONS, section.scheme)
        assert found is not None  # its section was made by it
        surroundings = Surroundings(clock, secrets.resolve, pacing, holds_copies)
        destination: Destination = found.build(section, surroundings)
        return destination
    from dcmvault.destinations.folder import FolderDestination  # noqa: PLC0415 - when needed
    from dcmvault.object_stores.local import LocalStore  # noqa: PLC0415 - when needed

    store = LocalStore(section.path, clock)
    return FolderDestination(section, store, clock, holds_copies, pacing)
