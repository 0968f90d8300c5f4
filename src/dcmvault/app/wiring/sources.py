"""Which adapter stands behind a source's section."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.stores import open_vault_at
from dcmvault.config import secrets
from dcmvault.config.listener_section import ListenerSection, ListenerSourceSection
from dcmvault.config.peer_sections import (
    DicomwebSourceSection,
    DimseSourceSection,
    OrthancSourceSection,
)
from dcmvault.config.plugin_sections import NotReadableSection, PluginSourceSection
from dcmvault.config.plugins import PluginGroup, plugin
from dcmvault.config.sections import (
    HorosSourceSection,
    SourceSection,
    VaultSection,
    VaultSourceSection,
)
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.ports.source import Source
from dcmvault.ports.surroundings import Surroundings

if TYPE_CHECKING:
    from dcmvault.vault.repository import Vault

#: Opens the vault of a section.
OpenVault = Callable[[VaultSection], "Vault"]


def build_source(
    section: SourceSection,
    listener: ListenerSection,
    open_vault: OpenVault | None = None,
    known_studies: Callable[[], Iterable[str]] = tuple,
) -> Source:
    """Make the adapter for a source's section; `listener` is what the configuration says of it.

    `open_vault` may give a vault again that it opened before. `known_studies` tells what the
    catalogue knows: the UIDs of studies that are there.
    """
    if isinstance(section, DimseSourceSection):
        from dcmvault.sources.query_retrieve import QueryRetrieveSource  # noqa: PLC0415 - needed

        return QueryRetrieveSource(section, known_studies)
    if isinstance(section, ListenerSourceSection):
        from dcmvault.sources.listener import ListenerSource  # noqa: PLC0415 - when needed

        return ListenerSource(listener)
    if isinstance(section, HorosSourceSection):
        from dcmvault.sources.horos import HorosSource  # noqa: PLC0415 - imported when needed

        return HorosSource(section)
    if isinstance(section, VaultSourceSection):
        from dcmvault.sources.vault import VaultSource  # noqa: PLC0415 - imported when needed

        opened = open_vault or (lambda section: open_vault_at(section, SystemClock()))
        return VaultSource(section, lambda: opened(section), section.snapshot)
    if isinstance(section, OrthancSourceSection):
        from dcmvault.sources.orthanc import OrthancSource  # noqa: PLC0415 - imported when needed

        return OrthancSource(section, SystemClock())
    if isinstance(section, DicomwebSourceSection):
        from dcmvault.sources.dicomweb import DicomwebSource  # noqa: PLC0415 - when needed

        return DicomwebSource(section, SystemClock(), known_studies)
    if isinstance(section, NotReadableSection):
        raise UsageError(
            _("%s can be written to only: nothing is installed that reads it.") % section.address
        )
    if isinstance(section, PluginSourceSection):
        found = plugin(PluginGroup.SOURCES, section.scheme)
        assert found is not None  # its section was made by it
        source: Source = found.build(section, Surroundings(SystemClock(), secrets.resolve))
        return source
    from dcmvault.sources.folder import FolderSource  # noqa: PLC0415 - imported when needed

    return FolderSource(section)
