"""Roles, and what each route asks of whoever comes: the seam between pages and accounts."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum


class Role(IntEnum):
    """What somebody may do; each may do what those before it may."""

    #: Looks at figures; sees no patient data.
    VIEWER = 1
    #: Looks at studies, and steers work.
    OPERATOR = 2
    #: Changes settings and accounts.
    ADMINISTRATOR = 3


def needs(role: Role) -> Callable[[], Role]:
    """Return a dependency that lets in who has at least this role.

    Who holds the token of the API may do everything.
    """

    def needed() -> Role:
        return role

    return needed
