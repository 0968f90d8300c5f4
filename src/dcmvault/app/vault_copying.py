"""A copy of a vault at another place, brought up to date without decoding anything."""

from __future__ import annotations

from dataclasses import dataclass

from dcmvault.app.vault_access import vault_section
from dcmvault.app.vault_secrets import vault_secrets
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.stores import open_vault_store
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.vault.config import VaultConfig
from dcmvault.vault.copying import CopyResult, copy_vault
from dcmvault.vault.copying_snapshots import copy_snapshots
from dcmvault.vault.phases import Told, to_nobody
from dcmvault.vault.repository import open_vault, read_config


@dataclass(frozen=True, slots=True)
class CopiedVault:
    """What a copy did."""

    source: str
    target: str
    config: VaultConfig
    result: CopyResult
    #: Names of the snapshots that were asked for; empty for all.
    snapshots: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """3 if something of the source cannot be read any more, else 0."""
        return 3 if self.result.damaged else 0


def copy(
    settings: Settings, source: str, target: str, snapshots: tuple[str, ...], told: Told = to_nobody
) -> CopiedVault:
    """Copy a vault, or some snapshots of it; only these need a key.

    Raises UsageError where the target is something else.
    """
    from_section, to_section = vault_section(settings, source), vault_section(settings, target)
    if from_section.address == to_section.address:
        raise UsageError(_("A vault cannot be copied onto itself."))
    clock = SystemClock()
    from_store = open_vault_store(from_section, clock, settings.retry)
    to_store = open_vault_store(to_section, clock, settings.retry)
    config, _raw = read_config(from_store)
    names: tuple[str, ...] = ()
    if snapshots:
        vault = open_vault(from_store, vault_secrets(from_section), clock)
        result, chosen = copy_snapshots(vault, to_store, snapshots, told)
        names = tuple(link.name for link in chosen)
    else:
        result = copy_vault(from_store, to_store, clock, told)
    return CopiedVault(from_section.address, to_section.address, config, result, names)
