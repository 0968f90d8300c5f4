"""The last step of the first run: what it would do, then all of it or a pilot; who is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dcmvault.app.check_first import PILOT_STUDIES, expect, start_pilot
from dcmvault.app.configuring import ProposedChange, propose_change, save_configuration
from dcmvault.app.first_run import CHANNEL, PLAN, edits_of, enabling
from dcmvault.app.first_run_draft import Draft, Options, drop_draft, keep_draft, load_draft
from dcmvault.app.notify import try_channels
from dcmvault.app.plan_runs import start_plan
from dcmvault.app.trial_sections import trial_places
from dcmvault.app.vault_making import MakingRequest, make_vault
from dcmvault.config.secret_files import keep_secret
from dcmvault.errors import ConfigurationError, DcmvaultError
from dcmvault.i18n import gettext as _
from dcmvault.model.audit import Actor, ActorKind, AuditKind
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.forms import Fields
from dcmvault.web.frame import page
from dcmvault.web.pages.wizard import steps
from dcmvault.web.rendering import render
from dcmvault.web.roles import Role, needs
from dcmvault.web.steered import Steered
from dcmvault.web.streamed import streamed_page
from dcmvault.web.visitors import By, Visitor

router = APIRouter(
    include_in_schema=False, dependencies=[Depends(needs(Role.ADMINISTRATOR))], prefix="/wizard"
)


@router.get("/check")
def check_page(request: Request, behind: Behind) -> HTMLResponse:
    """Show what would be written, or what is to be looked at before it begins."""
    return _check(request, behind)


@router.post("/save")
def save(request: Request, behind: Behind, by: By, steered: Steered, fields: Fields) -> Response:
    """Write the answers into the configuration, and make the vaults that are not there yet."""
    home = behind.workplace.home
    draft = load_draft(home)
    try:
        saved = save_configuration(
            home, edits_of(home, draft), digest=fields.get("digest", ""), actor=actor_of(by)
        )
        behind.workplace.adopt(saved.settings)
        made = _make_vaults(behind, steered, draft)
    except DcmvaultError as error:
        return _check(request, behind, error)
    keep_draft(home, replace(draft, is_saved=True, step="check"))
    if made:
        return page(request, "wizard/recovery.html", steps=steps("check"), made=made)
    return RedirectResponse("/wizard/check", 303)


def _make_vaults(
    behind: Backstage, steered: Steered, draft: Draft
) -> list[tuple[str, list[list[str]]]]:
    """Make each new vault of the draft; return names with the words of their recovery keys."""
    workplace, made = behind.workplace, []
    places = trial_places(workplace.settings, draft)
    for place in draft.destinations:
        if not places.is_new_vault(place.name):
            continue
        with steered("vault init", kind=AuditKind.VAULT_MADE, place=place.name):
            vault = make_vault(workplace.settings, place.name, MakingRequest(recovery=True))
        made.append((place.name, vault.recovery_rows))
    return made


@router.post("/look")
def look(request: Request, behind: Behind) -> Response:
    """List the sources and say what the first runs would do; nothing is sent."""
    return streamed_page(request, "wizard/look.html", _looked(behind), steps=steps("check"))


def _looked(behind: Backstage) -> Iterator[str]:
    found = expect(behind.workplace, PLAN)
    yield render("wizard/expectation.html", found=found)


@router.post("/start")
def start(request: Request, behind: Behind, steered: Steered, fields: Fields, by: By) -> Response:
    """Start all of it, by itself from now on; or a pilot of few studies."""
    workplace = behind.workplace
    if fields.get("what") == "pilot":
        with steered("run", kind=AuditKind.RUN_ASKED, plan=PLAN):
            start_pilot(workplace, PLAN)
        return RedirectResponse("/runs", 303)
    home = workplace.home
    try:
        saved = save_configuration(
            home,
            enabling(True),
            digest=propose_change(home, []).digest,
            actor=actor_of(by),
        )
    except ConfigurationError as error:
        # There is nothing to start before the answers were saved.
        return _check(request, behind, error)
    workplace.adopt(saved.settings)
    with steered("run", kind=AuditKind.RUN_ASKED, plan=PLAN):
        start_plan(workplace, PLAN)
    drop_draft(home)
    return RedirectResponse("/runs", 303)


@router.post("/told")
def told(request: Request, behind: Behind, fields: Fields) -> Response:
    """Take by whom problems are heard of."""
    home = behind.workplace.home
    draft = load_draft(home)
    try:
        channel = _channel(behind, fields)
        changed = replace(draft, channel=channel, is_saved=False)
        propose_change(home, edits_of(home, changed))
    except (DcmvaultError, ValueError) as error:
        return _check(request, behind, error)
    keep_draft(home, changed)
    return RedirectResponse("/wizard/check", 303)


@router.post("/told/test")
def test_told(request: Request, behind: Behind, steered: Steered) -> Response:
    """Send a test message."""
    with steered("notify test", place=CHANNEL):
        tried = try_channels(behind.workplace, [CHANNEL])
    return page(request, "wizard/told.html", steps=steps("check"), tried=tried)


def _channel(behind: Backstage, fields: Fields) -> Options:
    home = behind.workplace.home
    if fields.get("channel") == "webhook":
        url = fields.get("hook", "").strip()
        if not url.startswith(("https://", "http://")):
            raise ValueError(_("Type an address that begins with https://"))
        return {"channel": "webhook", "url": keep_secret(home, "webhook", url)}
    mail: dict[str, str | int | bool] = {"channel": "mail"}
    for key in ("host", "user", "sender"):
        if value := fields.get(key, "").strip():
            mail[key] = value
    mail["to"] = fields.get("to", "").strip()
    if password := fields.get("mail-password", ""):
        mail["password"] = keep_secret(home, "mail", password)
    return mail


def actor_of(by: Visitor) -> Actor:
    """Return who does it, for the journal."""
    return Actor(ActorKind.WEB, by.name, by.address)


def _check(request: Request, behind: Backstage, error: Exception | None = None) -> HTMLResponse:
    home = behind.workplace.home
    draft = load_draft(home)
    is_whole = bool(draft.sources and draft.destinations)
    proposed: ProposedChange | None = None
    if is_whole and error is None:
        try:
            proposed = propose_change(home, edits_of(home, draft))
        except ConfigurationError as wrong:
            error = wrong
    problem = (str(error), "") if error else ("", "")
    if isinstance(error, DcmvaultError):
        problem = (error.message, error.hint)
    is_saved = draft.is_saved and (proposed is None or not proposed.diff)
    return page(
        request,
        "wizard/check.html",
        status=422 if error else 200,
        steps=steps("check"),
        is_whole=is_whole,
        proposed=None if is_saved else proposed,
        is_saved=is_saved,
        problem=problem,
        channel=str(draft.channel.get("channel", "")),
        pilot=PILOT_STUDIES,
    )
