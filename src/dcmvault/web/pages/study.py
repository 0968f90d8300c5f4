"""One study: its series with pictures, every instance's copies, and what happened to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response

from dcmvault.app.place_names import PlaceNames
from dcmvault.app.study_detail import (
    ledger_place,
    ledger_place_text,
    status_words,
    study_detail,
    study_ledger,
    study_timeline,
)
from dcmvault.app.study_exclusions import exclusion
from dcmvault.app.thumbnails import Thumbnails
from dcmvault.i18n import gettext as _
from dcmvault.model.study_detail import (
    CopyLine,
    LedgerLine,
    SeriesLine,
    StudyDetail,
    TimelineEvent,
)
from dcmvault.reports.wording import cause_title
from dcmvault.web.backstage import Behind
from dcmvault.web.frame import page
from dcmvault.web.pages import study_words as words
from dcmvault.web.pages.study_deeds import DEEDS
from dcmvault.web.roles import Role, needs
from dcmvault.web.visitors import By

#: Instances on a page of the ledger, and events of the timeline that are shown.
_INSTANCES = 25
_EVENTS = 50
#: Series on a page.
_SERIES = 24
#: What stands where a series has no picture, or none for who asks.
_NO_PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">'
    '<path d="M24 30h48v36H24zM24 60l16-14 12 10 8-6 12 10" '
    'fill="none" stroke="#8a949b" stroke-width="2"/></svg>'
)

router = APIRouter(include_in_schema=False)


@router.get("/studies/{study_instance_uid}", dependencies=[Depends(needs(Role.VIEWER))])
def study(
    request: Request,
    behind: Behind,
    by: By,
    study_instance_uid: str,
    series: Annotated[str, Query(max_length=64)] = "",
    problems: bool = False,
    after: Annotated[str, Query(max_length=60)] = "",
    behind_series: Annotated[str, Query(max_length=64)] = "",
    history: bool = False,
) -> HTMLResponse:
    """Show a study, and a page of its instances."""
    workplace = behind.workplace
    detail = study_detail(workplace, study_instance_uid)
    ledger = study_ledger(
        workplace,
        study_instance_uid,
        series_instance_uid=series,
        problems_only=problems,
        after=ledger_place(after),
        limit=_INSTANCES,
    )
    names = PlaceNames(workplace, shows_addresses=by.role.may(Role.OPERATOR))
    revealed = words.sees_patients(by)
    where = f"/studies/{quote(study_instance_uid, safe='')}"
    chosen = {"series": series, "problems": "true" if problems else ""}
    next_place = ledger_place_text(ledger.next) if ledger.next else ""
    events = study_timeline(workplace, study_instance_uid)
    return page(
        request,
        "studies/study.html",
        line=detail.line,
        where=where,
        date=words.date_words(detail.line.study_date),
        about=words.about(detail.line, revealed=revealed),
        exclusion=exclusion(workplace, study_instance_uid),
        deeds=DEEDS.values() if by.role.may(Role.OPERATOR) else [],
        tone=words.state_tone(detail.line.state),
        state=words.state_words(detail.line.state),
        facts=_patient_facts(detail),
        cells=[words.cell(names(at), copy) for at, copy in detail.line.copies.items()],
        sources=[names(one) for one in detail.line.sources],
        **_series_shown(detail.series, behind_series, where),
        snapshots=[(names(one.destination), one) for one in detail.snapshots],
        left_out={names(at): count for at, count in detail.coercions_left_out.items()},
        chosen_series=series,
        problems=problems,
        ledger=[_ledger_line(one, names, revealed=revealed) for one in ledger.lines],
        is_first=not after,
        next=_address(where, **chosen, after=next_place) if next_place else "",
        events=[_event(one, names) for one in (events if history else events[:_EVENTS])],
        has_more_events=not history and len(events) > _EVENTS,
        coercions=[(names(at), every) for at, every in detail.coercions.items()],
        revealed=revealed,
        address=lambda **fields: _address(where, **fields),
        quote=lambda text: quote(text, safe=""),
    )


def _series_shown(every: Sequence[SeriesLine], behind: str, where: str) -> dict[str, Any]:
    """Return a page of the series, behind one of them, and where the next page is.

    Behind a series that is not there begins the first page: a place is no promise.
    """
    uids = [one.series_instance_uid for one in every]
    first = uids.index(behind) + 1 if behind in uids else 0
    shown = every[first : first + _SERIES]
    further = ""
    if first + _SERIES < len(every):
        last = urlencode({"behind_series": shown[-1].series_instance_uid})
        further = f"{where}?{last}#series"
    return {
        "series": [
            (one, f"{where}/series/{quote(one.series_instance_uid, safe='')}/picture")
            for one in shown
        ],
        "series_in_all": len(every),
        "is_first_series": not behind,
        "series_next": further,
    }


def _address(where: str, **fields: str) -> str:
    told = {name: value for name, value in fields.items() if value}
    return f"{where}?{urlencode(told)}#ledger" if told else f"{where}#ledger"


def _patient_facts(detail: StudyDetail) -> dict[str, str]:
    """Return what only who sees the patient is shown."""
    return {
        "id": detail.line.patient_id,
        "born": words.date_words(detail.patient_birth_date),
        "sex": detail.patient_sex,
        "accession": detail.line.accession_number,
        "institution": detail.institution_name,
    }


def _ledger_line(line: LedgerLine, names: PlaceNames, *, revealed: bool) -> dict[str, object]:
    return {
        "number": line.instance_number,
        "uid": line.sop_instance_uid,
        "size": line.size,
        "is_present": line.is_present,
        "sop_class": line.sop_class_uid,
        "transfer_syntax": line.transfer_syntax_uid,
        "sha256": line.file_sha256,
        "copies": [_copy(one, names, revealed=revealed) for one in line.copies],
    }


def _copy(copy: CopyLine, names: PlaceNames, *, revealed: bool) -> dict[str, object]:
    """Put a copy into words; a peer's own sentence may tell of the patient."""
    status = status_words(copy.status)
    told = [status.meaning, cause_title(copy.code) if copy.code else ""]
    told += [_("changed by the destination, as it declares")] if copy.coerced else []
    told += [copy.warning, copy.message, copy.hint or status.remedy] if revealed else []
    is_bad = copy.state in {"missing", "damaged"}
    return {
        "place": names(copy.destination),
        "tone": "bad" if is_bad else words.level_tone(copy.level),
        "level": copy.level.word,
        "status": copy.status,
        "words": [one for one in dict.fromkeys(told) if one],
        "at": copy.verified_at or copy.received_at,
        "run_id": copy.run_id,
    }


def _event(event: TimelineEvent, names: PlaceNames) -> dict[str, object]:
    return {
        "at": event.at,
        "words": words.event_words(event.kind),
        "place": names(event.destination) if event.destination else "",
        "run_id": event.run_id,
        "level": event.level.word if event.level else "",
        "instances": event.instances,
        "not_held": event.not_held,
        "problem": cause_title(event.problem) if event.problem else "",
    }


@router.get(
    "/studies/{study_instance_uid}/series/{series_instance_uid}/picture",
    dependencies=[Depends(needs(Role.OPERATOR))],
)
def picture(
    request: Request, by: By, study_instance_uid: str, series_instance_uid: str
) -> Response:
    """Send a small picture of a series; a sign for none, and to whom patients are hidden.

    Names of patients may be burned into pixels.
    """
    thumbnails: Thumbnails = request.app.state.thumbnails
    if not thumbnails.knows(study_instance_uid, series_instance_uid):
        raise HTTPException(404)
    found = None
    if words.sees_patients(by):
        found = thumbnails.of_series(study_instance_uid, series_instance_uid)
    headers = {"Cache-Control": "private, no-store"}
    if found is None:
        return Response(_NO_PICTURE, media_type="image/svg+xml", headers=headers)
    return Response(found, media_type="image/jpeg", headers=headers)
