"""What opens a vault: the secrets that its section refers to, or the environment's passphrase."""

from __future__ import annotations

import os
from pathlib import Path

from dcmvault.config import secrets
from dcmvault.config.sections import VaultSection
from dcmvault.errors import ConfigurationError
from dcmvault.i18n import gettext as _
from dcmvault.vault.slots import AgeIdentity, KeyFile, Passphrase, Secret

#: The passphrase of a vault for which nothing else is configured.
PASSPHRASE_VARIABLE = "DCMVAULT_PASSPHRASE"  # noqa: S105 - a name
#: No key file is larger; somebody named the wrong file (bytes).
_LARGEST_KEY_FILE = 1 << 20


def vault_secrets(section: VaultSection) -> list[Secret]:
    """Gather what the section names; without any the environment's passphrase, if there is one.

    ConfigurationError where something is named that cannot be had.
    """
    found: list[Secret] = []
    if section.passphrase:
        found.append(Passphrase(secrets.resolve(section.passphrase)))
    if section.key_file:
        found.append(KeyFile(_content(section.key_file)))
    if section.identity_file:
        try:
            found.append(AgeIdentity(_content(section.identity_file).decode()))
        except UnicodeDecodeError:
            raise ConfigurationError(
                _("The age identity file of the vault is no text."), hint=section.identity_file
            ) from None
    if not found and (passphrase := os.environ.get(PASSPHRASE_VARIABLE, "")):
        found.append(Passphrase(passphrase))
    return found


def _content(name: str) -> bytes:
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_KEY_FILE + 1)
    except OSError as error:
        raise ConfigurationError(
            _("A key file of the vault cannot be read."), hint=f"{name}: {error.strerror}"
        ) from None
    if len(content) > _LARGEST_KEY_FILE:
        raise ConfigurationError(
            _("A key file of the vault is larger than 1 MiB; is it the right file?"), hint=name
        )
    return content
