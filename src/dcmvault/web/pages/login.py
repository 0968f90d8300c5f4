"""Login, logout, and the links that lead in once."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dcmvault.app.login import Asking, Entered
from dcmvault.app.passwords import SHORTEST
from dcmvault.errors import DcmvaultError, LoginError, LoginServiceError, LoginWaitError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.audit import AuditKind
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.forms import Fields
from dcmvault.web.frame import page
from dcmvault.web.origin import own_path
from dcmvault.web.roles import Role, anybody, every_route, needs
from dcmvault.web.speaking import LANGUAGE_COOKIE
from dcmvault.web.visitors import visitor_of

_A_YEAR_S = 31_536_000
#: Where the first account goes on, once there is such a page.
_WIZARD = "/wizard"

Next = Annotated[str, Query(max_length=2000)]

router = APIRouter(include_in_schema=False)
_ANYBODY = [Depends(anybody)]


@router.get("/login", dependencies=_ANYBODY)
def login_page(request: Request, behind: Behind, next: Next = "/") -> Response:  # noqa: A002 - the field's name
    """Ask for name and password."""
    if visitor_of(request) is not None:
        return RedirectResponse(own_path(next), 303)
    return login_again(request, behind, next)


@router.post("/login", dependencies=_ANYBODY)
def log_in(request: Request, behind: Behind, fields: Fields) -> Response:
    """Begin a session, or ask for the one-time code."""
    where = own_path(fields.get("next", "/"))
    name, password = fields.get("name", ""), fields.get("password", "")
    try:
        entered = behind.doors.login.by_password(name, password, _asking(request, behind))
    except LoginError as error:
        return login_again(request, behind, where, error)
    return _entered(request, behind, entered, where)


@router.get("/login/code", dependencies=_ANYBODY)
def code_page(request: Request, next: Next = "/") -> HTMLResponse:  # noqa: A002 - the field's name
    """Ask for the one-time code."""
    return _told(request, "login/code.html", None, next=own_path(next))


@router.post("/login/code", dependencies=_ANYBODY)
def log_in_by_code(request: Request, behind: Behind, fields: Fields) -> Response:
    """Make the session whole."""
    where = own_path(fields.get("next", "/"))
    token = behind.doors.token(request.headers)
    try:
        entered = behind.doors.login.by_code(
            token, fields.get("code", ""), _asking(request, behind)
        )
    except LoginError as error:
        return _told(request, "login/code.html", error, next=where)
    return _entered(request, behind, entered, where)


@router.post("/logout", dependencies=[Depends(needs(Role.VIEWER))])
def log_out(request: Request, behind: Behind) -> Response:
    """End the session."""
    behind.doors.login.leave(behind.doors.token(request.headers), _asking(request, behind))
    answer = RedirectResponse("/login", 303)
    behind.doors.let_out(answer)
    return answer


@router.get("/welcome/{token}", dependencies=_ANYBODY)
def welcome_page(request: Request, behind: Behind, token: str) -> HTMLResponse:
    """Ask who used a link for a password; it is not used up by looking."""
    try:
        name = _link(request, behind, token)
    except LoginError as error:
        return _told(request, "login/expired.html", error)
    return _welcome_page(request, name)


@router.post("/welcome/{token}", dependencies=_ANYBODY)
def welcome(request: Request, behind: Behind, token: str, fields: Fields) -> Response:
    """Use a link up: make the first account, or set a password; and log in."""
    doors, asking = behind.doors, _asking(request, behind)
    password, language = fields.get("password", ""), fields.get("language", "")
    try:
        whose = _link(request, behind, token)
    except LoginError as error:
        return _told(request, "login/expired.html", error)
    try:
        if fields.get("again", "") != password:
            raise UsageError(_("The two passwords are not the same."))
        name = doors.accounts.take_link(
            token, password, name=fields.get("name", ""), language=language
        )
        doors.login.note(AuditKind.ACCOUNTS, name, asking.address, "link")
        entered = doors.login.by_link(name, asking)
    except DcmvaultError as error:
        return _welcome_page(request, whose, error, typed=fields.get("name", ""))
    answer = _entered(request, behind, entered, "/" if whose else _first_page(request))
    if language:
        answer.set_cookie(LANGUAGE_COOKIE, language, max_age=_A_YEAR_S, samesite="lax")
    return answer


def _link(request: Request, behind: Backstage, token: str) -> str:
    """Return for whom a link is; LoginError, too, for the first one from another machine."""
    name = behind.doors.accounts.link(token)
    if not name and not _is_from_here(request):
        raise LoginError(
            _("The first account is made on the machine itself."),
            hint=_("Open the link in a browser there, or run: dcmvault web user add"),
        )
    return name


def _is_from_here(request: Request) -> bool:
    address = request.client.host if request.client else ""
    here = request.scope.get("server") or ("",)
    try:
        return ip_address(address).is_loopback or address == here[0]
    except ValueError:
        return False


def _first_page(request: Request) -> str:
    known = {getattr(route, "path", "") for route in every_route(request.app.routes)}
    return _WIZARD if _WIZARD in known else "/"


def _entered(request: Request, behind: Backstage, entered: Entered, where: str) -> Response:
    # A cookie that was there before was perhaps somebody else's idea.
    behind.doors.sessions.end(behind.doors.token(request.headers))
    target = f"/login/code?next={quote(where)}" if entered.is_half else where
    answer = RedirectResponse(target, 303)
    behind.doors.let_in(answer, entered)
    return answer


def _asking(request: Request, behind: Backstage) -> Asking:
    return behind.doors.asking(request.headers, request.scope)


def login_again(
    request: Request, behind: Backstage, where: str, error: LoginError | None = None
) -> HTMLResponse:
    """Ask for name and password, and offer the identity provider; say what went wrong before."""
    oidc = behind.doors.oidc
    button = oidc.button if oidc is not None else ""
    return _told(request, "login/login.html", error, next=own_path(where), oidc=button)


def _welcome_page(
    request: Request, name: str, error: DcmvaultError | None = None, typed: str = ""
) -> HTMLResponse:
    return _told(
        request,
        "login/welcome.html",
        error,
        name=name or typed,
        is_first=not name,
        shortest=SHORTEST,
    )


def _told(
    request: Request, template: str, error: DcmvaultError | None, **values: str | int
) -> HTMLResponse:
    status = 200
    if error is not None:
        status = 429 if isinstance(error, LoginWaitError) else 422
        status = 503 if isinstance(error, LoginServiceError) else status
        status = 401 if type(error) is LoginError else status
    problem, hint = (error.message, error.hint) if error else ("", "")
    told = {"told": problem, "hint": hint, **values}
    return page(request, template, status=status, headers=None, **told)
