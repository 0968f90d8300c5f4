"""How pages look to whoever looks at them: language and theme, kept in the browser."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form
from fastapi.responses import RedirectResponse

from dcmvault.i18n import LANGUAGES
from dcmvault.web.frame import THEME_COOKIE, THEMES
from dcmvault.web.roles import Role, needs
from dcmvault.web.speaking import LANGUAGE_COOKIE

_A_YEAR_S = 31_536_000

router = APIRouter(include_in_schema=False)


@router.post("/appearance", dependencies=[Depends(needs(Role.VIEWER))])
def choose(
    language: Annotated[str, Form(max_length=10)] = "",
    theme: Annotated[str, Form(max_length=10)] = "",
    here: Annotated[str, Form(max_length=2000)] = "/",
) -> RedirectResponse:
    """Keep what was chosen, and go back to the page; theme `system` is as the system says."""
    answer = RedirectResponse(_ours(here), 303)
    if language in LANGUAGES:
        _keep(answer, LANGUAGE_COOKIE, language)
    if theme in THEMES:
        _keep(answer, THEME_COOKIE, theme)
    elif theme == "system":
        answer.delete_cookie(THEME_COOKIE)
    return answer


def _keep(answer: RedirectResponse, name: str, value: str) -> None:
    # Scripts of ours read and write them: nothing in them is secret.
    answer.set_cookie(name, value, max_age=_A_YEAR_S, samesite="lax")


def _ours(address: str) -> str:
    """Return a place of this dashboard: a form may have been told to lead elsewhere."""
    parts = urlsplit(address.replace("\\", "/"))
    if parts.scheme or parts.netloc or not parts.path.startswith("/"):
        return "/"
    # More than one slash at the begin would name a host.
    path = "/" + parts.path.lstrip("/")
    return f"{path}?{parts.query}" if parts.query else path
