"""How pages look to whoever looks at them: language and theme, kept in the browser."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import RedirectResponse

from dcmvault.i18n import LANGUAGES
from dcmvault.web.forms import Fields
from dcmvault.web.frame import THEME_COOKIE, THEMES
from dcmvault.web.origin import own_path
from dcmvault.web.roles import anybody
from dcmvault.web.speaking import LANGUAGE_COOKIE

_A_YEAR_S = 31_536_000

router = APIRouter(include_in_schema=False)


@router.post("/appearance", dependencies=[Depends(anybody)])
def choose(fields: Fields) -> RedirectResponse:
    """Keep what was chosen, and go back to the page; theme `system` is as the system says."""
    language, theme = fields.get("language", ""), fields.get("theme", "")
    answer = RedirectResponse(own_path(fields.get("here", "/")), 303)
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
