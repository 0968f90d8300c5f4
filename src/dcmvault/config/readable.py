"""Destinations as sources: what was sent to a place is read from there with the same options."""

from __future__ import annotations

from typing import TypeVar

from dcmvault.config.options import Section
from dcmvault.config.peer_sections import (
    DicomwebPeerSection,
    DicomwebSourceSection,
    DimseDestinationSection,
    DimsePeerSection,
    DimseSourceSection,
    StowDestinationSection,
)
from dcmvault.config.sections import (
    DestinationSection,
    FolderDestinationSection,
    FolderSourceSection,
    SourceSection,
    VaultSection,
    VaultSourceSection,
)

_Read = TypeVar("_Read", bound=Section)


def as_source(section: DestinationSection) -> SourceSection:
    """Return the section by which a destination is read."""
    if isinstance(section, FolderDestinationSection):
        return FolderSourceSection(path=section.path)
    if isinstance(section, DimseDestinationSection):
        return _with_options(section, DimsePeerSection, DimseSourceSection)
    if isinstance(section, StowDestinationSection):
        return _with_options(section, DicomwebPeerSection, DicomwebSourceSection)
    return _with_options(section, VaultSection, VaultSourceSection)


def _with_options(section: Section, shared: type[Section], kind: type[_Read]) -> _Read:
    options = {name: getattr(section, name) for name in shared.model_fields if name != "kind"}
    return kind.model_validate(options)
