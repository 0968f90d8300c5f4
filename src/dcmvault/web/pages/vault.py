"""Vault: its snapshots, who can open it, what takes up its space, and whether it is sound."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dcmvault.app.vault_care import Checked, check_vault
from dcmvault.app.vault_findings import (
    Part,
    check_request,
    errors_by_kind,
    notes,
    studies_touched,
    told_by,
)
from dcmvault.app.vault_looks import VaultLook, look_at_vault
from dcmvault.errors import DcmvaultError, UsageError
from dcmvault.i18n import format_bytes
from dcmvault.i18n import gettext as _
from dcmvault.model.audit import AuditKind
from dcmvault.reports.bars import bar
from dcmvault.reports.vault_words import (
    coding_word,
    content_kind,
    key_kind,
    object_kind,
    snapshot_kind,
    soundness,
)
from dcmvault.web.background import Progress, Work
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.forms import Fields
from dcmvault.web.frame import page
from dcmvault.web.pages.place_words import names_for
from dcmvault.web.pages.places_offered import vaults
from dcmvault.web.pages.results import result_of
from dcmvault.web.roles import Role, needs
from dcmvault.web.steered import Steered
from dcmvault.web.visitors import By, Visitor

LOOKED, CHECKED = "/vault/looked", "/vault/checked"
#: Findings of one kind that are shown.
_MOST_FINDINGS = 50
router = APIRouter(include_in_schema=False, dependencies=[Depends(needs(Role.OPERATOR))])


@router.get("/vault")
def vault_page(request: Request, behind: Behind, by: By) -> HTMLResponse:
    """Show the configured vaults, and what can be done with each."""
    return _vaults(request, behind, by)


@router.post("/vault/look")
def look(request: Request, behind: Behind, by: By, fields: Fields) -> Response:
    """Look at a vault as a whole; nothing in it is changed."""
    settings = behind.workplace.settings
    try:
        name = _named(behind, fields)
        work = behind.background.ask(
            _("Look at the vault %s") % name,
            LOOKED,
            lambda work: look_at_vault(
                settings, name, told_by(lambda *how: _stands(work, *how)), work.stop
            ),
            by=by.name,
            at=behind.workplace.clock.now(),
        )
    except UsageError as error:
        return _vaults(request, behind, by, error)
    return RedirectResponse(f"/work/{work.work_id}", 303)


@router.get("/vault/looked/{work_id}")
def looked(request: Request, behind: Behind, by: By, work_id: str) -> HTMLResponse:
    """Show what a vault is like."""
    work, found = result_of(behind.background, work_id, VaultLook)
    names = names_for(behind, by)
    stored = [
        (f"stage{number % 5}", object_kind(kind), float(size), format_bytes(size))
        for number, (kind, size) in enumerate(
            sorted(found.figures.stored.items(), key=lambda one: -one[1])
        )
        if size
    ]
    return page(
        request,
        "vault/looked.html",
        work=work,
        look=found,
        names=names,
        stored=bar(stored),
        contents=[
            (content_kind(one.kind), one.blobs, one.content_bytes, one.stored_bytes)
            for one in found.figures.blobs
            if one.blobs
        ],
        codings=[
            (coding_word(one.coding), one.parts, one.content_bytes, one.stored_bytes)
            for one in found.figures.space.codings
        ],
        key_kind=key_kind,
        snapshot_kind=snapshot_kind,
    )


@router.post("/vault/check")
def check(request: Request, behind: Behind, by: By, steered: Steered, fields: Fields) -> Response:
    """Check a vault: its structure, or also the bytes of some packs, or of all."""
    try:
        name = _named(behind, fields)
        asked = check_request(name, _part(fields.get("part", Part.STRUCTURE.value)))
    except DcmvaultError as error:
        return _vaults(request, behind, by, error)
    workplace = behind.workplace

    def do(work: Work) -> Checked:
        with steered("vault check", kind=AuditKind.VERIFY, place=name) as ended:
            checked = check_vault(
                workplace.settings,
                workplace.home,
                asked,
                told_by(lambda *how: _stands(work, *how)),
                work.stop,
            )
            ended.exit_status = checked.exit_status
            return checked

    try:
        work = behind.background.ask(
            _("Check of the vault %s") % name, CHECKED, do, by=by.name, at=workplace.clock.now()
        )
    except UsageError as error:
        return _vaults(request, behind, by, error)
    return RedirectResponse(f"/work/{work.work_id}", 303)


@router.get("/vault/checked/{work_id}")
def checked(request: Request, behind: Behind, by: By, work_id: str) -> HTMLResponse:
    """Show what a check found, and what to do about it."""
    work, found = result_of(behind.background, work_id, Checked)
    result = found.result
    return page(
        request,
        "vault/checked.html",
        work=work,
        checked=found,
        result=result,
        soundness=soundness(result),
        groups=errors_by_kind(found, _MOST_FINDINGS),
        notes=notes(found, _MOST_FINDINGS),
        names=names_for(behind, by),
        touched=studies_touched(found),
    )


def _stands(work: Work, is_reading: bool, done: int, total: int) -> None:
    words = _("Reading and comparing") if is_reading else _("Looking at what there is")
    work.progress = Progress(words, done, total)


def _named(behind: Backstage, fields: Mapping[str, str]) -> str:
    name = fields.get("vault", "")
    if name not in vaults(behind.workplace.settings):
        raise UsageError(_("No vault is named."), hint=_("Choose one of the configured vaults."))
    return name


def _part(text: str) -> Part:
    try:
        return Part(text)
    except ValueError:
        raise UsageError(
            _("This is no way to check a vault."), hint=_("Choose one of the list.")
        ) from None


def _vaults(
    request: Request, behind: Backstage, by: Visitor, error: DcmvaultError | None = None
) -> HTMLResponse:
    settings = behind.workplace.settings
    return page(
        request,
        "vault/vaults.html",
        status=422 if error else 200,
        vaults=vaults(settings),
        parts=[
            (Part.STRUCTURE.value, _("The structure: is everything there?")),
            (Part.SOME.value, _("The structure, and every byte of 5 % of the packs")),
            (Part.ALL.value, _("The structure, and every byte")),
        ],
        works=behind.background.of(LOOKED, CHECKED),
        problem=(error.message, error.hint) if error else None,
        names=names_for(behind, by),
    )
