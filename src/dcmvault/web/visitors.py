"""Who makes a request: somebody who is logged in, or who holds the token of the API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, HTTPException, Request

from dcmvault.app.sessions import OpenSession
from dcmvault.model.account import Role
from dcmvault.model.report import Privacy

#: There is one token of the API: who holds it has no name of their own.
TOKEN_HOLDER = "token"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who makes a request, and what they may."""

    name: str
    role: Role
    address: str
    #: None for who holds the token of the API.
    opened: OpenSession | None = None
    #: The token of the session.
    token: str = field(default="", repr=False)
    #: Whether names of patients are shown to them now.
    shows_names: bool = False

    @property
    def csrf(self) -> str:
        """What forms and headers show; empty for who holds the token of the API."""
        return self.opened.csrf if self.opened else ""

    def privacy(self, configured: Privacy) -> Privacy:
        """Return how much of patients a report may show them: never more than is configured.

        In a session nothing until it is revealed; who holds the token of the API is a program.
        """
        return configured if self.opened is None or self.shows_names else Privacy.OFF


def visitor_of(request: Request) -> Visitor | None:
    """Return who makes a request, as the guard found out; None for nobody."""
    return cast("Visitor | None", getattr(request.state, "visitor", None))


def _visitor(request: Request) -> Visitor:
    visitor = visitor_of(request)
    if visitor is None:
        raise HTTPException(401)
    return visitor


#: How a route gets it.
By = Annotated[Visitor, Depends(_visitor)]
