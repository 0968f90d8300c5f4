"""The columns of the matrix: what there are, which are shown to whom, and saved views of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from dcmvault.app.study_views import (
    MORE,
    USUAL,
    columns_kept,
    is_shown,
    place_column,
    saved_views,
)
from dcmvault.i18n import gettext as _
from dcmvault.model.account import Role
from dcmvault.model.study_matrix import SHARED, SavedView
from dcmvault.web.backstage import Backstage
from dcmvault.web.pages.study_asking import Asked
from dcmvault.web.visitors import Visitor


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its word in the catalogue, its field in a form, and what people call it."""

    word: str
    field: str
    label: str
    #: The destination's address; empty for another column.
    address: str = ""


@dataclass(frozen=True, slots=True)
class ViewLink:
    """A saved view as it is offered."""

    name: str
    to: str
    is_shared: bool
    is_chosen: bool


def columns(what: Asked) -> list[Column]:
    """List all columns that there are, in their order."""
    labels = {
        "state": _("State"),
        "level": _("Least level"),
        "source": _("Source"),
        "series": _("Series"),
        "held": _("Legal hold"),
        "size": _("Size"),
    }
    first, last = USUAL
    places = [
        Column(place_column(one.address), f"at:{shown}", shown, one.address)
        for one in what.choices.destinations
        for shown in (what.names(one.address),)
    ]
    rest = [Column(word, word, labels[word]) for word in (*MORE, last)]
    return [Column(first, first, labels[first]), *places, *rest]


def changes_in_use(behind: Backstage, by: Visitor, what: Asked) -> tuple[str, ...]:
    """Say how the columns differ from the usual ones: by the chosen view, or the account."""
    if name := what.fields.get("view", ""):
        account = SHARED if what.fields.get("shared") else by.name
        for one in saved_views(behind.workplace, account):
            if (one.account, one.name) == (account, name):
                return one.columns
    return columns_kept(behind.workplace, by.name)


def columns_shown(every: Sequence[Column], changes: Sequence[str]) -> list[Column]:
    """Choose the columns that are shown."""
    return [one for one in every if is_shown(one.word, changes)]


def view_links(behind: Backstage, by: Visitor, what: Asked) -> list[ViewLink]:
    """List the views that somebody can open, their own first."""
    chosen = (what.fields.get("view", ""), bool(what.fields.get("shared")))
    found = []
    for one in saved_views(behind.workplace, by.name):
        is_shared = one.account == SHARED
        if _may_open(one, by):
            found.append(
                ViewLink(
                    one.name, view_address(what, one), is_shared, chosen == (one.name, is_shared)
                )
            )
    return found


def view_address(what: Asked, view: SavedView) -> str:
    """Return where a view is shown."""
    query = {name: values[-1] for name, values in parse_qs(view.query).items()}
    shared = "yes" if view.account == SHARED else ""
    others = dict.fromkeys(what.fields, "") | query | {"view": view.name, "shared": shared}
    return what.address("/studies", **others)


def _may_open(view: SavedView, by: Visitor) -> bool:
    query: Mapping[str, Sequence[str]] = parse_qs(view.query)
    is_about_patients = "text" in query or query.get("order") in (["name"], ["-name"])
    return by.role.may(Role.OPERATOR) or not is_about_patients
