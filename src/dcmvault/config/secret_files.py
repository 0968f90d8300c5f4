"""Secrets that somebody typed, in files of their own: the configuration refers to them."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from pathlib import Path

from dcmvault.config.private_files import put_private
from dcmvault.errors import StateError, UsageError
from dcmvault.i18n import gettext as _

#: Inside the state folder.
_FOLDER = "secrets"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")
#: A secret is a line of text; more than this is none that a person typed (characters).
_LONGEST = 4096


def keep_secret(home: Path, what: str, secret: str) -> str:
    """Write a secret into a new file (mode 0600) and return the reference to it.

    `what` says what it is for, and is part of the file's name. A file that another configuration
    refers to is never replaced: a change that is not saved, or is taken back, opens what it
    opened. UsageError for what is no secret, StateError where it cannot be written.
    """
    if not secret or len(secret) > _LONGEST or not secret.isprintable():
        raise UsageError(
            _("A secret is one line of text, not empty, and without control characters.")
        )
    name = _NOT_IN_NAMES.sub("-", what).strip("-")[:60] or "secret"
    path = home / _FOLDER / f"{name}-{secrets.token_hex(4)}"
    try:
        put_private(path, f"{secret}\n".encode())
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or _("not UTF-8 text")
        raise StateError(
            _("The file for a secret cannot be written."), hint=f"{path}: {reason}"
        ) from None
    return f"file:{path}"


def drop_secret(home: Path, reference: str) -> None:
    """Remove the file of a reference that `keep_secret` made; harmless for every other one."""
    path = Path(reference.removeprefix("file:"))
    if reference.startswith("file:") and path.parent == home / _FOLDER:
        with suppress(OSError):
            path.unlink()
