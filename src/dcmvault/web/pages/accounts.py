"""Accounts: who may come in, for administrators; each change is confirmed and audited."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from dcmvault.errors import DcmvaultError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.account import Account, Role
from dcmvault.model.audit import AuditKind
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.forms import Fields
from dcmvault.web.frame import page
from dcmvault.web.origin import address_asked
from dcmvault.web.pages.account_deeds import Deed, deeds, deeds_for, role_in
from dcmvault.web.proving import Mine, check_password
from dcmvault.web.roles import needs
from dcmvault.web.visitors import By, Visitor

router = APIRouter(include_in_schema=False, dependencies=[Depends(needs(Role.ADMINISTRATOR))])


@router.get("/accounts")
def accounts_page(request: Request, behind: Behind) -> Response:
    """List the accounts, and ask for another one."""
    return _list_page(request, behind)


@router.post("/accounts/add")
def add_account(
    request: Request, behind: Behind, mine: Mine, visitor: By, fields: Fields
) -> Response:
    """Make an account, and show the link with which its person chooses a password."""
    try:
        role = role_in(fields)
        check_password(request, behind, mine, fields)
        account = behind.doors.accounts.add(fields.get("name", ""), "", role)
    except DcmvaultError as error:
        return _list_page(request, behind, fields, error)
    _note(behind, visitor, "add", {"account": account.name, "role": role.value})
    told = _("Hand this link to %s. It is shown this once, and works once, for an hour.")
    return _done_page(request, told % account.name, _link(request, behind, account.name))


@router.get("/accounts/{name}")
def account_page(request: Request, behind: Behind, name: str) -> Response:
    """Show an account, where it is logged in, and what can be done with it."""
    account = _account(behind, name)
    return page(
        request,
        "accounts/account.html",
        account=account,
        sessions=behind.doors.sessions.of(account.name),
        deeds=deeds_for(account),
    )


@router.get("/accounts/{name}/{deed}")
def confirm_page(request: Request, behind: Behind, name: str, deed: str) -> Response:
    """Say what would come of it, and ask for the password of who asks."""
    return _confirm_page(request, _account(behind, name), _deed(deed))


@router.post("/accounts/{name}/{deed}")
def change_account(
    request: Request,
    behind: Behind,
    mine: Mine,
    visitor: By,
    fields: Fields,
    name: str,
    deed: str,
) -> Response:
    """Do it, and show what came of it; who ended their own session logs in again."""
    account, asked = _account(behind, name), _deed(deed)
    try:
        check_password(request, behind, mine, fields)
        asked.do(behind.doors.accounts, account.name, fields)
    except DcmvaultError as error:
        return _confirm_page(request, account, asked, error)
    details = {"account": account.name}
    if asked.word == "role":
        details["role"] = role_in(fields).value
    _note(behind, visitor, asked.word, details)
    if asked.ends_sessions and not behind.doors.still_in(visitor):
        answer = RedirectResponse("/login", 303)
        behind.doors.let_out(answer)
        return answer
    link = _link(request, behind, account.name) if asked.word == "link" else ""
    return _done_page(request, asked.done % account.name, link)


def _account(behind: Backstage, name: str) -> Account:
    try:
        return behind.doors.accounts.known(name).account
    except UsageError:
        raise HTTPException(404) from None


def _deed(word: str) -> Deed:
    found = deeds().get(word)
    if found is None:
        raise HTTPException(404)
    return found


def _link(request: Request, behind: Backstage, name: str) -> str:
    token, _expires_at = behind.doors.accounts.make_link(name)
    return f"{address_asked(request)}/welcome/{token}"


def _note(behind: Backstage, visitor: Visitor, how: str, details: Mapping[str, str]) -> None:
    behind.doors.login.note(AuditKind.ACCOUNTS, visitor.name, visitor.address, how, details)


def _list_page(
    request: Request,
    behind: Backstage,
    typed: Mapping[str, str] | None = None,
    error: DcmvaultError | None = None,
) -> Response:
    typed = typed or {}
    return page(
        request,
        "accounts/accounts.html",
        status=422 if error else 200,
        accounts=behind.doors.accounts.accounts(),
        name=typed.get("name", ""),
        role=typed.get("role", Role.VIEWER.value),
        told=error.message if error else "",
        hint=error.hint if error else "",
    )


def _confirm_page(
    request: Request, account: Account, deed: Deed, error: DcmvaultError | None = None
) -> Response:
    return page(
        request,
        "accounts/confirm.html",
        status=422 if error else 200,
        account=account,
        deed=deed,
        told=error.message if error else "",
        hint=error.hint if error else "",
    )


def _done_page(request: Request, told: str, link: str) -> Response:
    # A link lets somebody in: no browser keeps the page.
    return page(
        request,
        "accounts/done.html",
        headers={"Cache-Control": "no-store"},
        told=told,
        link=link,
    )
