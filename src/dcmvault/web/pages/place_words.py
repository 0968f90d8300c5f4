"""How places are called on a page, for who looks at it."""

from __future__ import annotations

from dcmvault.app.place_names import PlaceNames
from dcmvault.model.account import Role
from dcmvault.web.backstage import Backstage
from dcmvault.web.visitors import Visitor


def names_for(behind: Backstage, by: Visitor) -> PlaceNames:
    """Return the names of places; addresses are for who steers work."""
    return PlaceNames(behind.workplace, shows_addresses=by.role.may(Role.OPERATOR))
