"""Views of the studies page that somebody saves, for themselves or for all, and their columns."""

from __future__ import annotations

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from dcmvault.app.study_views import changes_of, keep_columns, remove_view, save_view
from dcmvault.model.study_matrix import SHARED, SavedView
from dcmvault.web.backstage import Behind
from dcmvault.web.forms import Fields
from dcmvault.web.pages.study_asking import asked
from dcmvault.web.pages.study_columns import changes_in_use, columns, view_address
from dcmvault.web.roles import Role, needs
from dcmvault.web.visitors import By, Visitor

router = APIRouter(include_in_schema=False, dependencies=[Depends(needs(Role.VIEWER))])


@router.post("/studies/views")
def save(request: Request, behind: Behind, by: By, fields: Fields) -> Response:
    """Save what the address asks for, and the columns that are shown, under a name."""
    what = asked(request, behind, by)
    view = SavedView(
        _account(by, fields.get("for", "")),
        fields.get("name", "").strip(),
        what.query_text,
        changes_in_use(behind, by, what),
    )
    save_view(behind.workplace, view)
    return RedirectResponse(view_address(what, view), 303)


@router.post("/studies/views/remove")
def remove(request: Request, behind: Behind, by: By, fields: Fields) -> Response:
    """Remove a view; what it asked for stays on the page."""
    what = asked(request, behind, by)
    remove_view(behind.workplace, _account(by, fields.get("for", "")), fields.get("name", ""))
    return RedirectResponse(what.address("/studies", view="", shared=""), 303)


@router.post("/studies/columns")
def choose_columns(request: Request, behind: Behind, by: By, fields: Fields) -> Response:
    """Keep which columns somebody wants to see."""
    what = asked(request, behind, by)
    every = columns(what)
    shown = {one.word for one in every if fields.get(f"show:{one.field}")}
    keep_columns(behind.workplace, by.name, changes_of([one.word for one in every], shown))
    return RedirectResponse(what.address("/studies", view="", shared=""), 303)


def _account(by: Visitor, for_whom: str) -> str:
    """Return whose view it is; who only looks shares none."""
    if for_whom != "all":
        return by.name
    if not by.role.may(Role.OPERATOR):
        raise HTTPException(403)
    return SHARED
