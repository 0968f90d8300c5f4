"""Long work that a page asked for: how far it is, how to stop it, and the way to its result."""

from __future__ import annotations

from copy import copy

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from dcmvault.web.background import WorkState
from dcmvault.web.backstage import Behind
from dcmvault.web.frame import page
from dcmvault.web.roles import Role, needs

router = APIRouter(include_in_schema=False, dependencies=[Depends(needs(Role.OPERATOR))])


@router.get("/work/{work_id}")
def work(request: Request, behind: Behind, work_id: str) -> Response:
    """Show how far it is; once it is done, lead to its result."""
    # As it stands now: it may end while the page is made.
    found = copy(behind.background.find(work_id))
    if found.state is WorkState.DONE:
        if "hx-request" in request.headers:
            return Response(headers={"HX-Redirect": found.result_path})
        return RedirectResponse(found.result_path, 303)
    return page(request, "work/work.html", work=found)


@router.post("/work/{work_id}/stop")
def stop(behind: Behind, work_id: str) -> Response:
    """Stop it: what it wrote stays, and what it only counted is forgotten."""
    found = behind.background.find(work_id)
    behind.background.cancel(found)
    return RedirectResponse(f"/work/{work_id}", 303)


@router.post("/work/{work_id}/forget")
def forget(behind: Behind, work_id: str) -> Response:
    """Drop a result, and the files that it kept."""
    found = behind.background.find(work_id)
    behind.background.forget(found)
    return RedirectResponse(found.page, 303)
