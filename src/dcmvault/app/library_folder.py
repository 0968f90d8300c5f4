"""A whole library in a new folder: its files, its index, and everything beside them.

The folder becomes a library at the end only, when its index is put in: until then no viewer opens
it, and a restore that was interrupted goes on.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from dcmvault.app.library_check import LibraryCheck, compare_sidecars, new_report_path
from dcmvault.app.library_places import (
    COMPANION_FOLDER,
    DESCRIPTION_PARTS,
    INDEX_FILE,
    INDEX_PARTS,
    library_parts,
    linked_parts,
)
from dcmvault.app.library_readme import OF_A_NEW_LIBRARY, README_FILE
from dcmvault.app.restored_files import RestoreFolder, all_files, make_file_durable
from dcmvault.app.restored_names import UNFINISHED_FOLDER
from dcmvault.app.wiring.library import files_missing, library_sidecar, repoint_library
from dcmvault.errors import DestinationError, LibraryIncompleteError, SourceError, UsageError
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import FileToRestore, Restored, RestoreScope

#: Addresses of libraries as sources begin so.
LIBRARY_SCHEME = "horos:"
#: Folders that the viewer expects; it makes the others itself.
_EXPECTED = ("DATABASE.noindex", "INCOMING.noindex")


class LibraryFolder:
    """Implements `ports.restore_target.RestoreTarget`: a new folder that becomes a library."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = RestoreFolder(root)
        self._lock = threading.Lock()
        #: SHA-256 of the files of the sidecar, by name.
        self._sidecar: dict[str, bytes] = {}
        #: What was found at the end.
        self._check = LibraryCheck(has_index=False)

    @property
    def name(self) -> str:
        """The folder's path."""
        return self._folder.name

    @property
    def keeps_versions(self) -> bool:
        """True: an older version lies beside the library."""
        return True

    def prepare(self, scope: RestoreScope) -> None:
        """Raise UsageError unless all comes from one library."""
        sources = scope.sources
        others = sorted(one for one in sources if not one.startswith(LIBRARY_SCHEME))
        if others or not sources:
            raise UsageError(
                _("Only what was backed up from an OsiriX or Horos library can become one again."),
                hint=_("Restore without --layout library."),
            )
        if len(sources) > 1:
            raise UsageError(
                _("These are the files of several libraries, and a folder can be one only."),
                hint=_("Name the one to restore with --source: %s") % ", ".join(sorted(sources)),
            )

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Make the folder; when left without an error it is a library, and was read as one."""
        index = self.root / INDEX_FILE
        if os.path.lexists(index) and not (self.root / COMPANION_FOLDER).is_dir():
            raise UsageError(
                _("There is an OsiriX or Horos library in this folder, which stays as it is."),
                hint=_("Name a new folder."),
            )
        with self._folder.open():
            if os.path.lexists(index) and not self._is_as_made():
                raise UsageError(
                    _("The viewer has worked with this library since it was restored: it stays."),
                    hint=_("Restore into a new folder."),
                )
            yield
            self._check = self._complete()

    def folds_case(self) -> bool:
        """Say whether names that differ in case only name one file here."""
        return self._folder.folds_case()

    def write(self, file: FileToRestore, pieces: Iterable[bytes]) -> Restored:
        """Write one file to the place that the library had it in."""
        became = self._folder.write(replace(file, parts=library_parts(file)), pieces)
        if file.of_library:
            with self._lock:
                self._sidecar[file.locator] = file.file_sha256
        return became

    def read_back(self, file: FileToRestore) -> Iterator[bytes]:
        """Yield what is there now."""
        return self._folder.read_back(replace(file, parts=library_parts(file)))

    def conclusion(self) -> tuple[list[str], list[DestinationError]]:
        """Say whether the library, read back, has what its index knew."""
        check = self._check
        if not check.has_index:
            return [], [
                LibraryIncompleteError(
                    "the vault has no index of this library: its files are there, albums and"
                    " comments are not",
                    hint="Let the viewer rebuild its database in that folder.",
                )
            ]
        failures: list[DestinationError] = [
            LibraryIncompleteError(
                f"the restored library, read back, differs from what was backed up: {name}",
                hint="If the viewer has worked with it since, restore into a new folder.",
            )
            for name in check.differences
        ]
        remarks = []
        if not failures:
            text = ngettext(
                "The folder is a library again. Read back as one, %(files)s file of its own (its "
                "index with albums, comments, states and key images, reports, regions of interest, "
                "presets) says what was backed up, value by value.",
                "The folder is a library again. Read back as one, %(files)s files of its own (its "
                "index with albums, comments, states and key images, reports, regions of interest, "
                "presets) say what was backed up, value by value.",
                check.files,
            )
            remarks.append(text % {"files": format_number(check.files)})
        if check.repointed:
            text = ngettext(
                "%s row of its index led out of the library and now leads to the restored file.",
                "%s rows of its index led out of the library and now lead to the restored files.",
                check.repointed,
            )
            remarks.append(text % format_number(check.repointed))
        if check.missing:
            text = ngettext(
                "%s file that its index names was not in the vault: it was missing in the old "
                "library, or is no DICOM and was backed up without --include-other-files.",
                "%s files that its index names were not in the vault: they were missing in the old "
                "library, or are no DICOM and were backed up without --include-other-files.",
                check.missing,
            )
            remarks.append(text % format_number(check.missing))
        return remarks, failures

    def _complete(self) -> LibraryCheck:
        """Put the index in, and read the library as any other."""
        with all_files():
            for name in _EXPECTED:
                (self.root / name).mkdir(0o700, exist_ok=True)
            readme = self.root / COMPANION_FOLDER / README_FILE
            readme.parent.mkdir(0o700, exist_ok=True)
            readme.write_text(OF_A_NEW_LIBRARY, encoding="utf-8", newline="\n")
            repointed = self._put_index_in()
        if repointed is None:
            return LibraryCheck(has_index=False)
        check = compare_sidecars(
            self._sidecar,
            library_sidecar(self.root),
            self.root.joinpath(*DESCRIPTION_PARTS),
            repointed,
        )
        return replace(check, missing=files_missing(self.root))

    def _put_index_in(self) -> int | None:
        """Put the library's index in, if it is not there; None where the vault has none.

        Answers how many of its rows lead to where files are now.
        """
        stored, place = self.root.joinpath(*INDEX_PARTS), self.root / INDEX_FILE
        if not stored.is_file():
            return None
        staged, repointed = self._make_index(stored)
        if not os.path.lexists(place):
            for journal in _journals(stored):
                shutil.copyfile(journal, self.root / journal.name)
                make_file_durable(self.root / journal.name)
            # A name before its bytes, after a power cut, would look like a viewer's work.
            make_file_durable(staged)
            staged.rename(place)
            make_file_durable(self.root)
        return repointed

    def _make_index(self, stored: Path) -> tuple[Path, int]:
        """Make the library's index of that of the vault: the same one from the same files."""
        staged = self.root / UNFINISHED_FOLDER / INDEX_FILE
        shutil.copyfile(stored, staged)
        staged.chmod(0o600)
        # One that was never at rest lies there with its journal, and says nothing yet.
        if _journals(stored):
            return staged, 0
        with contextlib.suppress(SourceError):
            return staged, repoint_library(staged, self._find_linked, self._find_report())
        return staged, 0

    def _is_as_made(self) -> bool:
        """Say whether the index is as it was put in: no viewer has worked with it since."""
        stored, place = self.root.joinpath(*INDEX_PARTS), self.root / INDEX_FILE
        with all_files():
            if not stored.is_file():
                return False
            made, _repointed = self._make_index(stored)
            same = filecmp.cmp(made, place, shallow=False)
            made.unlink()
        return same

    def _find_linked(self, path: str) -> str | None:
        new = self.root.joinpath(*linked_parts(path))
        return str(new) if new.is_file() else None

    def _find_report(self) -> Callable[[str], str | None]:
        """Return what finds a report's new place by the old one."""
        moved: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            description = json.loads(self.root.joinpath(*DESCRIPTION_PARTS).read_bytes())
            for study in description["studies"]:
                report = study.get("report")
                if (new := new_report_path(report)) and (self.root / new).exists():
                    moved[report["location"]] = new
        return moved.get


def _journals(index: Path) -> list[Path]:
    return [one for one in index.parent.iterdir() if one.name != index.name]
