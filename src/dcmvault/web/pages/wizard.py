"""The first run in five steps: each can be left, taken up again, and works without scripts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dcmvault.app.discovery import FoundPlace, find_places
from dcmvault.app.first_run import drafted_destination, drafted_source, preset_hours
from dcmvault.app.first_run_draft import Draft, DraftPlace, When, keep_draft, load_draft
from dcmvault.app.trial_sections import drafted_settings
from dcmvault.config.secret_files import drop_secret, keep_secret
from dcmvault.config.week_grid import HOURS_PER_DAY
from dcmvault.errors import DcmvaultError
from dcmvault.i18n import gettext as _
from dcmvault.i18n import normalise_language
from dcmvault.web.backstage import Behind
from dcmvault.web.forms import Fields
from dcmvault.web.frame import page
from dcmvault.web.place_forms import Typed, typed_destination, typed_source
from dcmvault.web.rendering import render
from dcmvault.web.roles import Role, needs
from dcmvault.web.speaking import LANGUAGE_COOKIE
from dcmvault.web.streamed import streamed_page

_A_YEAR_S = 31_536_000
#: The steps in their order, as addresses have them.
STEPS = ("language", "studies", "copies", "when", "check")

router = APIRouter(
    include_in_schema=False, dependencies=[Depends(needs(Role.ADMINISTRATOR))], prefix="/wizard"
)


def steps(current: str) -> list[tuple[str, str, bool]]:
    """List path, words and whether it is the current one of each step."""
    words = {
        "language": _("Language"),
        "studies": _("Find my images"),
        "copies": _("Where to keep copies"),
        "when": _("When and how fast"),
        "check": _("Check first"),
    }
    return [(f"/wizard/{one}", words[one], one == current) for one in STEPS]


@router.get("")
def begin(behind: Behind) -> Response:
    """Go on where it was left."""
    step = load_draft(behind.workplace.home).step
    return RedirectResponse(f"/wizard/{step if step in STEPS else STEPS[0]}", 303)


@router.get("/language")
def language_page(request: Request) -> HTMLResponse:
    """Ask for the language of reports, messages and pages."""
    return page(request, "wizard/language.html", steps=steps("language"))


@router.post("/language")
def language(behind: Behind, fields: Fields) -> Response:
    """Take the language."""
    code = normalise_language(fields.get("language", "")) or "en"
    draft = load_draft(behind.workplace.home)
    _keep(behind, replace(draft, language=code.replace("_", "-")), "studies")
    answer = RedirectResponse("/wizard/studies", 303)
    answer.set_cookie(LANGUAGE_COOKIE, code, max_age=_A_YEAR_S, samesite="lax")
    return answer


@router.get("/studies")
def studies_page(request: Request, behind: Behind) -> HTMLResponse:
    """Show what is chosen, and ask for more."""
    return _studies(request, behind)


@router.post("/find")
def find(request: Request, behind: Behind) -> Response:
    """Look at this machine; each place is shown as soon as it was looked at."""
    draft = load_draft(behind.workplace.home)
    chosen = {one.address for one in draft.sources}
    return streamed_page(
        request, "wizard/find.html", _found(chosen), steps=steps("studies"), draft=draft
    )


def _found(chosen: set[str]) -> Iterator[str]:
    number = 0
    for number, place in enumerate(find_places(), start=1):
        yield _row(place, number, is_chosen=place.address in chosen)
    yield render("wizard/found_end.html", count=number)


def _row(place: FoundPlace, number: int, *, is_chosen: bool) -> str:
    return render("wizard/found.html", place=place, number=number, is_chosen=is_chosen)


@router.post("/studies/add")
def add_sources(request: Request, behind: Behind, fields: Fields) -> Response:
    """Add what was found and chosen, or what was typed."""
    draft = load_draft(behind.workplace.home)
    try:
        chosen = [value for name, value in fields.items() if name.startswith("place-")]
        for address in chosen or [""]:
            typed = Typed(address, {}, {}) if address else typed_source(fields)
            draft = _with_source(behind.workplace.home, draft, typed)
    except (DcmvaultError, ValueError) as error:
        return _studies(request, behind, error, fields)
    _keep(behind, draft, "studies")
    return RedirectResponse("/wizard/studies", 303)


def _with_source(home: Path, draft: Draft, typed: Typed) -> Draft:
    if any(one.address == typed.address for one in draft.sources):
        return draft
    place = _with_secrets(home, drafted_source(typed.address, typed.options, _names(draft)), typed)
    if any(one.address == place.address for one in draft.sources):
        return draft
    changed = replace(draft, sources=(*draft.sources, place))
    _check(home, changed, place, typed)
    return changed


@router.post("/studies/remove")
def remove_source(behind: Behind, fields: Fields) -> Response:
    """Take a source out of the answers."""
    draft = load_draft(behind.workplace.home)
    kept = tuple(one for one in draft.sources if one.name != fields.get("name"))
    _keep(behind, replace(draft, sources=kept), "studies")
    return RedirectResponse("/wizard/studies", 303)


@router.get("/copies")
def copies_page(request: Request, behind: Behind) -> HTMLResponse:
    """Show where copies are to be, and ask for more."""
    return _copies(request, behind)


@router.post("/copies/add")
def add_destination(request: Request, behind: Behind, fields: Fields) -> Response:
    """Add a place for copies."""
    home = behind.workplace.home
    draft = load_draft(home)
    try:
        typed = typed_destination(fields)
        place = drafted_destination(typed.address, typed.options, _names(draft))
        if all(one.address != place.address for one in draft.destinations):
            place = _with_secrets(home, place, typed)
            draft = replace(draft, destinations=(*draft.destinations, place))
            _check(home, draft, place, typed)
    except (DcmvaultError, ValueError) as error:
        return _copies(request, behind, error, fields)
    _keep(behind, draft, "copies")
    return RedirectResponse("/wizard/copies", 303)


@router.post("/copies/remove")
def remove_destination(behind: Behind, fields: Fields) -> Response:
    """Take a destination out of the answers."""
    draft = load_draft(behind.workplace.home)
    kept = tuple(one for one in draft.destinations if one.name != fields.get("name"))
    _keep(behind, replace(draft, destinations=kept), "copies")
    return RedirectResponse("/wizard/copies", 303)


@router.get("/when")
def when_page(request: Request, behind: Behind) -> HTMLResponse:
    """Ask for hours and speed."""
    return _when(request, load_draft(behind.workplace.home))


@router.post("/when")
def when(request: Request, behind: Behind, fields: Fields) -> Response:
    """Take hours and speed."""
    draft = load_draft(behind.workplace.home)
    painted = frozenset(
        (day, hour)
        for day in range(7)
        for hour in range(HOURS_PER_DAY)
        if fields.get(f"h{day}-{hour}")
    )
    try:
        chosen = When(fields.get("when", ""))
        rate = fields.get("rate", "") or "unlimited"
        draft = replace(draft, when=chosen, hours=painted, rate=rate)
        _check_when(draft)
    except ValueError as error:
        return _when(request, draft, str(error))
    _keep(behind, draft, "check")
    return RedirectResponse("/wizard/check", 303)


def _check_when(draft: Draft) -> None:
    if draft.when is When.PAINTED and not draft.hours:
        raise ValueError(_("Leave at least one hour in which transfers run."))
    try:
        drafted_settings(draft)
    except DcmvaultError as error:
        raise ValueError(error.message) from None


def _keep(behind: Behind, draft: Draft, step: str) -> None:
    keep_draft(behind.workplace.home, replace(draft, step=step, is_saved=False))


def _names(draft: Draft) -> set[str]:
    return {one.name for one in (*draft.sources, *draft.destinations)}


def _with_secrets(home: Path, place: DraftPlace, typed: Typed) -> DraftPlace:
    """Keep what was typed as a secret in files of their own; the draft refers to them."""
    references = {
        key: keep_secret(home, f"{place.name}-{key}", secret)
        for key, secret in typed.secrets.items()
    }
    return replace(place, options={**place.options, **references})


def _check(home: Path, draft: Draft, place: DraftPlace, typed: Typed) -> None:
    try:
        drafted_settings(draft)
    except DcmvaultError:
        for key in typed.secrets:
            drop_secret(home, str(place.options[key]))
        raise


def _studies(
    request: Request,
    behind: Behind,
    error: Exception | None = None,
    typed: Mapping[str, str] | None = None,
) -> HTMLResponse:
    draft = load_draft(behind.workplace.home)
    return page(
        request,
        "wizard/studies.html",
        status=422 if error else 200,
        steps=steps("studies"),
        sources=[_seen(one) for one in draft.sources],
        problem=_words(error),
        typed=_shown(typed),
    )


def _seen(place: DraftPlace) -> dict[str, object]:
    return {"name": place.name, "address": place.address}


def _copies(
    request: Request,
    behind: Behind,
    error: Exception | None = None,
    typed: Mapping[str, str] | None = None,
) -> HTMLResponse:
    draft = load_draft(behind.workplace.home)
    return page(
        request,
        "wizard/copies.html",
        status=422 if error else 200,
        steps=steps("copies"),
        destinations=[_seen(one) for one in draft.destinations],
        problem=_words(error),
        typed=_shown(typed),
    )


def _when(request: Request, draft: Draft, problem: str = "") -> HTMLResponse:
    hours = preset_hours(draft.when, draft.hours)
    days = (_("Mon"), _("Tue"), _("Wed"), _("Thu"), _("Fri"), _("Sat"), _("Sun"))
    presets = (
        (When.NIGHTS, _("At night"), _("From 20 to 6, every day.")),
        (When.OFF_HOURS, _("Out of office hours"), _("Pauses from 8 to 18 on week days.")),
        (When.ALWAYS, _("Always"), _("Looks for new studies every hour.")),
        (When.PAINTED, _("As painted below"), _("The hours that are ticked in the week.")),
    )
    return page(
        request,
        "wizard/when.html",
        status=422 if problem else 200,
        steps=steps("when"),
        presets=[(one.value, label, words) for one, label, words in presets],
        when=draft.when.value,
        days=list(enumerate(days)),
        hours=hours,
        rate=draft.rate,
        problem=problem,
    )


def _words(error: Exception | None) -> tuple[str, str]:
    if isinstance(error, DcmvaultError):
        return error.message, error.hint
    return (str(error), "") if error else ("", "")


def _shown(typed: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return what was typed, to be mended; secrets are typed again."""
    hidden = ("password", "again", "secret", "passphrase", "key-id")
    shown = {name: one for name, one in (typed or {}).items() if not name.endswith(hidden)}
    return defaultdict(str, shown)
