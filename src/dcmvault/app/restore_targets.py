"""Which target stands behind what a restore is to go to."""

from __future__ import annotations

import os
from pathlib import Path

from dcmvault.app.restored_files import RestoreFolder
from dcmvault.app.restored_zip import RestoreZip
from dcmvault.config.addresses import is_library, is_peer_address
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


def restore_target(target: str, source: SourceSection | VaultSection) -> RestoreTarget:
    """Make the target for a path; UsageError for one that cannot be restored into."""
    if target.lower().startswith("vault:"):
        raise UsageError(
            _("A vault is not restored into."),
            hint=_("`dcmvault vault copy` copies a vault; `dcmvault backup` backs up into one."),
        )
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
    if any(is_library(one) for one in (path, *path.parents)):
        raise UsageError(
            _("An OsiriX or Horos library cannot be restored into: nothing is ever written there."),
            hint=_("Restore into another folder, then import from it."),
        )
    own = None if isinstance(source, VaultSection) else getattr(source, "path", None)
    if own is not None and path.is_relative_to(own.resolve()):
        raise UsageError(
            _("The folder to restore into is inside the source."),
            hint=_("Name a folder outside of it."),
        )
    return RestoreZip(path) if is_zip(target) else RestoreFolder(path)
