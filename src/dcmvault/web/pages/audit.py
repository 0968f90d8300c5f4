"""Audit: who did what; searched, proven to be whole, and taken along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from dcmvault.app.audit import AuditDesk, Line
from dcmvault.app.periods import Period
from dcmvault.app.place_names import PlaceNames
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.audit import Actor, ActorKind, AuditKind, AuditOutcome
from dcmvault.model.journal import AuditQuery
from dcmvault.reports.journal_words import finding_sentence, journal_csv
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.forms import Fields
from dcmvault.web.frame import page
from dcmvault.web.roles import Role, needs
from dcmvault.web.visitors import By, Visitor

#: Lines on a page, and findings of a verification that are told.
_ON_A_PAGE = 50
_MOST_FINDINGS = 20
#: Bytes that are sent at once.
_PIECE = 65_536
#: What stands for what may name a patient.
_DOTS = "•••"
#: What somebody typed, so that anything may stand in it.
_TYPED = frozenset({"reason"})
_LONGEST = 200

router = APIRouter(
    include_in_schema=False, dependencies=[Depends(needs(Role.ADMINISTRATOR))], prefix="/audit"
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is looked for, as the form says it."""

    since: Annotated[str, Query(max_length=_LONGEST)] = ""
    until: Annotated[str, Query(max_length=_LONGEST)] = ""
    who: Annotated[str, Query(max_length=_LONGEST)] = ""
    event: Annotated[str, Query(max_length=_LONGEST)] = ""
    outcome: Annotated[str, Query(max_length=_LONGEST)] = ""
    study: Annotated[str, Query(max_length=_LONGEST)] = ""
    text: Annotated[str, Query(max_length=_LONGEST)] = ""

    @property
    def query(self) -> AuditQuery:
        """The question; UsageError for what is no period."""
        period = Period.asked(self.since, self.until, None)
        return AuditQuery(
            period.since,
            period.until,
            self.event,
            self.outcome,
            self.who.strip(),
            self.study.strip(),
            self.text.strip(),
        )

    @property
    def address(self) -> str:
        """The part of an address that asks for the same."""
        names = ("since", "until", "who", "event", "outcome", "study", "text")
        return urlencode({name: value for name in names if (value := getattr(self, name))})


@dataclass(frozen=True, slots=True)
class _Shown:
    """One line, as somebody may see it."""

    seq: int
    at: datetime | None
    event: str
    outcome: str
    tone: str
    who: str
    door: str
    place: str
    details: Sequence[tuple[str, str]]
    studies: Sequence[str]


@router.get("")
def journal(
    request: Request,
    behind: Behind,
    by: By,
    asked: Annotated[_Asked, Depends()],
    before: Annotated[int, Query(ge=0, lt=2**53)] = 0,
) -> HTMLResponse:
    """Show the newest lines that fit."""
    problem, lines, has_more = "", list[Line](), False
    try:
        lines, has_more = _desk(behind, by).newest(asked.query, _ON_A_PAGE, before)
    except UsageError as error:
        problem = f"{error.message} {error.hint}".strip()
    masked = _Masking(behind, by)
    shown = [_shown(masked(line.record)) for line in lines]
    return page(
        request,
        "audit/list.html",
        lines=shown,
        asked=asked,
        problem=problem,
        older=shown[-1].seq if has_more else 0,
        is_later_page=before > 0,
        events=[(kind.value, kind.value) for kind in AuditKind],
        outcomes=[(outcome.value, _outcome_word(outcome.value)) for outcome in AuditOutcome],
        may_export_all=_sees_all(by),
    )


@router.post("/verify")
def verify(request: Request, behind: Behind, by: By, fields: Fields) -> HTMLResponse:
    """Check that no line was changed, removed or moved."""
    head, problem, verdict = fields.get("head", "").strip()[:_LONGEST], "", None
    try:
        verdict = _desk(behind, by).verify(head)
    except UsageError as error:
        problem = f"{error.message} {error.hint}".strip()
    findings = verdict.findings if verdict is not None else []
    return page(
        request,
        "audit/verified.html",
        status=422 if problem else 200,
        head=head,
        problem=problem,
        verdict=verdict,
        findings=[finding_sentence(one) for one in findings[:_MOST_FINDINGS]],
        more=max(len(findings) - _MOST_FINDINGS, 0),
    )


@router.get("/export.csv")
def export_csv(behind: Behind, by: By, asked: Annotated[_Asked, Depends()]) -> Response:
    """Send what fits as a table, with no more of patients than the page shows."""
    query, masked = asked.query, _Masking(behind, by)
    lines = _desk(behind, by).search(query, exported_to="csv")
    rows = journal_csv(masked(line.record) for line in lines)
    return _attached((row.encode() for row in rows), "audit.csv", "text/csv; charset=utf-8")


@router.get("/export.jsonl")
def export_lines(behind: Behind, by: By, asked: Annotated[_Asked, Depends()]) -> Response:
    """Send what fits byte for byte, so that the chain can be checked elsewhere.

    Nothing can be hidden in it, so names of patients have to be shown first.
    """
    if not _sees_all(by):
        return RedirectResponse(f"/audit?{asked.address}", 303)
    lines = _desk(behind, by).search(asked.query, exported_to="jsonl")
    raw = (line.raw + b"\n" for line in lines)
    return _attached(raw, "audit.jsonl", "application/jsonl; charset=utf-8")


def _attached(pieces: Iterable[bytes], name: str, media_type: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="dcmvault-{name}"'}
    return StreamingResponse(_gathered(pieces), media_type=media_type, headers=headers)


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Send many small pieces as few."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        if len(buffer) >= _PIECE:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


def _desk(behind: Backstage, by: Visitor) -> AuditDesk:
    workplace = behind.workplace
    asker = Actor(ActorKind.WEB, by.name, by.address)
    return AuditDesk(workplace.home, workplace.settings, asker)


def _sees_all(by: Visitor) -> bool:
    return by.opened is None or by.shows_names


class _Masking:
    """Hides what may name a patient, until names are shown: addresses, and what people typed."""

    def __init__(self, behind: Backstage, by: Visitor) -> None:
        self._shows_all = _sees_all(by)
        self._names = PlaceNames(behind.workplace, shows_addresses=self._shows_all)

    def __call__(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a line as somebody may see it."""
        if self._shows_all:
            return record
        details = {name: self._value(name, value) for name, value in _details(record).items()}
        place = str(record.get("place", ""))
        return {**record, "details": details, "place": self._names(place) if place else ""}

    def _value(self, name: str, value: object) -> str:
        text = str(value)
        if name in _TYPED:
            return _DOTS
        is_address = "/" in text or "\\" in text or "://" in text
        # A page of ours is no place.
        return self._names(text) if is_address and name != "page" else text


def _details(record: Mapping[str, Any]) -> Mapping[str, object]:
    found = record.get("details", {})
    return found if isinstance(found, dict) else {}


def _shown(record: Mapping[str, Any]) -> _Shown:
    actor = record.get("actor", {})
    outcome = str(record.get("outcome", ""))
    details = dict(_details(record))
    return _Shown(
        int(record["seq"]) if isinstance(record.get("seq"), int) else 0,
        _moment(record.get("at")),
        str(record["event"]),
        _outcome_word(outcome),
        _TONES.get(outcome, "open"),
        actor.get("name") or actor.get("address") or actor.get("kind", ""),
        actor.get("kind", ""),
        str(record.get("place", "")),
        [(name, str(value)) for name, value in details.items() if value != ""],
        list(map(str, record.get("study_instance_uids", ()))),
    )


def _outcome_word(outcome: str) -> str:
    """Say how something went; a word that a newer release wrote stays as it is."""
    words = {
        AuditOutcome.BEGUN.value: _("begun"),
        AuditOutcome.SUCCESS.value: _("succeeded"),
        AuditOutcome.MINOR_FAILURE.value: _("refused, or done in part"),
        AuditOutcome.SERIOUS_FAILURE.value: _("failed"),
    }
    return words.get(outcome, outcome)


_TONES = {
    AuditOutcome.BEGUN.value: "running",
    AuditOutcome.SUCCESS.value: "good",
    AuditOutcome.MINOR_FAILURE.value: "claim",
    AuditOutcome.SERIOUS_FAILURE.value: "bad",
}


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
