"""A place opened for reading: a configured source or destination, or an address of either."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dcmvault.app.wiring.sources import build_source
from dcmvault.config.peer_sections import DicomwebSourceSection, DimseSourceSection
from dcmvault.config.readable import readable_section
from dcmvault.config.sections import FolderSourceSection, HorosSourceSection, VaultSourceSection
from dcmvault.config.settings import Settings
from dcmvault.ports.source import Source


@dataclass(frozen=True, slots=True)
class ReadablePlace:
    """A place and what its kind means for whoever reads it."""

    source: Source
    #: It lists a study by its UID without listing all.
    by_uid: bool
    #: The folder below which its files lie, as they are named; None where it has no files.
    folder: Path | None


def open_place(settings: Settings, name_or_address: str) -> ReadablePlace:
    """Open a place; nothing is connected yet. Raises AddressError as `Settings.source` does."""
    section = readable_section(settings, name_or_address)
    folder = None
    if isinstance(section, FolderSourceSection | HorosSourceSection):
        folder = section.path.resolve()
    return ReadablePlace(
        build_source(section, settings.listener),
        by_uid=isinstance(section, DimseSourceSection | DicomwebSourceSection | VaultSourceSection),
        folder=folder,
    )
