"""What went wrong with a page, in plain words, with one thing to do about it."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import Request
from fastapi.responses import HTMLResponse, Response

from dcmvault.errors import DcmvaultError
from dcmvault.i18n import gettext as _
from dcmvault.i18n import sentence
from dcmvault.web.frame import page

#: Where programs ask, not people.
_FOR_PROGRAMS = ("/api/", "/healthz", "/metrics")


def is_for_people(request: Request) -> bool:
    """Whether a request is for a page, so that its problem is told as one."""
    return not request.url.path.startswith(_FOR_PROGRAMS)


def told(request: Request, status: int, error: DcmvaultError) -> HTMLResponse:
    """Tell an error of ours: its sentence, and its hint."""
    return _problem(request, status, sentence(error.message), sentence(error.hint))


def told_by_status(request: Request, status: int) -> Response:
    """Tell what only has a status."""
    if status == HTTPStatus.NOT_FOUND:
        title = _("There is no such page.")
        hint = _("The address may be mistyped, or what it showed is no longer there.")
    elif status == HTTPStatus.FORBIDDEN:
        title = _("This is not for your account.")
        hint = _("Ask an administrator of this dcmvault, who can change what you may do.")
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        title = _("Nothing was done.")
        hint = _("Go back to the page, and press its button there.")
    elif status == HTTPStatus.UNPROCESSABLE_ENTITY:
        title = _("Something in the address or in the form is not as it should be.")
        hint = _("Go back, look at what you typed, and try again.")
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        title = _("Something unexpected happened; this is a defect of dcmvault.")
        hint = _("Backups go on. The log of the daemon has the details.")
    else:
        title = _("This did not work.")
        hint = _("Go back, and try again.")
    return _problem(request, status, title, hint)


def _problem(request: Request, status: int, title: str, hint: str) -> HTMLResponse:
    tone = "bad" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "claim"
    template = "problems/problem.html"
    return page(request, template, status=status, title=title, hint=hint, tone=tone)
