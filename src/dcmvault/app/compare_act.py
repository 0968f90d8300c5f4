"""Deliver what a comparison found missing: runs of A's studies to B, some hundred at a time."""

from __future__ import annotations

from collections.abc import Sequence

from dcmvault.app.backup import make_request
from dcmvault.config.addresses import destination_section, source_section
from dcmvault.config.readable import as_source, readable_section
from dcmvault.config.sections import VaultSourceSection
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.plan import RunKind, RunRequest, Strategy
from dcmvault.model.selection import Selection

#: A run's request names its studies, and is read at every step.
_STUDIES_PER_RUN = 500


def require_deliverable(settings: Settings, a: str, b: str) -> None:
    """Raise UsageError where A cannot be backed up to B, before anything is compared."""
    delivery_requests(settings, a, b, ["1.2.3"])


def delivery_requests(
    settings: Settings, a: str, b: str, study_instance_uids: Sequence[str]
) -> list[RunRequest]:
    """Make the runs that deliver these studies, at the level that B has by default."""
    source, destination = _source(settings, a), _destination(settings, b)
    return [
        make_request(
            settings,
            kind=RunKind.BACKUP,
            source=source,
            destinations=[destination],
            level=None,
            # All of them: what is held there is looked for anew.
            strategy=Strategy.FULL,
            selection=Selection(tuple(study_instance_uids[start : start + _STUDIES_PER_RUN])),
        )
        for start in range(0, len(study_instance_uids), _STUDIES_PER_RUN)
    ]


def _source(settings: Settings, name: str) -> str:
    """Return what a run calls A; a run reads with the options of a source."""
    if name in settings.sources or name not in settings.destinations:
        return name
    section = readable_section(settings, name)
    configured = any(one == section for one in settings.sources.values())
    if not configured and source_section(section.address) != section:
        raise UsageError(
            _("“%s” is configured as a destination only, so nothing can be delivered from it.")
            % name,
            hint=_("Configure it as a source, too: [sources.NAME]."),
        )
    return section.address


def _destination(settings: Settings, name: str) -> str:
    """Return what a run calls B."""
    section = readable_section(settings, name)
    if named := settings.destinations.get(name):
        if as_source(named.section).address != section.address:
            # The one was compared, and nothing must go to the other.
            raise UsageError(
                _("“%s” is the name of a source, and of a destination that is another place.")
                % name,
                hint=_("Give one of the two another name."),
            )
        return name
    if isinstance(section, VaultSourceSection) and section.snapshot:
        raise UsageError(
            _("Nothing can be added to a snapshot."),
            hint=_("Compare with the vault as it is now: leave out what follows “#”."),
        )
    if name not in settings.sources:
        return name
    known = any(one.section.address == section.address for one in settings.destinations.values())
    if not known:
        destination_section(section.address)  # raises where it can be none
        # Nothing is ever written to what is only read.
        raise UsageError(
            _("“%s” is configured as a source only, so nothing can be delivered to it.") % name,
            hint=_("Configure it as a destination, too: [destinations.NAME]."),
        )
    return section.address
