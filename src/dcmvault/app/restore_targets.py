"""Which target stands behind what a restore is to go to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from dcmvault.app.library_folder import LIBRARY_SCHEME, LibraryFolder
from dcmvault.app.library_incoming import LibraryIncoming
from dcmvault.app.restored_files import RestoreFolder
from dcmvault.config.addresses import is_library
from dcmvault.config.sections import VaultSection
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import Layout
from dcmvault.ports.restore_target import RestoreTarget


def restore_target(
    path: Path, source: VaultSection, layout: Layout, require_going: Callable[[], None]
) -> RestoreTarget:
    """Make the target for a path; UsageError for one that cannot be restored into.

    `require_going` raises when the restore is to stop, and ends a wait for a viewer.
    """
    if str(path).startswith(LIBRARY_SCHEME):
        return _library(str(path).removeprefix(LIBRARY_SCHEME), layout, require_going)
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
            _("This folder is an OsiriX or Horos library, or in one: no file is put there."),
            hint=_("To have its viewer import the files, write horos: before the library's path."),
        )
    return RestoreFolder(folder)


def _library(path: str, layout: Layout, require_going: Callable[[], None]) -> RestoreTarget:
    base = Path(os.path.realpath(Path(path).expanduser()))
    if layout is not Layout.ORIGINAL:
        raise UsageError(
            _("A viewer gives the files it imports names of its own; a layout is for folders."),
            hint=_("Leave --layout out."),
        )
    if not is_library(base):
        raise UsageError(
            _("There is no OsiriX or Horos library in this folder to restore into."),
            hint=_("For a new one, name a new folder, without horos:, and --layout library."),
        )
    return LibraryIncoming(base, require_going)
