"""Which target stands behind what a restore is to go to."""

from __future__ import annotations

import os
from pathlib import Path

from dcmvault.app.library_folder import LibraryFolder
from dcmvault.app.restored_files import RestoreFolder
from dcmvault.config.addresses import is_library
from dcmvault.config.sections import VaultSection
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import Layout
from dcmvault.ports.restore_target import RestoreTarget


def restore_target(path: Path, source: VaultSection, layout: Layout) -> RestoreTarget:
    """Make the target for a path; UsageError for one that cannot be restored into."""
    folder = Path(os.path.realpath(path.expanduser()))
    if source.path is not None and folder.is_relative_to(source.path.resolve()):
        raise UsageError(
            _("The folder to restore into is inside the vault."),
            hint=_("Name a folder outside of it."),
        )
    if layout is Layout.LIBRARY and not any(is_library(one) for one in folder.parents):
        return LibraryFolder(folder)
    if any(is_library(one) for one in (folder, *folder.parents)):
        raise UsageError(
            _("An OsiriX or Horos library cannot be restored into: nothing is ever written there."),
            hint=_("Restore into another folder, then import from it."),
        )
    return RestoreFolder(folder)
