"""Doctor: is this installation fit, and if not, what is to be done."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from dcmvault.app.oidc import tried_provider
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.destinations import NO_RETRY, build_destination
from dcmvault.app.wiring.notifiers import build_notifier
from dcmvault.app.wiring.sources import build_source
from dcmvault.app.wiring.workplace import open_workplace
from dcmvault.config.load import load_settings
from dcmvault.config.peer_sections import (
    DimseDestinationSection,
    DimsePeerSection,
    DimseSourceSection,
)
from dcmvault.config.plugins import installed_plugins
from dcmvault.config.sections import DestinationSection, FolderSourceSection
from dcmvault.config.settings import Settings
from dcmvault.errors import ConfigurationError, DcmvaultError
from dcmvault.i18n import format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.remarks import SourceRemarks
from dcmvault.ports.destination import Destination, Probes
from dcmvault.ports.source import HasRemarks, Source

_LIBRARIES = ("pydicom", "pynetdicom", "sqlalchemy", "alembic", "dbos")
#: Less free space than this for the state folder is worth a word (bytes).
_LITTLE_SPACE = 1 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `ok` is None for a fact that is neither good nor bad."""

    name: str
    ok: bool | None
    detail: str
    hint: str = ""


def examine(home: Path, settings_path: Path) -> list[Check]:
    """Look at the program, the state folder, the configuration and every configured place."""
    checks = [*_program(), *_plugins()]
    checks += _state_folder(home)
    settings, check = _configuration(settings_path)
    checks.append(check)
    if settings is not None:
        checks.append(_catalogue(home, settings))
        checks += _places(settings)
        checks += _channels(settings)
        checks += _identity_provider(settings)
    return checks


def _program() -> Iterator[Check]:
    yield Check(
        _("program"),
        True,
        f"dcmvault {version('dcmvault')}, Python {platform.python_version()}, {sys.platform}",
    )
    yield Check(_("libraries"), None, ", ".join(f"{name} {version(name)}" for name in _LIBRARIES))
    dcmtk = shutil.which("findscu")
    yield Check(
        _("DCMTK"),
        None,
        _("found, but not needed") if dcmtk else _("not installed, and not needed"),
    )


def _state_folder(home: Path) -> Iterator[Check]:
    if not home.exists():
        yield Check(_("state folder"), None, _("not made yet: %(path)s") % {"path": home})
        return
    writable = os.access(home, os.W_OK | os.X_OK)
    yield Check(
        _("state folder"),
        writable,
        str(home),
        "" if writable else _("It cannot be written to; check its owner and permissions."),
    )
    open_to_others = home.stat().st_mode & 0o077
    yield Check(
        _("privacy of the state folder"),
        not open_to_others,
        _("others may look into it") if open_to_others else _("closed to others"),
        _("Run: chmod go= %(path)s") % {"path": home} if open_to_others else "",
    )
    free = shutil.disk_usage(home).free
    yield Check(
        _("free space"),
        free >= _LITTLE_SPACE,
        _("%(size).1f GiB for catalogue and queue") % {"size": free / (1 << 30)},
        "" if free >= _LITTLE_SPACE else _("Make room on this volume."),
    )


def _configuration(path: Path) -> tuple[Settings | None, Check]:
    try:
        settings = load_settings(path)
    except DcmvaultError as error:
        return None, Check(_("configuration"), False, error.message, error.hint)
    detail = str(path) if path.exists() else _("none; defaults are used")
    return settings, Check(_("configuration"), True, detail)


def _catalogue(home: Path, settings: Settings) -> Check:
    if not home.exists() and not settings.database:
        return Check(_("catalogue"), None, _("not made yet; the first backup makes it"))
    try:
        with open_workplace(home, settings) as workplace:
            counts = workplace.catalogue.status.counts()
    except DcmvaultError as error:
        return Check(_("catalogue"), False, error.message, error.hint)
    held = [
        ngettext("%s study", "%s studies", counts["studies"]) % format_number(counts["studies"]),
        ngettext("%s instance", "%s instances", counts["instances"])
        % format_number(counts["instances"]),
        ngettext("%s run", "%s runs", counts["runs"]) % format_number(counts["runs"]),
    ]
    return Check(_("catalogue"), True, ", ".join(held))


def _listed(source: Source) -> SourceRemarks:
    """List a source: to its end if there is more to say of it than that it can be read."""
    studies = source.studies()
    if not isinstance(source, HasRemarks):
        next(studies, None)
        return SourceRemarks()
    for study in studies:
        deque(source.entries(study), maxlen=0)
    return source.remarks()


def _places(settings: Settings) -> Iterator[Check]:
    """Try every configured source and destination."""
    for name in settings.sources:
        what = _("source %(name)s") % {"name": name}
        section = settings.source(name)
        try:
            if isinstance(section, DimseSourceSection):
                # To list all that a PACS has takes long; it is tried as a destination is.
                yield from _probed(what, _destination(_as_destination(section)))
                continue
            source = build_source(section, settings.listener)
            if isinstance(source, Probes):
                yield from _probed(what, source)
                continue
            if isinstance(section, FolderSourceSection):
                # To list a whole tree takes long, and tells no more than that.
                next(source.studies(), None)
                remarks = SourceRemarks()
            else:
                remarks = _listed(source)
        except DcmvaultError as error:
            yield Check(what, False, error.message, error.hint)
        else:
            yield Check(what, True, _("readable"))
            for warning in remarks.warnings:
                if remarks.lists_all:
                    yield Check(what, None, sentence(warning))
                else:
                    hint = _("Backups go on with what is there; mend this all the same.")
                    yield Check(what, False, sentence(warning), hint)
    for name in settings.destinations:
        what = _("destination %(name)s") % {"name": name}
        try:
            yield from _probed(what, _destination(settings.destination(name).section))
        except ConfigurationError as error:
            yield Check(what, False, error.message, error.hint)


def _plugins() -> Iterator[Check]:
    """Try every plug-in that is installed: a broken one stops none of the others."""
    for one in installed_plugins():
        what = _("plug-in %(name)s") % {"name": one.name}
        if one.problem:
            yield Check(what, False, one.problem)
        else:
            yield Check(what, True, f"{one.package} ({one.group.value.removeprefix('dcmvault.')})")


def _channels(settings: Settings) -> Iterator[Check]:
    """Make every channel with its secrets; nobody is told anything."""
    for name, section in settings.notifications.items():
        what = _("channel %(name)s") % {"name": name}
        try:
            notifier = build_notifier(section, SystemClock())
        except DcmvaultError as error:
            yield Check(what, False, error.message, error.hint)
        else:
            yield Check(what, None, notifier.name, _("Try it: dcmvault notify test"))


def _as_destination(source: DimseSourceSection) -> DimseDestinationSection:
    return DimseDestinationSection.model_validate(
        source.model_dump(include=set(DimsePeerSection.model_fields))
    )


def _destination(section: DestinationSection) -> Destination:
    return build_destination(section, SystemClock(), retry=NO_RETRY)


def _probed(what: str, place: object) -> Iterator[Check]:
    if not isinstance(place, Probes):
        return
    # The first step that failed is the last one tried, but for a folder's. One that has a hint
    # though it went well warns of something.
    steps = place.probe()
    telling = next((step for step in steps if not step.ok), None) or next(
        (step for step in steps if step.hint), steps[-1]
    )
    yield Check(what, telling.ok, telling.detail, telling.hint)


def _identity_provider(settings: Settings) -> Iterator[Check]:
    """Ask the provider of [web.oidc] what it says of itself, and for its keys; nobody logs in."""
    section = settings.web.oidc
    if section is None:
        return
    what = _("identity provider")
    try:
        keys = tried_provider(section, SystemClock())
    except DcmvaultError as error:
        cause = error.__cause__
        told = f"{cause.message} {cause.hint}".rstrip() if isinstance(cause, DcmvaultError) else ""
        yield Check(what, False, error.message, told or error.hint)
    else:
        detail = ngettext("answers, with %d key", "answers, with %d keys", keys) % keys
        yield Check(what, True, f"{section.issuer}: {detail}")
