"""Upkeep of a vault: space of what is no longer needed, and figures of what it stores."""

from __future__ import annotations

from dcmvault.app.vault_access import open_named_vault
from dcmvault.config.settings import Settings
from dcmvault.vault.phases import Told, to_nobody
from dcmvault.vault.prune import PruneRequest, PruneResult, prune
from dcmvault.vault.repository import Vault
from dcmvault.vault.statistics import VaultFigures, figures_of


def prune_vault(
    settings: Settings, name_or_address: str, request: PruneRequest, told: Told = to_nobody
) -> PruneResult:
    """Prune; errors as `vault.prune` and `wiring.open_vault_at` raise them."""
    _section, vault = open_named_vault(settings, name_or_address)
    return prune(vault, request, told)


def vault_figures(
    settings: Settings, name_or_address: str, told: Told = to_nobody
) -> tuple[str, Vault, VaultFigures]:
    """Return the vault's address, the vault, and its figures."""
    section, vault = open_named_vault(settings, name_or_address)
    return section.address, vault, figures_of(vault, told)
