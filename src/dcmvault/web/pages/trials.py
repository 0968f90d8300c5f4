"""A place tried rung by rung, each told as soon as it is known. For administrators: it connects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from dcmvault.app.first_run_draft import load_draft
from dcmvault.app.place_trial import (
    Rung,
    RungOutcome,
    TrialWishes,
    try_out_destination,
    try_out_source,
)
from dcmvault.app.trial_sections import TrialPlaces, trial_places
from dcmvault.i18n import gettext as _
from dcmvault.model.audit import AuditKind
from dcmvault.web.backstage import Behind
from dcmvault.web.forms import Fields
from dcmvault.web.origin import own_path
from dcmvault.web.rendering import render
from dcmvault.web.roles import Role, needs
from dcmvault.web.steered import Steered
from dcmvault.web.streamed import streamed_page

router = APIRouter(include_in_schema=False, dependencies=[Depends(needs(Role.ADMINISTRATOR))])


@router.post("/trial")
def trial(request: Request, behind: Behind, steered: Steered, fields: Fields) -> Response:
    """Try a source or destination: one of the answers of the first run, or a configured one."""
    home = behind.workplace.home
    draft = load_draft(home)
    places = trial_places(behind.workplace.settings, draft)
    role, name = fields.get("role", ""), fields.get("name", "")
    with steered("node probe", kind=AuditKind.WORK_STEERED, place=name):
        rungs = _rungs(places, role, name, fields)
    return streamed_page(
        request,
        "trial/trial.html",
        _told(rungs),
        name=name,
        back=own_path(fields.get("back", "/settings")),
    )


def _rungs(places: TrialPlaces, role: str, name: str, fields: Mapping[str, str]) -> Iterable[Rung]:
    if role == "source":
        return try_out_source(places.source(name))
    wishes = TrialWishes(
        stores=fields.get("stores") == "yes",
        makes_vault=places.is_new_vault(name),
        sources=places.all_sources,
    )
    return try_out_destination(places.destination(name), wishes)


def _told(rungs: Iterable[Rung]) -> Iterator[str]:
    worst = RungOutcome.GOOD
    for rung in rungs:
        if worst is not RungOutcome.BAD and rung.outcome is not RungOutcome.GOOD:
            worst = rung.outcome
        yield render("trial/rung.html", rung=rung, tone=_TONES[rung.outcome], label=_label(rung))
    yield render("trial/verdict.html", tone=_TONES[worst], outcome=worst.value)


_TONES = {RungOutcome.GOOD: "good", RungOutcome.WARNING: "claim", RungOutcome.BAD: "bad"}


def _label(rung: Rung) -> str:
    """Name a rung for people."""
    labels = {
        "resolve": _("The name is known"),
        "connect": _("The port answers"),
        "tls": _("TLS and certificate"),
        "associate": _("The association is accepted"),
        "echo": _("C-ECHO is answered"),
        "latency": _("Round trip"),
        "storage": _("Kinds of objects that are taken"),
        "syntaxes": _("Transfer syntaxes"),
        "query": _("Queries are allowed"),
        "commitment": _("Storage commitment"),
        "bandwidth": _("A test instance is sent"),
        "secrets": _("Secrets and certificates are found"),
        "token": _("The login gives a token"),
        "http": _("The service lets us in"),
        "qido": _("It can be searched (QIDO-RS)"),
        "stow": _("It takes what is sent (STOW-RS)"),
        "list": _("It can be read"),
        "folder": _("The folder"),
        "write": _("It can be written to"),
        "space": _("Free space"),
        "sync": _("The disk keeps its word (fsync)"),
        "same_disk": _("Another disk than the source"),
        "overlap": _("Another place than the source"),
        "place": _("The place answers"),
        "put": _("An object is written"),
        "get": _("It is read back"),
        "clock": _("The clocks agree"),
        "lock": _("Object Lock"),
        "delete": _("It is removed again"),
        "vault": _("There is a vault"),
        "key": _("The key opens it"),
        "lease": _("Nobody holds it"),
        "patience": _("An answer in time"),
    }
    return labels.get(rung.name, rung.name)
