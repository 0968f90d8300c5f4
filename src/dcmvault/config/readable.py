"""A place that is read, whether it is a source, a destination, or an address of either."""

from __future__ import annotations

from typing import TypeVar

from dcmvault.config.addresses import source_section
from dcmvault.config.options import Section
from dcmvault.config.peer_sections import (
    DicomwebPeerSection,
    DicomwebSourceSection,
    DimseDestinationSection,
    DimsePeerSection,
    DimseSourceSection,
    StowDestinationSection,
)
from dcmvault.config.plugin_sections import NotReadableSection, PluginDestinationSection
from dcmvault.config.sections import (
    DestinationSection,
    FolderSourceSection,
    SourceSection,
    VaultDestinationSection,
    VaultSection,
    VaultSourceSection,
)
from dcmvault.config.settings import Settings
from dcmvault.errors import AddressError, PluginError

_Source = TypeVar("_Source", bound=Section)


def readable_section(settings: Settings, name_or_address: str) -> SourceSection:
    """Return how a place is read: a configured source or destination, or an address.

    Of an address that is configured, the options count. Raises AddressError as
    `Settings.source` does.
    """
    if found := settings.sources.get(name_or_address):
        return found
    if named := settings.destinations.get(name_or_address):
        return _configured_source(settings, as_source(named.section))
    return _configured_source(settings, settings.source(name_or_address))


def as_source(section: DestinationSection) -> SourceSection:
    """Make of a destination's section how the same place is read."""
    if isinstance(section, DimseDestinationSection):
        return _shared(section, DimsePeerSection, DimseSourceSection)
    if isinstance(section, StowDestinationSection):
        return _shared(section, DicomwebPeerSection, DicomwebSourceSection)
    if isinstance(section, VaultDestinationSection):
        return _shared(section, VaultSection, VaultSourceSection)
    if isinstance(section, PluginDestinationSection):
        return _plugin_source(section)
    return FolderSourceSection(path=section.path)


def _plugin_source(section: PluginDestinationSection) -> SourceSection:
    """Return how a plug-in's destination is read, if a plug-in of the same scheme reads it."""
    try:
        return source_section(section.address)
    except (AddressError, PluginError):
        return NotReadableSection(place=section.address)


def _shared(section: Section, peer: type[Section], source: type[_Source]) -> _Source:
    """Take over what both roles of a peer have in common."""
    names = [name for name in peer.model_fields if name != "kind"]
    return source.model_validate({name: getattr(section, name) for name in names})


def _configured_source(settings: Settings, section: SourceSection) -> SourceSection:
    """Prefer what the configuration says of the same address; of a snapshot, of its vault."""
    of_destinations = [as_source(named.section) for named in settings.destinations.values()]
    for configured in (*settings.sources.values(), *of_destinations):
        if configured.address == section.address:
            return configured
    if isinstance(section, VaultSourceSection):
        for vault in (*settings.sources.values(), *of_destinations):
            if isinstance(vault, VaultSourceSection) and vault.location == section.location:
                return vault.model_copy(update={"snapshot": section.snapshot})
    return section
