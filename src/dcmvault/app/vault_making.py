"""Making a vault: where, for whom, and how much redundancy its place needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dcmvault.app.vault_access import vault_section
from dcmvault.app.vault_secrets import vault_secrets
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.stores import open_vault_store
from dcmvault.config.sections import VaultSection
from dcmvault.config.settings import Settings
from dcmvault.errors import DestinationAbsentError, UsageError, VaultMissingError
from dcmvault.i18n import gettext as _
from dcmvault.ports.object_store import ObjectStore
from dcmvault.vault import recovery_words
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.inventory import take_inventory
from dcmvault.vault.repository import Vault, read_config
from dcmvault.vault.slots import AgeRecipient, Applicant, KeyFile, Passphrase, RecoveryKey

#: What an interrupted call may have left in a folder, and what systems put into any folder.
_NOT_IN_THE_WAY = frozenset(
    {
        *("keys", "copies", "rescue", "README.txt", "ballast", "config", "lease", ".staging"),
        *("snapshots", "journal", "index", "packs", "parity", "condemned"),
        *(".DS_Store", ".fseventsd", ".Spotlight-V100", ".Trashes", ".Trash-1000"),
        *("lost+found", "System Volume Information", "desktop.ini", "Thumbs.db"),
    }
)


@dataclass(frozen=True, slots=True)
class MakingRequest:
    """How a new vault is to be."""

    encrypted: bool = True
    #: Parity of packs, where the place has redundancy at all.
    parity: bool = True
    #: As it was typed; empty: the configured one, or the environment's.
    passphrase: str = field(default="", repr=False)
    key_files: tuple[Path, ...] = ()
    age_recipients: tuple[str, ...] = ()
    #: Make a recovery key, too.
    recovery: bool = False


@dataclass(frozen=True, slots=True)
class MadeVault:
    """A new vault."""

    address: str
    vault: Vault
    #: Rows of words, to be shown once and kept nowhere; empty if none was asked for.
    recovery_rows: list[list[str]] = field(default_factory=list, repr=False)


def needs_passphrase(settings: Settings, name_or_address: str, request: MakingRequest) -> bool:
    """Say whether a passphrase must be asked for: nothing else was named that would open it.

    Raises what would refuse the place, before anybody is asked for anything.
    """
    section = vault_section(settings, name_or_address)
    _require_room(section, open_vault_store(section, SystemClock(), settings.retry))
    if not request.encrypted or request.key_files or request.age_recipients:
        return False
    return not any(True for _one in _configured(section))


def make_vault(settings: Settings, name_or_address: str, request: MakingRequest) -> MadeVault:
    """Make a vault; UsageError where one is, or where something else is."""
    section = vault_section(settings, name_or_address)
    clock = SystemClock()
    store = open_vault_store(section, clock, settings.retry)
    _require_room(section, store)
    if not request.encrypted and (request.key_files or request.age_recipients or request.recovery):
        raise UsageError(
            _("A vault without encryption has no keys."),
            hint=_("Leave out --no-encryption, or the keys."),
        )
    applicants = list(_applicants(section, request)) if request.encrypted else []
    rows: list[list[str]] = []
    if request.recovery:
        entropy = os.urandom(recovery_words.ENTROPY_BYTES)
        applicants.append((RecoveryKey(entropy), "printed when the vault was made"))
        rows = recovery_words.to_rows(entropy)
    vault = init_vault(
        store,
        applicants,
        clock,
        encrypted=request.encrypted,
        redundant=section.scheme not in ("s3", "az", "gs"),
        parity=request.parity,
    )
    return MadeVault(section.address, vault, rows)


def _applicants(section: VaultSection, request: MakingRequest) -> Iterator[tuple[Applicant, str]]:
    if request.passphrase:
        yield Passphrase(request.passphrase), ""
    elif not (request.key_files or request.age_recipients) or section.passphrase:
        yield from _configured(section)
    for path in request.key_files:
        yield KeyFile(_content(path)), ""
    for recipient in request.age_recipients:
        yield AgeRecipient(recipient), ""


def _configured(section: VaultSection) -> Iterator[tuple[Applicant, str]]:
    """Take what will open the vault later, as the configuration or the environment says."""
    for secret in vault_secrets(section):
        if isinstance(secret, Passphrase | KeyFile):
            yield secret, ""


def _content(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise UsageError(
            _("The key file cannot be read."), hint=f"{path}: {error.strerror}"
        ) from None


def _require_room(section: VaultSection, store: ObjectStore) -> None:
    """Refuse a place where a vault is, or anything else."""
    try:
        read_config(store)
    except VaultMissingError:
        pass
    else:
        raise UsageError(
            _("There is a vault already."),
            hint=_("Name another place, or use the one that is there."),
        )
    if section.path is not None:
        strangers = _in_the_way(section.path)
    else:
        try:
            strangers = bool(take_inventory(store).strangers)
        except DestinationAbsentError:
            strangers = False
    if strangers:
        raise UsageError(
            _("The place is not empty, and what is there is no vault."),
            hint=_("Name an empty folder, or one that is not there yet."),
        )


def _in_the_way(folder: Path) -> bool:
    """Say whether a folder has something that is not a vault's."""
    try:
        names = {entry.name for entry in folder.iterdir()}
    except FileNotFoundError:
        if folder.parent.is_dir():
            return False
        raise DestinationAbsentError(
            _("The folder in which the vault would be made is not there."),
            hint=_("Is the disk mounted? If the path is right, create the folder above it."),
        ) from None
    except NotADirectoryError:
        raise UsageError(_("The place of the vault is a file, not a folder.")) from None
    except OSError as error:
        raise UsageError(
            _("The folder of the vault cannot be read: %s.") % error.strerror
        ) from None
    return any(name not in _NOT_IN_THE_WAY and not name.startswith("._") for name in names)
