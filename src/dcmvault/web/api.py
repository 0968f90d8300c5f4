"""The API as a whole: its parts, its guard, and errors as they are answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from dcmvault import __version__
from dcmvault.errors import AddressError, DcmvaultError, UsageError
from dcmvault.web import looking, steering
from dcmvault.web.answers import Refusal
from dcmvault.web.backstage import Backstage
from dcmvault.web.guard import Guard
from dcmvault.web.pages import login

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
        responses={
            401: {"model": Refusal, "description": "the token is missing or wrong"},
            "4XX": {"model": Refusal},
            "5XX": {"model": Refusal},
        },
    )
    api.state.backstage = backstage
    for router in (looking.router, steering.router, login.router):
        api.include_router(router)
    api.add_exception_handler(DcmvaultError, _told)
    api.add_exception_handler(HTTPException, _told_by_framework)
    api.add_exception_handler(RequestValidationError, _told_wrong)
    api.add_exception_handler(Exception, _told_unexpected)
    return Guard(api, lets_in=lets_in, names=names, doors=backstage.doors)


def _told(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DcmvaultError)
    status = HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, UsageError):
        # What was to be looked at, or was named, is not there; else it is not as was supposed.
        is_missing = request.method == "GET" or isinstance(error, AddressError)
        status = HTTPStatus.NOT_FOUND if is_missing else HTTPStatus.CONFLICT
    return _refusal(status, error.code, error.message, error.hint)


def _told_by_framework(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _refusal(error.status_code, "request", str(error.detail), "")


def _told_wrong(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Where, and what is wrong; never the value, which comes from elsewhere.
    wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return _refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "request", "; ".join(wrong[:10]), "")


def _told_unexpected(_request: Request, error: Exception) -> JSONResponse:
    _log.error("a request failed unexpectedly", exc_info=error)
    return _refusal(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "unexpected",
        "something unexpected happened; this is a defect of dcmvault",
        "the log of the daemon has the details",
    )


def _refusal(status: int, code: str, message: str, hint: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message, "hint": hint}}, status)
