"""Plug-ins: what installed packages register under our entry points, looked up by name.

Nothing is imported before a name is needed that we do not know ourselves, and what cannot be
imported is a sentence about that plug-in, never the end of another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from dcmvault.config.notifications_section import ChannelSection
from dcmvault.config.options import Section
from dcmvault.config.plugin_sections import (
    PluginDestinationSection,
    PluginPlaceSection,
    PluginSourceSection,
    PluginStoreSection,
)
from dcmvault.errors import AddressError, PluginError
from dcmvault.i18n import gettext as _


class PluginGroup(StrEnum):
    """The entry points under which plug-ins register."""

    SOURCES = "dcmvault.sources"
    DESTINATIONS = "dcmvault.destinations"
    OBJECT_STORES = "dcmvault.object_stores"
    NOTIFIERS = "dcmvault.notifiers"


#: What a section of each group must be.
_ROOTS: dict[PluginGroup, type[Section]] = {
    PluginGroup.SOURCES: PluginSourceSection,
    PluginGroup.DESTINATIONS: PluginDestinationSection,
    PluginGroup.OBJECT_STORES: PluginStoreSection,
    PluginGroup.NOTIFIERS: ChannelSection,
}


@dataclass(frozen=True, slots=True)
class Plugin:
    """What an entry point names: the options of an adapter, and what makes it of them.

    `build(section, surroundings)` returns the adapter (`ports.surroundings.Surroundings`); it
    connects to nothing.
    """

    section: type[Section]
    build: Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """A plug-in as it is found, and why it cannot be used (empty: it can)."""

    group: PluginGroup
    name: str
    package: str
    problem: str = ""


def plugin_names(group: PluginGroup) -> list[str]:
    """List the names that are registered; nothing is imported."""
    return sorted({point.name for point in entry_points(group=group)})


def plugin(group: PluginGroup, name: str) -> Plugin | None:
    """Import the plug-in of this name; None if there is none.

    Raises PluginError for one that cannot be used, or that two packages register.
    """
    points = _points(group, name)
    if not points:
        return None
    if len({point.value for point in points}) > 1:
        packages = ", ".join(sorted(map(_package, points)))
        raise PluginError(
            _("Several packages have a plug-in “%(name)s”: %(packages)s.")
            % {"name": name, "packages": packages},
            hint=_("Uninstall all of them but one."),
        )
    return _loaded(group, points[0])


def plugin_place(group: PluginGroup, scheme: str, rest: str) -> PluginPlaceSection | None:
    """Read an address `SCHEME:REST` by the plug-in of this scheme; None if there is none.

    Raises AddressError as the plug-in says, and PluginError.
    """
    found = plugin(group, scheme)
    if found is None:
        return None
    assert issubclass(found.section, PluginPlaceSection)
    try:
        return found.section.from_address(rest)
    except ValueError as error:
        raise AddressError(
            _("This is not an address of “%(scheme)s:”: %(reason)s")
            % {"scheme": scheme, "reason": _reason(error)}
        ) from None


def plugin_store(url: str, options: Mapping[str, object]) -> PluginStoreSection | None:
    """Read `SCHEME://REST` and its options by the plug-in of this scheme; None if there is none.

    Raises AddressError as the plug-in says, and PluginError.
    """
    scheme = url.partition("://")[0].lower()
    found = plugin(PluginGroup.OBJECT_STORES, scheme)
    if found is None:
        return None
    assert issubclass(found.section, PluginStoreSection)
    try:
        return found.section.from_url(url, options)
    except ValueError as error:
        raise AddressError(
            _("This is not the place of a vault: %s") % _reason(error),
        ) from None


def installed_plugins() -> Iterator[InstalledPlugin]:
    """Try every plug-in that is installed, each by itself."""
    for group in PluginGroup:
        for name in plugin_names(group):
            package = ", ".join(sorted({_package(point) for point in _points(group, name)}))
            try:
                plugin(group, name)
            except PluginError as error:
                yield InstalledPlugin(group, name, package, f"{error.message} {error.hint}".strip())
            else:
                yield InstalledPlugin(group, name, package)


def _reason(error: ValueError) -> str:
    """Return what a plug-in says is wrong, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def _points(group: PluginGroup, name: str) -> list[EntryPoint]:
    return sorted(entry_points(group=group, name=name), key=lambda point: point.value)


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "?"


def _loaded(group: PluginGroup, point: EntryPoint) -> Plugin:
    words = {"name": point.name, "package": _package(point)}
    try:
        found = point.load()
    except Exception as error:
        raise PluginError(
            _("The plug-in “%(name)s” of %(package)s cannot be loaded (%(reason)s).")
            % {**words, "reason": type(error).__name__},
            hint=_("Install it anew, or ask who made it. Everything else works without it."),
        ) from error
    root = _ROOTS[group]
    # Foreign code: what it says of itself need not be true.
    section: object = getattr(found, "section", None)
    if not (isinstance(found, Plugin) and isinstance(section, type) and issubclass(section, root)):
        raise PluginError(
            _("The plug-in “%(name)s” of %(package)s is none that this version can use.") % words,
            hint=_("Its entry point must name a Plugin whose section is a %s.") % root.__name__,
        )
    return found
