"""The places that forms offer: those of the configuration, and any other to administrators."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from dcmvault.app.address_tests import check_may_test
from dcmvault.config.peer_sections import DimseDestinationSection, StowDestinationSection
from dcmvault.config.plugin_sections import NotReadableSection
from dcmvault.config.readable import as_source
from dcmvault.config.sections import VaultDestinationSection, VaultSourceSection
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.web.backstage import Backstage
from dcmvault.web.visitors import Visitor

#: What a choice says for an address that is typed beside it.
OTHER = ":other"
#: Characters of an address that are taken.
_LONGEST = 2000


def vaults(settings: Settings) -> list[str]:
    """List the configured vaults, destinations first."""
    named = [
        name
        for name, one in settings.destinations.items()
        if isinstance(one.section, VaultDestinationSection)
    ]
    sources = settings.sources.items()
    return named + [
        name
        for name, section in sources
        if isinstance(section, VaultSourceSection) and name not in named
    ]


def readable_places(settings: Settings) -> list[str]:
    """List the configured places that can be read: vaults, other destinations, sources."""
    names = vaults(settings)
    for name, one in settings.destinations.items():
        if name not in names and not isinstance(as_source(one.section), NotReadableSection):
            names.append(name)
    return names + [name for name in settings.sources if name not in names]


def peers(settings: Settings) -> list[str]:
    """List the configured PACS and DICOMweb services that take studies."""
    kinds = (DimseDestinationSection, StowDestinationSection)
    return [name for name, one in settings.destinations.items() if isinstance(one.section, kinds)]


def chosen_place(
    behind: Backstage, by: Visitor, chosen: str, typed: str, offered: Sequence[str]
) -> str:
    """Return the place that a form names; UsageError for one that the visitor may not name."""
    if chosen in offered:
        return chosen
    place = typed.strip()[:_LONGEST] if chosen == OTHER else chosen
    if not place:
        raise UsageError(_("No place is named."), hint=_("Choose one, or type its address."))
    settings = behind.workplace.settings
    check_may_test(by.role, place, {*settings.sources, *settings.destinations}, _host_of(place))
    return place


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
