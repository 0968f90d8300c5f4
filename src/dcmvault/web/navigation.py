"""The pages of the dashboard in their order: what they are called, and where they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dcmvault.i18n import gettext as _


@dataclass(frozen=True, slots=True)
class Entry:
    """A page in the navigation; `key` is typed after `g` to go there."""

    name: str
    path: str
    label: str
    key: str
    is_current: bool = False


def navigation(known: Collection[str], path: str) -> list[Entry]:
    """List the pages that there are (`known` paths) in the language in use; one may be current."""
    entries = (
        ("overview", "/", _("Overview"), "o"),
        ("studies", "/studies", _("Studies"), "s"),
        ("live", "/live", _("Live"), "l"),
        ("compare", "/compare", _("Compare"), "c"),
        ("restore", "/restore", _("Restore"), "r"),
        ("runs", "/runs", _("Runs and reports"), "u"),
        ("vault", "/vault", _("Vault"), "v"),
        ("schedules", "/schedules", _("Schedules"), "d"),
        ("audit", "/audit", _("Audit"), "a"),
        ("accounts", "/accounts", _("Accounts"), "n"),
        ("settings", "/settings", _("Settings"), "e"),
    )
    return [
        Entry(name, where, label, key, is_current=_is_at(path, where))
        for name, where, label, key in entries
        if where in known
    ]


def _is_at(path: str, where: str) -> bool:
    return path == where or (where != "/" and path.startswith(f"{where}/"))
