"""The form of a restore: what it offers, and what is asked for by what was typed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dcmvault.app.restore_report import RestoreRequest
from dcmvault.app.restore_targets import is_peer
from dcmvault.app.vault_contents import date_range, moment
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import format_number
from dcmvault.i18n import gettext as _
from dcmvault.model.selection import Selection
from dcmvault.web.backstage import Backstage
from dcmvault.web.pages.places_offered import OTHER, chosen_place, peers, readable_places
from dcmvault.web.pages.study_asking import asked_by_text
from dcmvault.web.visitors import Visitor

#: What a choice of a target says for a ZIP file that the browser gets.
DOWNLOAD = ":zip"
FIELDS = (
    "from",
    "from_typed",
    "snapshot",
    "as_of",
    "patient",
    "study",
    "accession",
    "first",
    "last",
    "to",
    "to_typed",
    #: What the studies page asked for, as parameters of its address.
    "matching",
)
_LONGEST = 2000
_MOST_STUDIES = 500
#: Of what was chosen on the studies page: a run that restores to a peer names each of them.
_MOST_MATCHING = 2000
#: Of what is typed; what the studies page asked for may name as many studies as it shows.
_LONGEST_QUERY = 8000


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """A restore as somebody asked for it."""

    request: RestoreRequest
    #: It goes into a ZIP file that is kept for the browser; the request has a name for it only.
    is_download: bool
    is_peer: bool
    #: The fields, to fill the form in again.
    fields: Mapping[str, str]

    @property
    def target(self) -> str:
        """Where it goes, in words."""
        return _("a ZIP file to download") if self.is_download else self.request.target


def typed(fields: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return what the form shows: what was typed, or what is most likely."""
    values = {name: fields.get(name, "")[:_LONGEST] for name in FIELDS}
    values["matching"] = fields.get("matching", "")[:_LONGEST_QUERY]
    offered = readable_places(settings)
    values["from"] = values["from"] or (offered[0] if offered else OTHER)
    values["to"] = values["to"] or DOWNLOAD
    return values


def order_of(behind: Backstage, by: Visitor, fields: Mapping[str, str]) -> RestoreOrder:
    """Make the order of what was typed; UsageError for what cannot be, or not by this visitor."""
    settings = behind.workplace.settings
    values = typed(fields, settings)
    offered = readable_places(settings)
    source = chosen_place(behind, by, values["from"], values["from_typed"], offered)
    is_download = values["to"] == DOWNLOAD
    if is_download:
        # Only its folder counts until it is made.
        target = str(Path(tempfile.gettempdir()) / "dcmvault-restored.zip")
    else:
        target = chosen_place(behind, by, values["to"], values["to_typed"], peers(settings))
    as_of = values["as_of"].strip()
    request = RestoreRequest(
        source,
        target,
        _selection(values) if not values["matching"] else _matching(behind, by, values["matching"]),
        values["snapshot"].strip(),
        moment(as_of) if as_of else None,
    )
    to_peer = not is_download and is_peer(settings, target)
    return RestoreOrder(request, is_download, to_peer, values)


def how_many_match(behind: Backstage, by: Visitor, matching: str) -> int:
    """Count the studies that were chosen on the studies page."""
    query = asked_by_text(matching, behind, by).query
    return behind.workplace.catalogue.matrix.matched(query).studies


def _matching(behind: Backstage, by: Visitor, matching: str) -> Selection:
    """Name the studies that were chosen on the studies page."""
    if how_many_match(behind, by, matching) > _MOST_MATCHING:
        raise UsageError(
            _("These are too many studies to restore at once: at most %s.")
            % format_number(_MOST_MATCHING),
            hint=_("Choose fewer on the Studies page, or leave all of it empty here."),
        )
    query = asked_by_text(matching, behind, by).query
    uids = [uid for some in behind.workplace.catalogue.matrix.named(query) for uid in some]
    if not uids:
        raise UsageError(_("No study matches."), hint=_("Choose others on the Studies page."))
    return Selection(tuple(uids))


def _selection(values: Mapping[str, str]) -> Selection:
    studies = tuple(values["study"].replace(",", " ").split())
    if len(studies) > _MOST_STUDIES:
        raise UsageError(
            _("These are too many studies to name one by one."),
            hint=_("Choose them by patient or by date."),
        )
    first, last = _dates(values["first"].strip(), values["last"].strip())
    patient, accession = values["patient"].strip(), values["accession"].strip()
    return Selection(
        studies,
        (),
        (patient,) if patient else (),
        (accession,) if accession else (),
        first,
        last,
    )


def _dates(first: str, last: str) -> tuple[str, str]:
    if not first and not last:
        return "", ""
    begin = date_range(first) if first else None
    end = date_range(last) if last else None
    dates = begin[0] if begin else "", end[1] if end else ""
    if all(dates) and dates[0] > dates[1]:
        raise UsageError(
            _("The first date is after the last."), hint=_("Change one of the two, or swap them.")
        )
    return dates
