"""Which target stands behind what a restore is to go to."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from dcmvault.app.library_folder import LIBRARY_SCHEME, LibraryFolder
from dcmvault.app.library_incoming import LibraryIncoming
from dcmvault.app.restored_files import RestoreFolder
from dcmvault.app.restored_zip import RestoreZip
from dcmvault.app.restoring import stopped
from dcmvault.app.vault_access import is_vault
from dcmvault.config.addresses import (
    LIBRARY_INDEX,
    is_library,
    is_peer_address,
    require_path,
)
from dcmvault.config.peer_sections import DimseDestinationSection, StowDestinationSection
from dcmvault.config.sections import SourceSection, VaultSection
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import Layout
from dcmvault.ports.restore_target import RestoreTarget

_ZIP_SUFFIX = ".zip"


def is_peer(settings: Settings, target: str) -> bool:
    """Say whether a restore is to go to a PACS or a DICOMweb service, by name or address.

    UsageError for a configured destination of another kind.
    """
    configured = settings.destinations.get(target)
    if configured is None:
        return is_peer_address(target)
    if isinstance(configured.section, DimseDestinationSection | StowDestinationSection):
        return True
    raise UsageError(
        _("“%s” is a place for backups: nothing is restored into it.") % target,
        hint=_("Name a folder, a ZIP file, or a PACS."),
    )


def is_zip(target: str) -> bool:
    """Say whether a restore is to go into a ZIP file."""
    return target.lower().endswith(_ZIP_SUFFIX)


def layout_for(target: str, asked: Layout | None) -> Layout:
    """Return the layout that is asked for, else the usual one of a target."""
    return asked or (Layout.DICOM if is_zip(target) else Layout.ORIGINAL)


def restore_target(
    target: str,
    source: SourceSection | VaultSection,
    layout: Layout | None,
    stop: threading.Event,
) -> RestoreTarget:
    """Make the target for a path, or for `horos:` and a path.

    `stop` ends a wait for a viewer. UsageError for what cannot be restored into.
    """
    if target.lower().startswith("vault:"):
        raise UsageError(
            _("A vault is not restored into."),
            hint=_("`dcmvault vault copy` copies a vault; `dcmvault backup` backs up into one."),
        )
    if target.lower().startswith(LIBRARY_SCHEME):
        return _library_in_use(target[len(LIBRARY_SCHEME) :], layout, stop)
    require_path(target)
    path = Path(os.path.realpath(Path(target).expanduser()))
    if (
        isinstance(source, VaultSection)
        and source.path is not None
        and path.is_relative_to(source.path.resolve())
    ):
        raise UsageError(
            _("The folder to restore into is inside the vault."),
            hint=_("Name a folder outside of it."),
        )
    if any(map(is_vault, (path, *path.parents))):
        raise UsageError(
            _("This folder is a vault, or in one: nothing else is put there."),
            hint=_("Name a folder outside of it."),
        )
    # A library that a restore made goes on being made.
    libraries = path.parents if layout is Layout.LIBRARY else (path, *path.parents)
    if any(map(is_library, libraries)):
        raise UsageError(
            _("This folder is an OsiriX or Horos library, or in one: no file is put there."),
            hint=_("To have its viewer import the files, write horos: before the library's path."),
        )
    own = None if isinstance(source, VaultSection) else getattr(source, "path", None)
    if own is not None and path.is_relative_to(own.resolve()):
        raise UsageError(
            _("The folder to restore into is inside the source."),
            hint=_("Name a folder outside of it."),
        )
    if layout is Layout.LIBRARY:
        return LibraryFolder(path)
    return RestoreZip(path) if is_zip(target) else RestoreFolder(path)


def _library_in_use(path: str, layout: Layout | None, stop: threading.Event) -> RestoreTarget:
    base = Path(os.path.realpath(Path(path).expanduser()))
    if base.name == LIBRARY_INDEX:
        base = base.parent
    if layout is not None:
        raise UsageError(
            _("A viewer gives the files it imports names of its own; a layout is for folders."),
            hint=_("Leave --layout out."),
        )
    if not is_library(base):
        raise UsageError(
            _("There is no OsiriX or Horos library in this folder to restore into."),
            hint=_("For a new one, name a new folder, without horos:, and --layout library."),
        )

    def require_going() -> None:
        if stop.is_set():
            raise stopped()

    return LibraryIncoming(base, require_going)
