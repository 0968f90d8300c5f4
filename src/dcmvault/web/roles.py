"""What each route asks of whoever comes: every route declares it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Request

from dcmvault.model.account import Role
from dcmvault.web.visitors import Visitor, visitor_of

__all__ = ["Role", "anybody", "needs"]


async def anybody() -> None:
    """Let everybody in: the dependency of what is seen before a login."""


def needs(role: Role) -> Callable[[Request], Awaitable[Visitor]]:
    """Return the dependency that lets in who has at least this role, and gives the visitor.

    Who holds the token of the API may everything.
    """

    async def needed(request: Request) -> Visitor:
        visitor = visitor_of(request)
        if visitor is None:
            raise HTTPException(401)
        if not visitor.role.may(role):
            raise HTTPException(403, "this needs another role")
        return visitor

    return needed
