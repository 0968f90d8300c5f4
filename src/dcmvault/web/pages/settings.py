"""Settings: sections with fields, tests beside places, and the difference before it is saved."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dcmvault.app.configuring import propose_change, save_configuration
from dcmvault.app.notify import try_channels
from dcmvault.app.settings_view import (
    FAMILIES,
    TABLES,
    added_table,
    edits_as_data,
    edits_from_data,
    families,
    removed_table,
    section_view,
    typed_edits,
)
from dcmvault.config.editing import Edit
from dcmvault.config.load import load_settings
from dcmvault.config.places import config_path
from dcmvault.config.settings import Settings
from dcmvault.errors import ConfigurationError, DcmvaultError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.forms import Fields
from dcmvault.web.frame import page
from dcmvault.web.origin import own_path
from dcmvault.web.pages.wizard_check import actor_of
from dcmvault.web.roles import Role, needs
from dcmvault.web.steered import Steered
from dcmvault.web.visitors import By

router = APIRouter(include_in_schema=False, dependencies=[Depends(needs(Role.ADMINISTRATOR))])


@router.get("/settings")
def settings_page(request: Request, behind: Behind) -> HTMLResponse:
    """List the sections."""
    return _list(request, behind)


@router.get("/settings/general")
def general(request: Request, behind: Behind) -> HTMLResponse:
    """Show the keys above all tables."""
    return _section(request, behind, ())


@router.get("/settings/{table}")
def table_page(request: Request, behind: Behind, table: str) -> HTMLResponse:
    """Show a single table."""
    return _section(request, behind, (table,))


@router.get("/settings/{family}/{name}")
def named_page(request: Request, behind: Behind, family: str, name: str) -> HTMLResponse:
    """Show a table of a family."""
    return _section(request, behind, (family, name))


@router.post("/settings/propose")
def propose(request: Request, behind: Behind, fields: Fields) -> Response:
    """Show what a change would do: lines, and what waits for a restart."""
    home = behind.workplace.home
    path = tuple(one for one in fields.get("path", "").split(".") if one)
    try:
        settings = _settings(behind)
        if fields.get("what") == "remove":
            edits = removed_table(settings, path)
        elif fields.get("what") == "add":
            edits = added_table(fields.get("family", ""), fields)
        else:
            edits = typed_edits(home, settings, path, fields)
        return proposed_page(request, behind, edits, own_path(fields.get("back", "/settings")))
    except DcmvaultError as error:
        if fields.get("what") == "add" or not path:
            return _list(request, behind, error)
        return _section(request, behind, path, error)


@router.post("/settings/save")
def save(request: Request, behind: Behind, by: By, fields: Fields) -> Response:
    """Save a change that was shown, if the file is still as it was."""
    home = behind.workplace.home
    try:
        edits = edits_from_data(_json(fields.get("edits", "")))
        saved = save_configuration(home, edits, digest=fields.get("digest", ""), actor=actor_of(by))
    except DcmvaultError as error:
        return _list(request, behind, error)
    behind.workplace.adopt(saved.settings)
    return RedirectResponse("/settings", 303)


@router.post("/settings/told")
def told(request: Request, behind: Behind, steered: Steered, fields: Fields) -> Response:
    """Send a test message to a channel."""
    name = fields.get("name", "")
    try:
        with steered("notify test", place=name):
            tried = try_channels(behind.workplace, [name])
    except UsageError as error:
        return _list(request, behind, error)
    return page(request, "settings/told.html", tried=tried, name=name)


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _settings(behind: Backstage) -> Settings:
    """Return what the file says now: the daemon may still work by what it said before."""
    return load_settings(config_path(behind.workplace.home))


def _list(request: Request, behind: Backstage, error: DcmvaultError | None = None) -> HTMLResponse:
    try:
        settings = _settings(behind)
    except ConfigurationError as wrong:
        settings, error = behind.workplace.settings, wrong
    labels = _labels()
    return page(
        request,
        "settings/list.html",
        status=422 if error else 200,
        tables=[(one or "general", labels[one]) for one in TABLES],
        families=[(one, labels[one], names) for one, names in families(settings).items()],
        places=(*settings.sources, *settings.destinations),
        path=str(config_path(behind.workplace.home)),
        problem=(error.message, error.hint) if error else ("", ""),
    )


def _section(
    request: Request,
    behind: Backstage,
    path: tuple[str, ...],
    error: DcmvaultError | None = None,
) -> HTMLResponse:
    try:
        view = section_view(behind.workplace.home, _settings(behind), path)
    except DcmvaultError as wrong:
        return _list(request, behind, error or wrong)
    return page(
        request,
        "settings/section.html",
        status=422 if error else 200,
        view=view,
        title=path[-1] if len(path) > 1 else _labels()[path[0] if path else ""],
        family=path[0] if len(path) > 1 and path[0] in FAMILIES else "",
        name=path[-1] if path else "",
        problem=(error.message, error.hint) if error else ("", ""),
    )


def proposed_page(
    request: Request, behind: Backstage, edits: Sequence[Edit], back: str
) -> HTMLResponse:
    """Show what edits would change in the file; ConfigurationError for what would be wrong."""
    proposed = propose_change(behind.workplace.home, edits)
    return page(
        request,
        "settings/proposed.html",
        proposed=proposed,
        edits=json.dumps(edits_as_data(edits)),
        back=back,
    )


def _labels() -> dict[str, str]:
    return {
        "": _("General"),
        "retry": _("Attempts"),
        "bandwidth": _("Speed"),
        "web": _("This dashboard"),
        "monitoring": _("Alerts"),
        "listener": _("What others push to us"),
        "serve": _("A vault that answers"),
        "safe_to_delete": _("May originals be deleted?"),
        "classification": _("Rules about studies"),
        "audit": _("Audit"),
        "sources": _("Sources"),
        "destinations": _("Destinations"),
        "plans": _("Plans"),
        "schedules": _("Schedules"),
        "windows": _("Windows"),
        "notifications": _("Who is told"),
    }
