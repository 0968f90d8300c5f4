"""Secrets by reference: the configuration says where a secret is, never what it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dcmvault.errors import ConfigurationError
from dcmvault.i18n import gettext as _

_PREFIXES = ("env:", "file:")


def is_reference(text: str) -> bool:
    """Say whether a value is `env:NAME` or `file:PATH`."""
    return text.startswith(_PREFIXES)


def resolve(reference: str) -> str:
    """Return the secret that a reference names; ConfigurationError where it cannot be had.

    A file may end with a newline, which does not count, and must not be open to others.
    """
    prefix, _colon, where = reference.partition(":")
    if prefix == "env":
        return _from_environment(where)
    if prefix == "file":
        return _from_file(where)
    raise ConfigurationError(
        _("A secret is written as a reference."), hint=_("Write env:NAME or file:PATH.")
    )


def _from_environment(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise ConfigurationError(
            _("The environment variable %s, which should hold a secret, is not set.") % name,
            hint=_("Set it, or refer to a file (file:PATH)."),
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            _("The environment variable %s, which should hold a secret, is not UTF-8 text.") % name,
            hint=_("Set it, or refer to a file (file:PATH)."),
        ) from None
    return value


def _from_file(where: str) -> str:
    path = Path(where).expanduser()
    try:
        mode = path.stat().st_mode
        secret = path.read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or _("not UTF-8 text")
        raise ConfigurationError(
            _("The file that should hold a secret cannot be read."), hint=f"{where}: {reason}"
        ) from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(
            _("The file that holds a secret is open to other users."),
            hint=f"chmod 600 {where}",
        )
    if not secret:
        raise ConfigurationError(_("The file that should hold a secret is empty."), hint=where)
    return secret
