"""What each route asks of whoever comes: every route declares it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator

from fastapi import APIRouter, HTTPException, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from dcmvault.model.account import Role
from dcmvault.web.visitors import Visitor, visitor_of

__all__ = ["Role", "anybody", "every_route", "needed_role", "needs", "undeclared"]


async def anybody() -> None:
    """Let everybody in: the dependency of what is seen before a login."""


def _needing(role: Role) -> Callable[[Request], Awaitable[Visitor]]:
    async def needed(request: Request) -> Visitor:
        visitor = visitor_of(request)
        if visitor is None:
            raise HTTPException(401)
        if not visitor.role.may(role):
            raise HTTPException(403, "this needs another role")
        return visitor

    return needed


_NEEDING = {role: _needing(role) for role in Role}
_DECLARED: dict[object, Role | None] = {call: role for role, call in _NEEDING.items()}
_DECLARED[anybody] = None


def needs(role: Role) -> Callable[[Request], Awaitable[Visitor]]:
    """Return the dependency that lets in who has at least this role, and gives the visitor.

    Who holds the token of the API may everything.
    """
    return _NEEDING[role]


def needed_role(route: APIRoute) -> Role | None:
    """Return the role that a route declares, None for anybody; LookupError where it does not."""
    found = [_DECLARED[call] for call in _calls(route.dependant) if call in _DECLARED]
    if not found:
        raise LookupError(route.path)
    roles = [role for role in found if role is not None]
    return max(roles, key=lambda role: role.rank, default=None)


def every_route(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Yield routes, and those of routers that are included: FastAPI may keep them apart."""
    for route in routes:
        router = getattr(route, "original_router", None)
        if isinstance(router, APIRouter):
            yield from every_route(router.routes)
        else:
            yield route


def undeclared(routes: Iterable[BaseRoute]) -> list[str]:
    """List the paths of routes that do not say who may use them."""
    missing = []
    for route in every_route(routes):
        try:
            if not isinstance(route, APIRoute):
                raise LookupError
            needed_role(route)
        except LookupError:
            missing.append(getattr(route, "path", repr(route)))
    return missing


def _calls(dependant: Dependant) -> Iterator[object]:
    for one in dependant.dependencies:
        yield one.call
        yield from _calls(one)
