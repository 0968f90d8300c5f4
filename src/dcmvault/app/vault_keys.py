"""Keys of a vault: who can open it, and when what is written gets another key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.stores import open_vault_at
from dcmvault.config import secrets
from dcmvault.config.sections import VaultDestinationSection, VaultSection
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.vault import key_changes
from dcmvault.vault.key_changes import VaultKeys
from dcmvault.vault.keys import RotationPolicy
from dcmvault.vault.lease import hold_lease
from dcmvault.vault.repository import Vault
from dcmvault.vault.slots import AgeRecipient, Applicant, KeyFile, Passphrase, Slot


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """What somebody wants to open a vault with; one of them."""

    #: `env:NAME` or `file:PATH`.
    passphrase_reference: str = ""
    #: As it was typed.
    passphrase: str = field(default="", repr=False)
    key_file: Path | None = None
    age_recipient: str = ""


def keys_of(settings: Settings, address: str) -> VaultKeys:
    """Open a vault and return its keys; errors as `wiring.open_vault_at` raises them."""
    return open_vault_at(_vault_section(settings, address), SystemClock()).sealing.keys


def add_key(
    settings: Settings, address: str, request: KeyRequest, label: str
) -> tuple[VaultKeys, Slot]:
    """Let another key open the vault."""
    applicant = _applicant(request)
    with _changing(settings, address, "key add") as vault:
        return key_changes.add_slot(
            vault.objects, vault.sealing.keys, applicant, label=label, now=vault.clock.now()
        )


def remove_key(settings: Settings, address: str, slot: str) -> VaultKeys:
    """Shut a key out. Nobody else is asked for anything."""
    with _changing(settings, address, "key remove") as vault:
        return key_changes.remove_slot(vault.objects, vault.sealing.keys, slot, vault.clock.now())


def rotate_keys(settings: Settings, address: str) -> VaultKeys:
    """Open an epoch: what is written from now on gets another key."""
    with _changing(settings, address, "key rotate") as vault:
        return key_changes.rotate(vault.objects, vault.sealing.keys, vault.clock.now())


def change_rotation(
    settings: Settings, address: str, days: int | None, limit_bytes: int | None
) -> VaultKeys:
    """Change when epochs are opened by themselves; None keeps a limit, 0 takes it away."""
    with _changing(settings, address, "key rotate") as vault:
        before = vault.sealing.ring.rotation
        policy = RotationPolicy(
            before.days if days is None else days,
            before.bytes if limit_bytes is None else limit_bytes,
        )
        return key_changes.set_rotation(
            vault.objects, vault.sealing.keys, policy, vault.clock.now()
        )


def print_recovery_key(
    settings: Settings, address: str, label: str
) -> tuple[VaultKeys, list[list[str]]]:
    """Add a recovery key; return its rows of words, which are shown once and kept nowhere."""
    with _changing(settings, address, "key recovery") as vault:
        return key_changes.make_recovery_key(
            vault.objects, vault.sealing.keys, label=label, now=vault.clock.now()
        )


@contextmanager
def _changing(settings: Settings, address: str, purpose: str) -> Iterator[Vault]:
    """Open a vault while nobody else changes its keys."""
    vault = open_vault_at(_vault_section(settings, address), SystemClock())
    with hold_lease(vault.store, vault.clock, purpose):
        yield vault


def _vault_section(settings: Settings, address: str) -> VaultSection:
    section = settings.destination(address).section
    if not isinstance(section, VaultDestinationSection):
        raise UsageError(
            _("%s is not a vault.") % address,
            hint=_("A vault is named by its configured name, or as vault:PATH."),
        )
    return section


def _applicant(request: KeyRequest) -> Applicant:
    asked = [
        name
        for name in ("passphrase_reference", "passphrase", "key_file", "age_recipient")
        if getattr(request, name)
    ]
    if len(asked) != 1:
        raise UsageError(_("Name one key to add: a passphrase, a key file or an age recipient."))
    if request.key_file is not None:
        return KeyFile(_content(request.key_file))
    if request.age_recipient:
        return AgeRecipient(request.age_recipient)
    return Passphrase(request.passphrase or secrets.resolve(request.passphrase_reference))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            _("The key file cannot be read."), hint=f"{path}: {error.strerror}"
        ) from None
