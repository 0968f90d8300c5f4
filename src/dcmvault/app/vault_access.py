"""The vault that a command names, opened for reading."""

from __future__ import annotations

from pathlib import Path

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.stores import open_vault_at
from dcmvault.config.readable import readable_section as readable
from dcmvault.config.sections import (
    FolderDestinationSection,
    FolderSourceSection,
    SourceSection,
    VaultDestinationSection,
    VaultSection,
    VaultSourceSection,
)
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.vault.repository import Vault


def vault_section(settings: Settings, name_or_address: str) -> VaultSection:
    """Return the vault that a configured name or an address means, or a folder that is one.

    UsageError for anything else.
    """
    if isinstance(source := settings.sources.get(name_or_address), VaultSourceSection):
        return source
    section = settings.destination(name_or_address).section
    if isinstance(section, VaultDestinationSection):
        return section
    if isinstance(section, FolderDestinationSection):
        folder = section.path
        if is_vault(folder):
            return VaultDestinationSection(location=str(folder))
    raise UsageError(
        _("%s is not a vault.") % name_or_address,
        hint=_("A vault is named by its configured name, or as vault:PATH."),
    )


def readable_section(settings: Settings, name_or_address: str) -> SourceSection:
    """Return how something that a command names is read: a source, or a destination as one.

    A folder that is a vault counts as one. Errors as `Settings.source` raises them.
    """
    section = readable(settings, name_or_address)
    if isinstance(section, FolderSourceSection) and is_vault(section.path):
        return VaultSourceSection(location=str(section.path))
    return section


def is_vault(folder: Path) -> bool:
    """Say whether a folder is a vault."""
    return (folder / "config").is_file() and (folder / "keys").is_dir()


def open_named_vault(settings: Settings, name_or_address: str) -> tuple[VaultSection, Vault]:
    """Open the vault that a command names; errors as `wiring.open_vault_at` raises them."""
    section = vault_section(settings, name_or_address)
    return section, open_vault_at(section, SystemClock())
