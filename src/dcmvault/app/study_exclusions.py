"""Studies that are not to be backed up: left out with a reason, taken in again, and listed."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dcmvault.app.study_actions import BulkChange
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.exclusion import Exclusion
from dcmvault.model.identifiers import is_valid_uid
from dcmvault.model.study_matrix import StudyQuery

_LONGEST_REASON = 500
_AT_ONCE = 1000


def exclude(workplace: Workplace, study_uids: Collection[str], reason: str, by: str) -> int:
    """Leave studies out of backups from the next run on; return how many were not before.

    They need not be known yet. UsageError for what is no UID, and without a reason.
    """
    kept = reason.strip()
    if not kept:
        raise UsageError(
            _("To exclude a study needs a reason."), hint=_("Say it for those who wonder later.")
        )
    if len(kept) > _LONGEST_REASON:
        raise UsageError(_("The reason is too long."), hint=_("Write one sentence."))
    _check(study_uids)
    now = workplace.clock.now()
    return workplace.catalogue.exclusions.exclude(
        [Exclusion(uid, kept, by, now) for uid in dict.fromkeys(study_uids)]
    )


def include(workplace: Workplace, study_uids: Collection[str]) -> int:
    """Have studies backed up again; return how many were left out."""
    _check(study_uids)
    return workplace.catalogue.exclusions.include(study_uids)


def exclusions(workplace: Workplace) -> Iterator[Exclusion]:
    """Yield all studies that are left out, by UID."""
    last = ""
    while some := workplace.catalogue.exclusions.exclusions(after=last, limit=_AT_ONCE):
        yield from some
        last = some[-1].study_instance_uid


def exclusion(workplace: Workplace, study_instance_uid: str) -> Exclusion | None:
    """Return why a study is left out; None where it is not."""
    return workplace.catalogue.exclusions.exclusion(study_instance_uid)


def exclude_studies(
    workplace: Workplace, query: StudyQuery, reason: str, by: str, *, dry_run: bool
) -> BulkChange:
    """Leave out all studies that a query means; `changed` counts those that are not yet."""
    uids = _named(workplace, query)
    matched = workplace.catalogue.matrix.matched(query)
    if dry_run:
        left_out = workplace.catalogue.exclusions.excluded_among(uids)
        return BulkChange(matched, len(uids) - left_out)
    return BulkChange(matched, exclude(workplace, uids, reason, by))


def include_studies(workplace: Workplace, query: StudyQuery, *, dry_run: bool) -> BulkChange:
    """Have all studies that a query means backed up again; `changed` counts those left out."""
    uids = _named(workplace, query)
    matched = workplace.catalogue.matrix.matched(query)
    book = workplace.catalogue.exclusions
    return BulkChange(matched, book.excluded_among(uids) if dry_run else book.include(uids))


def _named(workplace: Workplace, query: StudyQuery) -> list[str]:
    return [uid for some in workplace.catalogue.matrix.named(query) for uid in some]


def _check(study_uids: Collection[str]) -> None:
    if not study_uids:
        raise UsageError(_("No study is named."), hint=_("Name Study Instance UIDs."))
    if wrong := [uid for uid in study_uids if not is_valid_uid(uid)]:
        raise UsageError(
            _("“%s” is no Study Instance UID.") % wrong[0][:64],
            hint=_("Digits and dots, at most 64 of them."),
        )
