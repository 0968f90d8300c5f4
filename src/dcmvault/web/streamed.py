"""A page that is sent piece by piece, as what it tells becomes known: it needs no script."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from dcmvault.errors import DcmvaultError
from dcmvault.web.frame import POLICY, page
from dcmvault.web.rendering import render

_log = logging.getLogger(__name__)

#: Where the pieces stand in the template: no value can be that, for it is not escaped.
_HERE = "<!-- pieces -->"


def streamed_page(
    request: Request, template: str, pieces: Iterable[str], **values: object
) -> Response:
    """Answer with a page whose template has `<!-- pieces -->` where the pieces (HTML) are to be.

    What ends the pieces early is told among them: the page has begun, and has its status.
    """
    whole = bytes(page(request, template, status=200, headers=None, **values).body).decode("utf-8")
    before, _here, after = whole.partition(_HERE)
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
    body = _pieces(before, pieces, after)
    return StreamingResponse(body, media_type="text/html", headers=headers)


def _pieces(before: str, pieces: Iterable[str], after: str) -> Iterator[str]:
    yield before
    try:
        yield from pieces
    except DcmvaultError as error:
        yield render("parts/told.html", told=error.message, hint=error.hint)
    except Exception:  # noqa: BLE001 - a request's outermost frame; the log has the rest
        _log.exception("a page ended by a defect")
        yield render("parts/told.html", told="something unexpected happened", hint="")
    yield after
