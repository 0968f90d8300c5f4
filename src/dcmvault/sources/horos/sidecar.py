"""The sidecar of a library: its index, what only the index knows, and files beside the studies.

| name | what |
|---|---|
| `index/Database.sql` | the index at rest: its rollback journal or write-ahead log is applied |
| `library.json` | what it says in a shape that does not change (see `library_json`) |
| `linked-reports/...` | report documents that studies name outside the library |
| `reports/...` | the REPORTS folder |
| `rois/...` | the ROIs folder (regions of interest of older versions) |
| `library/...` | templates, presets, states of 3D views, the index's model, and small settings |

An index that cannot be opened is there as it lies, with its journal or log beside it, and
`library.json` is not.

Left out: the studies' own files, and with them regions of interest, annotations, reports and
window states that are DICOM SR (they are instances of the source, wherever they lie); thumbnails;
folders of work in progress (INCOMING, TEMP, DECOMPRESSION, TOBEINDEXED, DUMP, NOT READABLE); the
application's leftovers (`Database.sql - old`, `Loading`, `DeleteQueueFile.plist` ...); what
operating systems leave (`.DS_Store`, `._*`); what lies outside the library (preferences with
their nodes, web users), except report documents; and files behind symbolic links, which are
answered as unreadable.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from dcmvault.errors import (
    EntryChangedError,
    EntryUnreadableError,
    EntryVanishedError,
    SourceUnavailableError,
)
from dcmvault.model.instance import Claim
from dcmvault.model.sidecar import SidecarFile, UnreadableSidecar
from dcmvault.scratch import scratch_folder
from dcmvault.sources import local_files
from dcmvault.sources.horos.index import INDEX_FILE, INDEX_PARTS, copy_index
from dcmvault.sources.horos.library_json import write_library_json
from dcmvault.sources.horos.paths import DATABASE_FOLDER, REDIRECT_FILE, ROI_FOLDER, data_folder
from dcmvault.sources.horos.sidecar_names import (
    REPORT_FOLDER,
    ReportKind,
    describe_report,
    safe_name,
)
from dcmvault.sources.local_files import LocalRoot

_Answer = SidecarFile | UnreadableSidecar

#: Copies tried of a file that is written meanwhile.
_ATTEMPTS = 3
#: Folders of the library and their names in the sidecar.
_FOLDERS = (
    (REPORT_FOLDER, "reports"),
    (ROI_FOLDER, "rois"),
    ("3DPRESETS", "library/3DPRESETS"),
    ("3DSTATE", "library/3DSTATE"),
    ("CLUTs", "library/CLUTs"),
    ("Database.momd", "library/Database.momd"),
    ("HTML_TEMPLATES", "library/HTML_TEMPLATES"),
    ("PAGES", "library/PAGES"),
)
_SETTINGS = ("AlbumSortDescriptors.plist", REDIRECT_FILE, "DB_VERSION")
_TEMPLATE = "ReportTemplate."


def sidecar_files(base: str) -> Iterator[_Answer]:
    """Hand out the sidecar of the library in the folder `base`.

    Each file is a private copy (patient data, in a folder of mode 0700 for temporary files),
    valid until the iterator is advanced or closed. Raises SourceUnavailableError when the
    library's files are not there, or went away meanwhile.
    """
    data = data_folder(base)
    root = LocalRoot(os.path.join(data, DATABASE_FOLDER))  # noqa: PTH118
    root.check()
    with ExitStack() as until_end:
        try:
            scratch = until_end.enter_context(scratch_folder())
        except OSError as error:
            raise SourceUnavailableError(
                f"There is no place for copies of the library's own files: {error.strerror}.",
                hint="Check the folder for temporary files, and its space.",
            ) from None
        library = _Library(base, data, str(scratch))
        yield from library.index()
        for folder, name in _FOLDERS:
            yield from library.folder(library.place(folder), name)
        yield from library.settings()
    root.ensure_there()


@dataclass(frozen=True, slots=True)
class _Library:
    """The library's two folders, which are mostly one, and a private folder for copies."""

    base: str
    data: str
    scratch: str

    def place(self, name: str) -> str:
        """Say where a folder or file of the library is: with the data, else with the index."""
        path = os.path.join(self.data, name)  # noqa: PTH118
        if self.base != self.data and not os.path.lexists(path):
            return os.path.join(self.base, name)  # noqa: PTH118
        return path

    def index(self) -> Iterator[_Answer]:
        """Hand out the index, what it says, and the documents that it links."""
        try:
            connection, folder = copy_index(self.base)
        except SourceUnavailableError as error:
            yield UnreadableSidecar("library.json", error.code, error.message)
            for part in INDEX_PARTS:
                path = os.path.join(self.base, part)  # noqa: PTH118
                if part == INDEX_FILE or os.path.lexists(path):
                    yield from self.file(path, f"index/{part}")
            return
        try:
            with closing(connection):
                said = self._library_json(connection)
                # The connection stays open, and only reads: the copy is at rest.
                yield _in_hand(f"index/{INDEX_FILE}", os.path.join(folder, INDEX_FILE))  # noqa: PTH118
                yield said
                if isinstance(said, SidecarFile):
                    said.path.unlink(missing_ok=True)
                    yield from self._linked_reports(connection)
        except sqlite3.DatabaseError as error:
            message = f"The copy of the library's index cannot be read: {error}."
            yield _unreadable("linked-reports", EntryUnreadableError, message)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def folder(self, top: str, name: str) -> Iterator[_Answer]:
        """Hand out every file of a folder and of those below it."""
        for relative, listing in local_files.walk(top):
            below = local_files.join(name, safe_name(relative)) if relative else name
            if not listing.complete:
                yield _unreadable(below, EntryUnreadableError, "The folder cannot be listed.")
            for link in listing.links:
                yield _symbolic_link(f"{below}/{safe_name(link)}")
            for file in listing.files:
                if local_files.claim_by_name(file) is Claim.DICOM:
                    path = os.path.join(top, relative, file)  # noqa: PTH118
                    yield from self.file(path, f"{below}/{safe_name(file)}")

    def settings(self) -> Iterator[_Answer]:
        """Hand out the small files of the library's folder."""
        listing = local_files.list_folder(self.base)
        templates = listing.files if listing is not None else []
        names = {name for name in templates if name.startswith(_TEMPLATE)}.union(_SETTINGS)
        for name in sorted(names):
            path = self.place(name)
            if os.path.lexists(path):
                yield from self.file(path, f"library/{safe_name(name)}")

    def file(self, path: str, name: str) -> Iterator[_Answer]:
        """Hand out a private copy of one file, taken while nothing changed it."""
        copy = os.path.join(self.scratch, "file")  # noqa: PTH118
        try:
            at_rest = any(_copy_at_rest(path, copy) for _ in range(_ATTEMPTS))
        except (FileNotFoundError, NotADirectoryError):
            yield _unreadable(name, EntryVanishedError, "The file is gone.")
            return
        except OSError as error:
            if error.errno == errno.ELOOP:
                yield _symbolic_link(name)
            else:
                message = f"The file cannot be copied: {error.strerror}."
                yield _unreadable(name, EntryUnreadableError, message)
            return
        if at_rest:
            yield _in_hand(name, copy)
        else:
            yield _unreadable(name, EntryChangedError, "The file is being written.")

    def _library_json(self, connection: sqlite3.Connection) -> _Answer:
        path = os.path.join(self.scratch, "library.json")  # noqa: PTH118
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA query_only = ON")
            with open(path, "w", encoding="utf-8", newline="\n") as file:  # noqa: PTH123
                write_library_json(connection, file, base=self.base, data=self.data)
        except sqlite3.DatabaseError as error:
            message = f"The copy of the library's index cannot be read: {error}."
            return _unreadable("library.json", EntryUnreadableError, message)
        except OSError as error:
            message = f"It cannot be written to the folder for temporary files: {error.strerror}."
            return _unreadable("library.json", EntryUnreadableError, message)
        return _in_hand("library.json", path)

    def _linked_reports(self, connection: sqlite3.Connection) -> Iterator[_Answer]:
        columns = {row[1].upper() for row in connection.execute("PRAGMA table_info(ZSTUDY)")}
        if "ZREPORTURL" not in columns:
            return
        for (location,) in connection.execute(
            "SELECT DISTINCT ZREPORTURL FROM main.ZSTUDY WHERE ZREPORTURL LIKE '/%' ORDER BY 1"
        ):
            kind, name = describe_report(location, self.base, self.data)
            if kind is not ReportKind.LINKED:
                continue
            if os.path.isdir(location) and not os.path.islink(location):  # noqa: PTH112, PTH114
                yield from self.folder(location, name)
            else:
                yield from self.file(location, name)


def _copy_at_rest(path: str, copy: str) -> bool:
    """Copy a regular file; say whether it was the same before and after."""
    # O_NONBLOCK: a FIFO must not hold us.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    with open(os.open(path, flags), "rb") as file:  # noqa: PTH123
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        with open(copy, "wb") as target:  # noqa: PTH123
            shutil.copyfileobj(file, target)
            copied = target.tell()
        after = os.fstat(file.fileno())
    fingerprint = local_files.fingerprint_of(before)
    return fingerprint == local_files.fingerprint_of(after) and copied == fingerprint.size


def _in_hand(name: str, path: str) -> SidecarFile:
    return SidecarFile(name, Path(path), os.stat(path).st_size)  # noqa: PTH116


def _symbolic_link(name: str) -> UnreadableSidecar:
    return _unreadable(name, EntryUnreadableError, "It is a symbolic link, which is not followed.")


def _unreadable(name: str, error: type[EntryUnreadableError], message: str) -> UnreadableSidecar:
    return UnreadableSidecar(name, error.code, message)
