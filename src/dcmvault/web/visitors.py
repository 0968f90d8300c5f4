"""Who makes a request: somebody who is logged in, or who holds the token of the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from dcmvault.model.account import Role
from dcmvault.model.report import Privacy

#: There is one token of the API: who holds it has no name of their own.
TOKEN_HOLDER = "token"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who makes a request, and what they may."""

    name: str
    role: Role

    def privacy(self, configured: Privacy) -> Privacy:
        """Return how much of patients a report may show them: never more than is configured."""
        return configured


_TOKEN_HOLDER = Visitor(TOKEN_HOLDER, Role.ADMINISTRATOR)


def visitor_of(request: Request) -> Visitor | None:
    """Return who makes a request, as the guard found out; None for nobody."""
    return cast("Visitor | None", getattr(request.state, "visitor", _TOKEN_HOLDER))


def _visitor(request: Request) -> Visitor:
    visitor = visitor_of(request)
    assert visitor is not None
    return visitor


#: How a route gets it.
By = Annotated[Visitor, Depends(_visitor)]
