"""The matrix of studies and destinations: searched, by pages, and to take along as CSV."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from dcmvault.app.study_matrix import studies_csv, studies_json, studies_page
from dcmvault.app.study_query import place_of, place_text
from dcmvault.i18n import gettext as _
from dcmvault.model.audit import AuditKind
from dcmvault.model.study_matrix import Coverage, StudyLine, StudyPage
from dcmvault.web.backstage import Behind
from dcmvault.web.frame import page
from dcmvault.web.pages import study_words as words
from dcmvault.web.pages.study_asking import FIELDS, LEVELS, Asked, asked
from dcmvault.web.pages.study_columns import (
    changes_in_use,
    columns,
    columns_shown,
    view_links,
)
from dcmvault.web.pages.study_deeds import DEEDS
from dcmvault.web.roles import Role, needs
from dcmvault.web.steered import Steered
from dcmvault.web.visitors import By

#: Cells of a page, so that it stays small however many destinations there are; rows at least and
#: at most.
_CELLS = 200
_FEWEST, _MOST = 10, 50

router = APIRouter(include_in_schema=False)


@router.get("/studies", dependencies=[Depends(needs(Role.VIEWER))])
def studies(
    request: Request, behind: Behind, by: By, at: Annotated[str, Query(max_length=60)] = ""
) -> HTMLResponse:
    """Show how studies stand at each destination."""
    what = asked(request, behind, by)
    every = columns(what)
    shown = columns_shown(every, changes_in_use(behind, by, what))
    places = [
        (one.address, one.label)
        for one in (shown if not what.query.destination else every)
        if one.address and what.query.destination in ("", one.address)
    ]
    found = studies_page(
        behind.workplace,
        what.query,
        order=what.order,
        descending=what.descending,
        place=place_of(at),
        limit=max(_FEWEST, min(_MOST, _CELLS // (len(places) + 1))),
    )
    revealed = words.sees_patients(by)
    may_steer = by.role.may(Role.OPERATOR)
    return page(
        request,
        "studies/list.html",
        what=what,
        fields={name: what.fields.get(name, "") for name in FIELDS},
        choices=_choices(what, may_steer=may_steer),
        tabs=_tabs(what, found),
        heads=[(name, "") for _address, name in places],
        every_column=every,
        shown={one.word for one in shown},
        views=view_links(behind, by, what),
        rows=[_row(line, places, what, revealed=revealed) for line in found.lines],
        found=found,
        deeds=DEEDS.values(),
        previous=what.address("/studies", at=place_text(found.previous)) if found.previous else "",
        next=what.address("/studies", at=place_text(found.next)) if found.next else "",
        may_steer=may_steer,
    )


def _row(
    line: StudyLine, places: list[tuple[str, str]], what: Asked, *, revealed: bool
) -> dict[str, object]:
    return {
        "to": f"/studies/{quote(line.study_instance_uid, safe='')}",
        "name": line.patient_name or line.patient_id,
        "date": words.date_words(line.study_date),
        "about": words.about(line, revealed=revealed),
        "tone": words.state_tone(line.state),
        "state": words.state_words(line.state),
        "uid": line.study_instance_uid,
        "is_excluded": line.is_excluded and line.state is not Coverage.EXCLUDED,
        "level": line.level.word,
        "sources": [what.names(one) for one in line.sources],
        "series": line.series,
        "held_in": [what.names(one) for one in line.held_in],
        "instances": line.instances,
        "bytes": line.bytes,
        "is_changing": line.is_changing,
        "cells": [words.cell(name, line.copies.get(address)) for address, name in places],
    }


def _tabs(what: Asked, found: StudyPage) -> list[tuple[str, str, int, bool]]:
    """Return address, words and count of all studies and of each state, and which is shown."""
    state = what.fields.get("state", "")
    every = [
        (what.address("/studies", state=""), _("All"), sum(found.by_state.values()), not state)
    ]
    return every + [
        (
            what.address("/studies", state=one.word),
            words.state_words(one),
            found.by_state.get(one, 0),
            state == one.word,
        )
        for one in Coverage
    ]


def _choices(what: Asked, *, may_steer: bool) -> dict[str, list[tuple[str, str]]]:
    """Return what each choice of the form offers: pairs of value and words."""
    sources = [what.names(one.address) for one in what.choices.sources]
    destinations = [what.names(one.address) for one in what.choices.destinations]
    orders = [
        ("", _("Newest first")),
        ("date", _("Oldest first")),
        ("state", _("Worst state first")),
        ("-size", _("Largest first")),
    ]
    if may_steer:
        orders.append(("name", _("By name of the patient")))
    return {
        "modality": [("", _("Any")), *((one, one) for one in what.choices.modalities)],
        "source": [("", _("Any")), *((one, one) for one in sources)],
        "destination": [("", _("All")), *((one, one) for one in destinations)],
        "level": [
            ("", _("Any")),
            *((word, _("at least %s") % word) for word in LEVELS),
            *((f"-{word}", _("below %s") % word) for word in LEVELS),
        ],
        "hold": [("", _("Any")), ("yes", _("under legal hold")), ("no", _("under none"))],
        "order": orders,
    }


@router.get("/studies.json", dependencies=[Depends(needs(Role.OPERATOR))])
def studies_as_data(request: Request, behind: Behind, by: By, steered: Steered) -> Response:
    """Send all that matches as JSON, as the CSV file has it."""
    what = asked(request, behind, by)
    patients = words.sees_patients(by)
    with steered("studies", kind=AuditKind.EXPORT, patients="yes" if patients else "no"):
        found = studies_json(
            behind.workplace,
            what.query,
            order=what.order,
            descending=what.descending,
            patients=patients,
        )
    headers = {"Content-Disposition": 'attachment; filename="dcmvault-studies.json"'}
    return StreamingResponse(found, media_type="application/json", headers=headers)


@router.get("/studies.csv", dependencies=[Depends(needs(Role.OPERATOR))])
def studies_to_take_along(request: Request, behind: Behind, by: By, steered: Steered) -> Response:
    """Send all that matches as a file; patients are in it only where they are shown."""
    what = asked(request, behind, by)
    patients = words.sees_patients(by)
    told = "yes" if patients else "no"
    with steered("studies", kind=AuditKind.EXPORT, patients=told):
        rows = studies_csv(
            behind.workplace,
            what.query,
            order=what.order,
            descending=what.descending,
            patients=patients,
        )
    headers = {"Content-Disposition": 'attachment; filename="dcmvault-studies.csv"'}
    return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers=headers)
