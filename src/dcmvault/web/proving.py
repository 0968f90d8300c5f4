"""Whoever changes an account has one, and types its password again."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from dcmvault.app.sessions import OpenSession
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.web.backstage import Backstage
from dcmvault.web.forms import Fields
from dcmvault.web.visitors import By


def _opened(visitor: By) -> OpenSession:
    if visitor.opened is None:
        raise UsageError(
            _("The token of the API has no account."), hint=_("Log in with a name and a password.")
        )
    return visitor.opened


#: How a route gets the session that asks; UsageError for who holds the token of the API.
Mine = Annotated[OpenSession, Depends(_opened)]


def check_password(request: Request, behind: Backstage, mine: OpenSession, fields: Fields) -> None:
    """Raise LoginError unless the password is typed: an unlocked screen is not enough."""
    asking = behind.doors.asking(request.headers, request.scope)
    behind.doors.login.check_password(mine.account.name, fields.get("current", ""), asking)
