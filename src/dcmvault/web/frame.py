"""What surrounds every page: navigation, language, theme, who looks at it, and how all is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from dcmvault import __version__
from dcmvault.config.oidc_section import REDIRECT_PATH
from dcmvault.i18n import language
from dcmvault.model.account import Role
from dcmvault.web.backstage import Backstage
from dcmvault.web.navigation import Entry, navigation
from dcmvault.web.patients import may_reveal, patient, shown_until
from dcmvault.web.rendering import render
from dcmvault.web.visitors import Visitor, visitor_of

THEME_COOKIE = "dcmvault_theme"
THEMES = ("light", "dark")
#: Where to come back to from a page whose address has been used up.
_HERE = {REDIRECT_PATH: "/login", "/login/oidc": "/login"}
#: Nothing from elsewhere, nothing inline: what slips through the escaping does nothing.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Frame:
    """What `base.html` shows around a page."""

    language: str  #: as HTML names it (BCP 47)
    theme: str  #: empty: as the system says
    navigation: list[Entry]
    #: Where this page is, to come back to.
    here: str
    #: How all is, in short, as HTML; None for who is not let in yet.
    state: Markup | None
    #: Put into every form and request that changes something.
    csrf: str
    #: Who looks at it; empty for who holds the token of the API.
    person: str
    #: What is shown of a patient's name to who looks at it.
    patient: Callable[[str], str]
    #: Until when names of patients are shown; None while they are hidden.
    names_until: datetime | None
    #: Whether names of patients can be revealed.
    may_reveal: bool
    version: str = __version__


def page(
    request: Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: object,
) -> HTMLResponse:
    """Answer with a page of ours, in the language in use."""
    body = render(template, frame=_frame(request), **values)
    return HTMLResponse(
        body, status, headers={"Content-Security-Policy": POLICY, **(headers or {})}
    )


def state_now(request: Request) -> Markup:
    """Return the words at the top that say how all is, as HTML."""
    behind: Backstage = request.app.state.backstage
    # Rendered by a template, which escaped it.
    return Markup(render("parts/state.html", seen=behind.overview()))  # noqa: S704


def csrf_of(request: Request) -> str:
    """Return what every form of this session carries."""
    return str(getattr(request.state, "csrf", ""))


def _frame(request: Request) -> Frame:
    visitor = visitor_of(request)
    pages: Mapping[str, Role | None] = request.app.state.pages
    theme = request.cookies.get(THEME_COOKIE, "")
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return Frame(
        language=language().replace("_", "-"),
        theme=theme if theme in THEMES else "",
        navigation=_navigation(pages, request.url.path, visitor),
        here=_HERE.get(request.url.path, here) if request.method == "GET" else "/",
        state=state_now(request) if visitor is not None else None,
        csrf=csrf_of(request),
        person=getattr(request.state, "person", ""),
        patient=partial(patient, visitor),
        names_until=shown_until(visitor),
        may_reveal=may_reveal(visitor),
    )


def _navigation(
    pages: Mapping[str, Role | None], path: str, visitor: Visitor | None
) -> list[Entry]:
    """List the pages that somebody may see; none for who is not let in."""
    if visitor is None:
        return []
    seen = {where for where, role in pages.items() if role is None or visitor.role.may(role)}
    return navigation(seen, path)
