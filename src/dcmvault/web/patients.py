"""Names of patients on pages: hidden until somebody reveals them, and never shown to a viewer."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from dcmvault.app.auditing import Auditing
from dcmvault.model.account import Role
from dcmvault.model.audit import Actor, ActorKind, AuditKind
from dcmvault.web.backstage import Behind
from dcmvault.web.forms import Fields
from dcmvault.web.origin import own_path
from dcmvault.web.roles import needs
from dcmvault.web.visitors import By, Visitor

#: What stands for what is not shown; its length tells nothing.
_DOTS = "•••"
#: Characters of a reason that are kept.
_LONGEST_REASON = 200

router = APIRouter(include_in_schema=False, dependencies=[Depends(needs(Role.OPERATOR))])


def patient(visitor: Visitor | None, name: str) -> str:
    """Return a patient's name (PS3.5 section 6.2, PN), or patient ID, as somebody may see it.

    All of it once it is revealed, or to a program with the token of the API; else the initials of
    family and given name; to a viewer, or nobody, nothing but dots.
    """
    if not name:
        return ""
    if visitor is None or not visitor.role.may(Role.OPERATOR):
        return _DOTS
    if visitor.opened is None or visitor.shows_names:
        return name
    first_group = name.partition("=")[0]
    parts = [part.strip() for part in first_group.split("^")[:2]]
    return " ".join(f"{part[0]}{_DOTS}" for part in parts if part and part[0].isalpha()) or _DOTS


def shown_until(visitor: Visitor | None) -> datetime | None:
    """Return until when names are shown to somebody; None while they are hidden."""
    if visitor is None or visitor.opened is None or not visitor.shows_names:
        return None
    return visitor.opened.session.revealed_until


def may_reveal(visitor: Visitor | None) -> bool:
    """Say whether somebody may have names shown: in a session, and as an operator at least."""
    return visitor is not None and visitor.opened is not None and visitor.role.may(Role.OPERATOR)


@router.post("/patients/reveal")
def reveal(request: Request, behind: Behind, visitor: By, fields: Fields) -> Response:
    """Show names for a few minutes; the audit journal tells who asked, on which page, and why."""
    where = own_path(fields.get("here", "/"))
    if visitor.opened is not None:
        details = {"page": where.partition("?")[0]}
        if reason := " ".join(fields.get("reason", "").split())[:_LONGEST_REASON]:
            details["reason"] = reason
        workplace = behind.workplace
        asker = Actor(ActorKind.WEB, visitor.name, visitor.address)
        auditing = Auditing(workplace.home, asker, workplace.settings.audit, clock=workplace.clock)
        # What cannot be written down is not shown.
        if auditing.note(AuditKind.REVEALED, details=details):
            behind.doors.sessions.reveal(visitor.opened)
    return _back(request, where)


@router.post("/patients/hide")
def hide(request: Request, behind: Behind, visitor: By, fields: Fields) -> Response:
    """Hide names again."""
    if visitor.opened is not None:
        behind.doors.sessions.hide(visitor.opened)
    return _back(request, own_path(fields.get("here", "/")))


def _back(request: Request, where: str) -> Response:
    if request.headers.get("hx-request") == "true":
        return Response(headers={"HX-Redirect": where})
    return RedirectResponse(where, 303)
