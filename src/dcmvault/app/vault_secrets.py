"""What opens a vault: the secrets that its section refers to, or the environment's passphrase."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dcmvault.config import secrets
from dcmvault.config.sections import VaultSection
from dcmvault.errors import ConfigurationError
from dcmvault.i18n import gettext as _
from dcmvault.vault import recovery_words
from dcmvault.vault.slots import AgeIdentity, KeyFile, Passphrase, RecoveryKey, Secret

#: The passphrase of a vault for which nothing else is configured.
PASSPHRASE_VARIABLE = "DCMVAULT_PASSPHRASE"  # noqa: S105 - a name
#: The words of a printed recovery key, for when everything else is lost.
RECOVERY_VARIABLE = "DCMVAULT_RECOVERY_KEY"
#: No key file is larger; somebody named the wrong file (bytes).
_LARGEST_KEY_FILE = 1 << 20


def vault_secrets(section: VaultSection) -> list[Secret]:
    """Gather what the section names; without any the environment's passphrase, if there is one.

    A recovery key in the environment is offered, too: who sets it may have lost the rest, which
    then is left out. Else raises ConfigurationError where something is named that cannot be had;
    VaultLockedError where the recovery key is not as it was printed.
    """
    words = os.environ.get(RECOVERY_VARIABLE, "").strip()
    if not words:
        return list(_named(section))
    found: list[Secret] = [RecoveryKey(recovery_words.from_words(words))]
    with suppress(ConfigurationError):
        found += _named(section)
    return found


def _named(section: VaultSection) -> Iterator[Secret]:
    if section.passphrase:
        yield Passphrase(secrets.resolve(section.passphrase))
    if section.key_file:
        yield KeyFile(_content(section.key_file))
    if section.identity_file:
        try:
            yield AgeIdentity(_content(section.identity_file).decode())
        except UnicodeDecodeError:
            raise ConfigurationError(
                _("The age identity file of the vault is no text."), hint=section.identity_file
            ) from None
    if not (section.passphrase or section.key_file or section.identity_file):
        passphrase = os.environ.get(PASSPHRASE_VARIABLE, "")
        if passphrase:
            yield Passphrase(passphrase)


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
