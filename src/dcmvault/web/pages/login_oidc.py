"""Login at an OpenID Connect provider: the way there, and the way back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response

from dcmvault.app.oidc_login import OidcAnswer, OidcDesk
from dcmvault.config.oidc_section import REDIRECT_PATH
from dcmvault.errors import LoginError
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.frame import page
from dcmvault.web.origin import own_path
from dcmvault.web.pages.login import Next, login_again
from dcmvault.web.roles import anybody
from dcmvault.web.visitors import visitor_of

_Word = Annotated[str, Query(max_length=2000)]
#: Some providers put all they know into a code.
_Code = Annotated[str, Query(max_length=16_000)]

router = APIRouter(include_in_schema=False, dependencies=[Depends(anybody)])


@router.get("/login/oidc")
def leave_for_provider(
    request: Request,
    behind: Behind,
    next: Next = "/",  # noqa: A002 - the field's name
) -> Response:
    """Lead to the provider; what the browser brings back is bound to it by a cookie."""
    oidc, doors, where = _oidc(behind), behind.doors, own_path(next)
    if visitor_of(request) is not None:
        return RedirectResponse(where, 303)
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        # Nobody else begins a login in somebody's browser.
        return RedirectResponse("/login", 303)
    try:
        address, ticket = oidc.begin(where)
    except LoginError as error:
        return login_again(request, behind, where, error)
    # A half login that was begun here before is over.
    doors.sessions.end(doors.token(request.headers))
    answer = RedirectResponse(address, 303)
    doors.send_away(answer, ticket)
    return answer


@router.get(REDIRECT_PATH)
def back_from_provider(
    request: Request,
    behind: Behind,
    code: _Code = "",
    state: _Word = "",
    error: _Word = "",
    iss: _Word = "",
) -> Response:
    """Begin a session for whom the provider names."""
    oidc, doors = _oidc(behind), behind.doors
    ticket = request.cookies.get(doors.ticket_cookie, "")
    asking = doors.asking(request.headers, request.scope)
    try:
        entered, where = oidc.finish(OidcAnswer(code, state, error, iss), ticket, asking)
    except LoginError as refused:
        answer: Response = login_again(request, behind, "/", refused)
    else:
        doors.sessions.end(doors.token(request.headers))
        # Not a redirection: the browser comes from another site, and the cookie of the session is
        # sent only with what begins on a page of ours.
        answer = page(request, "login/entered.html", told="", next=own_path(where))
        doors.let_in(answer, entered)
    doors.take_ticket(answer)
    return answer


def _oidc(behind: Backstage) -> OidcDesk:
    oidc = behind.doors.oidc
    if oidc is None:
        raise HTTPException(404)
    return oidc
