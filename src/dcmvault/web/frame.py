"""What surrounds every page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import HTMLResponse

from dcmvault.i18n import language
from dcmvault.web.rendering import render

POLICY = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Frame:
    """What `base.html` shows around a page."""

    language: str
    csrf: str
    person: str


def page(
    request: Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: object,
) -> HTMLResponse:
    """Answer with a page of ours, in the language in use."""
    frame = Frame(
        language().replace("_", "-"),
        getattr(request.state, "csrf", ""),
        getattr(request.state, "person", ""),
    )
    body = render(template, frame=frame, **values)
    return HTMLResponse(
        body, status, headers={"Content-Security-Policy": POLICY, **(headers or {})}
    )
