"""The API as a whole: its parts, its guard, and errors as they are answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from dcmvault import __version__
from dcmvault.app.thumbnails import Thumbnails
from dcmvault.errors import AddressError, DcmvaultError, UsageError
from dcmvault.web import looking, problems, steering
from dcmvault.web.answers import Refusal
from dcmvault.web.backstage import Backstage
from dcmvault.web.fragments import Fragments
from dcmvault.web.guard import Guard
from dcmvault.web.pages.all_pages import ROUTERS
from dcmvault.web.rendering import prepare
from dcmvault.web.roles import needed_role
from dcmvault.web.speaking import Speaking

_log = logging.getLogger(__name__)


def build_api(
    backstage: Backstage, *, lets_in: Callable[[str], bool], names: Collection[str]
) -> ASGIApp:
    """Build the API; `lets_in` knows the token, `names` are host names of this machine."""
    api = FastAPI(
        title="dcmvault",
        version=__version__,
        description="What the daemon of dcmvault does, and how to steer it.",
        # Served by a route that says who may use it.
        openapi_url=None,
        # Their pages load programs from elsewhere.
        docs_url=None,
        redoc_url=None,
        # It would lead to whatever the Host says.
        redirect_slashes=False,
        responses={
            401: {"model": Refusal, "description": "the token is missing or wrong"},
            "4XX": {"model": Refusal},
            "5XX": {"model": Refusal},
        },
    )
    api.state.backstage = backstage
    api.state.fragments = Fragments()
    api.state.thumbnails = Thumbnails(backstage.workplace)
    api.include_router(looking.router)
    api.include_router(steering.router)
    for router in ROUTERS:
        api.include_router(router)
    # What is looked at, and the role that it needs.
    api.state.pages = {
        route.path: needed_role(route)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    }
    prepare("overview/overview.html", "studies/list.html", "studies/views.html")
    api.add_exception_handler(DcmvaultError, _told)
    api.add_exception_handler(HTTPException, _told_by_framework)
    api.add_exception_handler(RequestValidationError, _told_wrong)
    api.add_exception_handler(Exception, _told_unexpected)
    doors = backstage.doors
    return Guard(Speaking(api), lets_in=lets_in, names=names, doors=doors)


def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, DcmvaultError)
    status = HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, UsageError):
        # What was to be looked at, or was named, is not there; else it is not as was supposed.
        is_missing = request.method == "GET" or isinstance(error, AddressError)
        status = HTTPStatus.NOT_FOUND if is_missing else HTTPStatus.CONFLICT
    if problems.is_for_people(request):
        return problems.told(request, status, error)
    return _refusal(status, error.code, error.message, error.hint)


def _told_by_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if problems.is_for_people(request):
        return problems.told_by_status(request, error.status_code)
    return _refusal(error.status_code, "request", str(error.detail), "")


def _told_wrong(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if problems.is_for_people(request):
        return problems.told_by_status(request, HTTPStatus.UNPROCESSABLE_ENTITY)
    # Where, and what is wrong; never the value, which comes from elsewhere.
    wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return _refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "request", "; ".join(wrong[:10]), "")


def _told_unexpected(request: Request, error: Exception) -> Response:
    _log.error("a request failed unexpectedly", exc_info=error)
    if problems.is_for_people(request):
        return problems.told_by_status(request, HTTPStatus.INTERNAL_SERVER_ERROR)
    return _refusal(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "unexpected",
        "something unexpected happened; this is a defect of dcmvault",
        "the log of the daemon has the details",
    )


def _refusal(status: int, code: str, message: str, hint: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message, "hint": hint}}, status)
