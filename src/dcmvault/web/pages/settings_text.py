"""Rules and hooks as the configuration writes them: checked, tried, and shown before saving."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from dcmvault.app.configuring import propose_change, tables_written
from dcmvault.app.rules_tried import LOOKED_AT, RulesTried, try_rules
from dcmvault.config.editing import PutTables
from dcmvault.errors import DcmvaultError
from dcmvault.i18n import gettext as _
from dcmvault.reports.overview_words import priority_words
from dcmvault.web.backstage import Behind
from dcmvault.web.forms import Fields
from dcmvault.web.frame import page
from dcmvault.web.pages.settings import proposed_page
from dcmvault.web.roles import Role, needs

NAMES = ("rules", "hooks")
_EXAMPLES: Mapping[str, str] = {
    "rules": '[[rules]]\nname = "emergency department"\nmodality = ["CT"]\npriority = "urgent"\n',
    "hooks": '[hooks.post_run]\ncommand = ["/usr/local/bin/after-backup"]\non_failure = "warn"\n',
}
_LONGEST = 100_000

router = APIRouter(include_in_schema=False, dependencies=[Depends(needs(Role.ADMINISTRATOR))])


@router.get("/settings/text/{name}")
def text_page(request: Request, behind: Behind, name: str) -> HTMLResponse:
    """Show the tables as they are written."""
    _check(name)
    return _page(request, name, tables_written(behind.workplace.home, name))


@router.post("/settings/text/{name}")
def text_asked(request: Request, behind: Behind, fields: Fields, name: str) -> Response:
    """Show what the change would do to the file, or to studies; nothing is changed."""
    _check(name)
    text = fields.get("text", "")[:_LONGEST].replace("\r\n", "\n")
    edits = [PutTables((name,), text)]
    try:
        if "try" in fields and name == "rules":
            proposed = propose_change(behind.workplace.home, edits)
            tried = try_rules(behind.workplace, proposed.settings)
            return _page(request, name, text, tried=tried)
        return proposed_page(request, behind, edits, f"/settings/text/{name}")
    except DcmvaultError as error:
        return _page(request, name, text, error)


def _check(name: str) -> None:
    if name not in NAMES:
        raise HTTPException(404)


def _page(
    request: Request,
    name: str,
    text: str,
    error: DcmvaultError | None = None,
    *,
    tried: RulesTried | None = None,
) -> HTMLResponse:
    return page(
        request,
        "settings/text.html",
        status=422 if error else 200,
        name=name,
        title=_("Rules") if name == "rules" else _("Commands around runs"),
        text=text,
        example=_EXAMPLES[name],
        tried=tried,
        most=LOOKED_AT,
        priority_words=priority_words,
        problem=(error.message, error.hint) if error else ("", ""),
    )
