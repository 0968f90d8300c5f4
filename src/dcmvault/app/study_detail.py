"""A study's drawer: detail, ledger with words beside each raw status, timeline."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.dicom.status import store_status
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.study_detail import LedgerPage, LedgerPlace, StudyDetail, TimelineEvent

_LARGEST_PAGE = 500
#: As DIMSE statuses are written down.
_DIMSE = re.compile(r"[0-9A-Fa-f]{4}\Z")
_PLACE = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})\Z")


@dataclass(frozen=True, slots=True)
class StatusWords:
    """What a peer means by a status: in words, where that is written, and what can be done."""

    status: str
    meaning: str
    reference: str = ""
    cause: str = ""
    remedy: str = ""


def study_detail(workplace: Workplace, study_instance_uid: str) -> StudyDetail:
    """Return a study; UsageError where there is none, or nobody counted it yet."""
    found = workplace.catalogue.details.detail(study_instance_uid)
    if found is None:
        raise UsageError(
            _("The study is not known, or was seen only a moment ago."),
            hint=_("Look at the list of studies again."),
        )
    return found


def study_ledger(
    workplace: Workplace,
    study_instance_uid: str,
    *,
    series_instance_uid: str = "",
    problems_only: bool = False,
    after: LedgerPlace | None = None,
    limit: int = 100,
) -> LedgerPage:
    """Return a page of at most 500 instances of a study or series."""
    return workplace.catalogue.details.ledger(
        study_instance_uid,
        series_instance_uid=series_instance_uid,
        problems_only=problems_only,
        after=after,
        limit=max(1, min(limit, _LARGEST_PAGE)),
    )


def study_timeline(workplace: Workplace, study_instance_uid: str) -> list[TimelineEvent]:
    """List what happened to a study, newest first."""
    return workplace.catalogue.details.timeline(study_instance_uid)


def status_words(status: str) -> StatusWords:
    """Say what a raw C-STORE status means (PS3.4 section B.2.3); others stand for themselves."""
    if not _DIMSE.match(status):
        return StatusWords(status, "")
    found = store_status(int(status, 16))
    return StatusWords(status, found.meaning, found.reference, found.cause, found.remedy)


def ledger_place(text: str) -> LedgerPlace | None:
    """Read what `ledger_place_text` wrote; None for nothing."""
    if not text:
        return None
    found = _PLACE.match(text)
    if found is None:
        raise UsageError(_("The page cannot be found."), hint=_("Begin at the first page."))
    return LedgerPlace(int(found[1]), int(found[2]))


def ledger_place_text(place: LedgerPlace) -> str:
    """Write a place for an address."""
    return f"{place.series_key}.{place.instance_key}"
