"""Saved views of the studies page, one's own and shared ones, and the columns that are shown."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qs, quote

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.study_matrix import SHARED, SavedView

_LONGEST_NAME = 80
_LONGEST_QUERY = 4000
#: What a view asks that tells of patients: it is one's own.
_ABOUT_PATIENTS = "text"
#: The view of an account that has no name: what it is shown without another.
_PLAIN = ""

#: Columns besides destinations: shown at first, and shown where somebody wants them.
USUAL = ("state", "size")
MORE = ("level", "source", "series", "held")


def place_column(address: str) -> str:
    """Name the column of a destination; without spaces."""
    return f"at:{quote(address, safe='')}"


def is_shown(column: str, changes: Collection[str]) -> bool:
    """Say whether a column is shown, by what somebody changed of what is shown at first.

    Kept like this, a destination that is new is shown to everybody.
    """
    return f"+{column}" in changes if column in MORE else f"-{column}" not in changes


def changes_of(columns: Collection[str], shown: Collection[str]) -> tuple[str, ...]:
    """Say how the columns that are to be shown differ from those shown at first."""
    wanted = [(column, column in shown) for column in columns]
    return tuple(
        f"{'+' if is_wanted else '-'}{column}"
        for column, is_wanted in wanted
        if is_wanted != is_shown(column, ())
    )


def saved_views(workplace: Workplace, account: str) -> list[SavedView]:
    """List an account's saved views, and then the shared ones."""
    views = workplace.catalogue.views
    found = [*views.views(account), *views.views(SHARED)]
    return [one for one in found if one.name != _PLAIN]


def save_view(workplace: Workplace, view: SavedView) -> None:
    """Save a view, over one of the same name.

    UsageError for one without a name, or too many, and for a shared one that looks for words:
    they may be a patient's name.
    """
    name = view.name.strip()
    if not name or len(name) > _LONGEST_NAME:
        raise UsageError(
            _("The view has no name, or a very long one."), hint=_("Give it a short name.")
        )
    if len(view.query) > _LONGEST_QUERY:
        raise UsageError(_("What is searched for is too long."), hint=_("Search for a few words."))
    if view.account == SHARED and _ABOUT_PATIENTS in parse_qs(view.query):
        raise UsageError(
            _("A view that searches for words cannot be shared: they may name a patient."),
            hint=_("Save it for yourself, or search by other things."),
        )
    _write(workplace, SavedView(view.account, name, view.query, view.columns))


def remove_view(workplace: Workplace, account: str, name: str) -> None:
    """Remove a saved view, of an account or a shared one."""
    if name != _PLAIN:
        workplace.catalogue.views.remove_view(account, name)


def columns_kept(workplace: Workplace, account: str) -> tuple[str, ...]:
    """Return what an account changed of the columns that are shown at first."""
    views = workplace.catalogue.views.views(account)
    return next((one.columns for one in views if one.name == _PLAIN), ())


def keep_columns(workplace: Workplace, account: str, changes: tuple[str, ...]) -> None:
    """Keep an account's choice of columns."""
    _write(workplace, SavedView(account, _PLAIN, "", changes))


def _write(workplace: Workplace, view: SavedView) -> None:
    try:
        workplace.catalogue.views.save_view(view)
    except ValueError:
        raise UsageError(
            _("There are too many saved views."), hint=_("Remove one of them first.")
        ) from None
