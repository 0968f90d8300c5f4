"""The configuration changed from inside: shown before it is saved, and written down by whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dcmvault.app.auditing import Auditing
from dcmvault.config.differences import changed_keys, waiting_for_restart
from dcmvault.config.editing import Edit, tables_text
from dcmvault.config.load import settings_of
from dcmvault.config.places import config_path
from dcmvault.config.saving import Change, make_change, read_configuration, save_change
from dcmvault.config.settings import Settings
from dcmvault.errors import ConfigurationChangedError
from dcmvault.i18n import gettext as _
from dcmvault.model.audit import Actor


@dataclass(frozen=True, slots=True)
class ProposedChange:
    """What a change would do, before it is saved."""

    #: Of the file that the change was made of: to be handed to `save_configuration`.
    digest: str
    #: A unified diff; empty where nothing changes.
    diff: str
    #: Keys that differ, such as “plans.nightly.max_studies”.
    keys: tuple[str, ...]
    #: Those of them that a running daemon takes up when it starts again.
    after_restart: tuple[str, ...]
    settings: Settings


def current_digest(home: Path) -> str:
    """Return the digest of the configuration file as it is now; empty where there is none."""
    return read_configuration(config_path(home)).digest


def propose_change(home: Path, edits: Sequence[Edit]) -> ProposedChange:
    """Say what edits would do; ConfigurationError where the result would be wrong."""
    return _proposed(make_change(read_configuration(config_path(home)), edits))


def tables_written(home: Path, name: str) -> str:
    """Return the tables of a name as the file has them, with their comments; empty for none."""
    return tables_text(read_configuration(config_path(home)).text, name)


def save_configuration(
    home: Path, edits: Sequence[Edit], *, digest: str, actor: Actor
) -> ProposedChange:
    """Save edits, durably, and write down who did it.

    ConfigurationChangedError unless the file is still the one with this digest.
    """
    current = read_configuration(config_path(home))
    if current.digest != digest:
        raise ConfigurationChangedError(
            _("The configuration was changed by somebody else meanwhile."),
            hint=_("Nothing was saved. Look at it as it is now, and change it again."),
        )
    change = make_change(current, edits)
    proposed = _proposed(change)
    if proposed.diff:
        save_change(change)
        Auditing(home, actor, change.settings.audit).note_configuration(
            config_path(home), noticed="as it was saved", keys=proposed.keys
        )
    return proposed


def _proposed(change: Change) -> ProposedChange:
    before = change.before
    settings = settings_of(before.text, before.path) if before.digest else Settings()
    keys = changed_keys(settings, change.settings)
    return ProposedChange(
        before.digest,
        change.diff,
        tuple(keys),
        tuple(waiting_for_restart(settings, change.settings, keys)),
        change.settings,
    )
