"""My account: password, one-time codes, language, and where I am logged in."""

from __future__ import annotations

import hmac

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from dcmvault.app import one_time_codes
from dcmvault.app.accounts import AccountDesk
from dcmvault.app.login import Entered
from dcmvault.app.sessions import OpenSession, csrf_of
from dcmvault.errors import DcmvaultError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.account import Role
from dcmvault.model.audit import AuditKind
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.forms import Fields
from dcmvault.web.frame import page
from dcmvault.web.proving import Mine, check_password
from dcmvault.web.qr_drawing import qr_code
from dcmvault.web.roles import needs
from dcmvault.web.visitors import By, Visitor

router = APIRouter(include_in_schema=False, dependencies=[Depends(needs(Role.VIEWER))])


@router.get("/account")
def account_page(request: Request, behind: Behind, mine: Mine) -> Response:
    """Show the account, and its sessions."""
    return _page(request, behind, mine)


@router.post("/account/password")
def change_password(
    request: Request, behind: Behind, mine: Mine, visitor: By, fields: Fields
) -> Response:
    """Change the password; all other sessions end, and this one gets a new token."""
    accounts, name = behind.doors.accounts, mine.account.name
    password = fields.get("password", "")
    try:
        check_password(request, behind, mine, fields)
        if fields.get("again", "") != password:
            raise UsageError(_("The two passwords are not the same."))
        accounts.set_password(name, password)
    except DcmvaultError as error:
        return _page(request, behind, mine, error)
    _note(behind, visitor, "password")
    answer = RedirectResponse("/account", 303)
    behind.doors.let_in(answer, _renewed(request, behind, mine))
    return answer


@router.post("/account/logout-everywhere")
def log_out_everywhere(behind: Behind, mine: Mine, visitor: By) -> Response:
    """End all sessions of this account, this one too."""
    behind.doors.sessions.end_others(mine.account.name, "")
    behind.doors.login.note(AuditKind.LOGOUT, mine.account.name, visitor.address, "everywhere")
    answer = RedirectResponse("/login", 303)
    behind.doors.let_out(answer)
    return answer


@router.post("/account/codes")
def begin_codes(request: Request, mine: Mine) -> Response:
    """Show a new secret for an authenticator; it holds once a code of it was typed."""
    secret = one_time_codes.new_secret()
    return _codes_page(request, mine, secret)


@router.post("/account/codes/confirm")
def confirm_codes(
    request: Request, behind: Behind, mine: Mine, visitor: By, fields: Fields
) -> Response:
    """Ask for one-time codes from now on, and show the recovery codes, this once."""
    secret = _unsealed(mine, fields.get("secret", ""), fields.get("seal", ""))
    try:
        check_password(request, behind, mine, fields)
        now = behind.workplace.clock.now()
        step = one_time_codes.matching_step(secret, fields.get("code", ""), now)
        if step is None:
            raise UsageError(
                _("The code is wrong."), hint=_("Type the one that the authenticator shows now.")
            )
    except DcmvaultError as error:
        return _codes_page(request, mine, secret, error)
    recovery = one_time_codes.new_recovery_codes()
    behind.doors.accounts.set_totp(mine.account.name, secret, recovery)
    behind.doors.accounts.book.use_totp(mine.account.name, step)
    _note(behind, visitor, "one-time codes")
    entered = _renewed(request, behind, mine)
    # Forms of the page are sent by the session that is begun with it.
    request.state.csrf = csrf_of(entered.token)
    answer = page(request, "account/recovery.html", codes=recovery)
    behind.doors.let_in(answer, entered)
    return answer


@router.post("/account/codes/remove")
def remove_codes(
    request: Request, behind: Behind, mine: Mine, visitor: By, fields: Fields
) -> Response:
    """Ask for one-time codes no more."""
    try:
        check_password(request, behind, mine, fields)
    except DcmvaultError as error:
        return _page(request, behind, mine, error)
    behind.doors.accounts.set_totp(mine.account.name, b"", [])
    _note(behind, visitor, "no one-time codes")
    answer = RedirectResponse("/account", 303)
    behind.doors.let_in(answer, _renewed(request, behind, mine))
    return answer


def _renewed(request: Request, behind: Backstage, mine: OpenSession) -> Entered:
    """End all sessions of the account, this one too, and begin one in its place."""
    doors, name = behind.doors, mine.account.name
    doors.sessions.end_others(name, "")
    return doors.login.renewed(name, doors.asking(request.headers, request.scope))


def _note(behind: Backstage, visitor: Visitor, what: str) -> None:
    behind.doors.login.note(AuditKind.ACCOUNTS, visitor.name, visitor.address, what)


def _page(
    request: Request, behind: Backstage, mine: OpenSession, error: DcmvaultError | None = None
) -> Response:
    return page(
        request,
        "account/account.html",
        status=422 if error else 200,
        account=_account_now(behind.doors.accounts, mine),
        sessions=behind.doors.sessions.of(mine.account.name),
        current=mine.session.digest,
        told=error.message if error else "",
        hint=error.hint if error else "",
    )


def _account_now(accounts: AccountDesk, mine: OpenSession) -> object:
    return accounts.known(mine.account.name).account


def _codes_page(
    request: Request,
    mine: OpenSession,
    secret: bytes,
    error: DcmvaultError | None = None,
) -> Response:
    text = one_time_codes.secret_text(secret)
    address = one_time_codes.otpauth_address(secret, mine.account.name)
    return page(
        request,
        "account/codes.html",
        status=422 if error else 200,
        groups=[text[start : start + 4] for start in range(0, len(text), 4)],
        link=address,
        qr=qr_code(address),
        secret=secret.hex(),
        seal=_seal(mine, secret),
        told=error.message if error else "",
        hint=error.hint if error else "",
    )


def _seal(mine: OpenSession, secret: bytes) -> str:
    """Return what proves that a secret is one that we made for this session."""
    return hmac.digest(mine.csrf.encode(), b"one-time codes\0" + secret, "sha256").hex()


def _unsealed(mine: OpenSession, secret: str, seal: str) -> bytes:
    try:
        found = bytes.fromhex(secret)
    except ValueError:
        found = b""
    if not found or not hmac.compare_digest(seal.encode(), _seal(mine, found).encode()):
        raise UsageError(_("That took too long."), hint=_("Begin again."))
    return found
