"""Saving a changed configuration: checked first, shown as a difference, written at once or not."""

from __future__ import annotations

import difflib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dcmvault.config.editing import Edit, edited
from dcmvault.config.load import settings_of
from dcmvault.config.private_files import put_private
from dcmvault.config.settings import Settings
from dcmvault.config.template import render_template
from dcmvault.errors import ConfigurationChangedError, ConfigurationError
from dcmvault.i18n import gettext as _


@dataclass(frozen=True, slots=True)
class ConfigurationText:
    """A configuration file as it was read; where there is none, the text of a new one."""

    path: Path
    text: str
    #: SHA-256 of its bytes, hexadecimal; empty where there is no file.
    digest: str


@dataclass(frozen=True, slots=True)
class Change:
    """A change that is sound, and not written yet."""

    before: ConfigurationText
    text: str
    settings: Settings

    @property
    def diff(self) -> str:
        """What changes, as a unified diff; empty for nothing. A new file is all of it new."""
        old = self.before.text if self.before.digest else ""
        lines = difflib.unified_diff(
            old.split("\n"),
            self.text.split("\n"),
            self.before.path.name,
            self.before.path.name,
            lineterm="",
        )
        return "\n".join(lines)


def previous_path(path: Path) -> Path:
    """Return where the version before the last one that we wrote is kept."""
    return path.with_name(f"{path.name}.previous")


def read_configuration(path: Path) -> ConfigurationText:
    """Read a configuration file; ConfigurationError where it cannot be read.

    Where there is none, the commented template stands for it, in the language in use.
    """
    try:
        data = path.read_bytes()
        return ConfigurationText(path, data.decode("utf-8"), hashlib.sha256(data).hexdigest())
    except FileNotFoundError:
        return ConfigurationText(path, render_template(), "")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or _("not UTF-8 text")
        raise ConfigurationError(
            _("The configuration file cannot be read."), hint=f"{path}: {reason}"
        ) from None


def make_change(current: ConfigurationText, edits: Sequence[Edit]) -> Change:
    """Make edits and check the result as `dcmvault config check` does; nothing is written.

    ConfigurationError names what would be wrong, also what was wrong before.
    """
    settings_of(current.text, current.path)
    text = edited(current.text, edits)
    return Change(current, text, settings_of(text, current.path))


def save_change(change: Change) -> str:
    """Write a change and return the digest of the new file; durable on return.

    What was there is kept (`previous_path`). ConfigurationChangedError where somebody changed the
    file since it was read: nothing is written then.
    """
    # What a link leads to is replaced, not the link.
    path = change.before.path.resolve()
    data = change.text.encode()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(path.parent):
            now = read_configuration(path)
            if now.digest != change.before.digest:
                raise ConfigurationChangedError(
                    _("The configuration was changed by somebody else meanwhile."),
                    hint=_("Nothing was saved. Look at it as it is now, and change it again."),
                )
            if now.digest:
                put_private(previous_path(path), now.text.encode())
            put_private(path, data)
    except OSError as error:
        raise ConfigurationError(
            _("The configuration file cannot be written."), hint=f"{path}: {error.strerror}"
        ) from None
    return hashlib.sha256(data).hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one of us write at a time; whoever uses an editor is seen by the digest."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
