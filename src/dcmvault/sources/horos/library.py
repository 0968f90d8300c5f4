"""The Source over an OsiriX or Horos library."""

from __future__ import annotations

import os
import shutil
import sqlite3
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from dcmvault.config.sections import HorosSourceSection
from dcmvault.errors import (
    EntryUnreadableError,
    SourceEmptyError,
    SourceIndexError,
    SourceUnavailableError,
)
from dcmvault.model.classification import StudyMarks
from dcmvault.model.identifiers import is_valid_uid
from dcmvault.model.instance import Claim, InstanceEntry, InstanceFile, StudyRef, UnreadableEntry
from dcmvault.model.remarks import SourceRemarks
from dcmvault.model.sidecar import SidecarFile, UnreadableSidecar
from dcmvault.sources import local_files
from dcmvault.sources.horos.index import copy_index
from dcmvault.sources.horos.listing import NO_FILE, IndexedFile, IndexListing
from dcmvault.sources.horos.paths import DATABASE_FOLDER, ROI_FOLDER, data_folder
from dcmvault.sources.horos.remarks import LibraryCounts, is_in_cloud_only, is_placeholder
from dcmvault.sources.horos.sidecar import sidecar_files
from dcmvault.sources.local_files import LocalRoot

#: Files without a row in the index, listed last so that nothing is lost.
ORPHANS = StudyRef("orphans")
_STUDY = "study/"


class _Snapshot:
    """One private copy of the index, the library's place then, and their end."""

    def __init__(self, base: str, folder_size: int) -> None:
        self.data = data_folder(base)
        self.root = LocalRoot(os.path.join(self.data, DATABASE_FOLDER))  # noqa: PTH118
        self.root.check()
        self.counts = LibraryCounts()
        #: None where the index cannot be used: then every file is one that it does not name.
        self.listing: IndexListing | None = None
        self.close: Callable[[], object] = lambda: None
        try:
            self.listing = self._open_listing(base, folder_size)
        except SourceIndexError as error:
            self.counts.without_index = error.message

    def _open_listing(self, base: str, folder_size: int) -> IndexListing:
        connection, folder = copy_index(base)
        self.close = weakref.finalize(self, _discard, connection, folder)
        try:
            with _explained():
                listing = IndexListing(connection, folder, data=self.data, folder_size=folder_size)
                self._check_visible(listing)
        except BaseException:
            self.close()
            raise
        return listing

    def _check_visible(self, listing: IndexListing) -> None:
        expected = listing.files_in_library()
        # The files lie in folders; systems litter a mount point with files (`.DS_Store`).
        shown = local_files.list_folder(self.root.path)
        if expected and shown is not None and shown.complete and not (shown.folders or shown.links):
            raise SourceEmptyError(
                f"The library's index names {expected:,} files, and its folder shows none.",
                hint="Check that the volume with DATABASE.noindex is mounted.",
            )


class HorosSource:
    """A Source over the library in the folder that contains `Database.sql`.

    `studies` takes a private copy of the index (patient data, mode 0700, in the folder for
    temporary files), which also serves `entries` until the iteration ends. Nothing is ever
    written into the library, and the live index is neither opened by SQLite nor locked.

    A StudyRef is a Study Instance UID; rows that share one are one study. The last StudyRef
    holds what no row names; without a usable index it is the only one (rescue), and `remarks` says
    so. An entry's locator is the file's path relative to the data folder
    (`DATABASE.noindex/10000/17.dcm`), or absolute for a linked file, escaped as in FolderSource.
    A row whose file is missing is an entry with a zero fingerprint.
    """

    def __init__(self, section: HorosSourceSection) -> None:
        self._base = os.path.realpath(section.path)
        self._folder_size = section.folder_size
        self._snapshot: _Snapshot | None = None
        self._remarks = SourceRemarks()
        self._marks: dict[str, StudyMarks] = {}

    @property
    def index_may_err(self) -> bool:
        """True: file numbers are used again, and the index may lag behind its files."""
        return True

    @property
    def name(self) -> str:
        """`horos:` and the canonical absolute path of the library."""
        return "horos:" + os.fsencode(self._base).decode(errors="backslashreplace")

    def studies(self) -> Iterator[StudyRef]:
        """List the studies of the index, then the place of files that it does not name.

        First come those that the viewer's auto-clean would delete first.
        """
        self._release()
        snapshot = self._snapshot = _Snapshot(self._base, self._folder_size)
        try:
            with _explained():
                uids = snapshot.listing.studies() if snapshot.listing is not None else []
                self._marks = snapshot.listing.marks() if snapshot.listing is not None else {}
            for uid in uids:
                yield StudyRef(f"{_STUDY}{uid}", uid if is_valid_uid(uid) else "")
            yield ORPHANS
        finally:
            snapshot.close()
            self._remarks = snapshot.counts.remarks(self._base, snapshot.data)
            if self._snapshot is snapshot:
                self._snapshot = None

    def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
        """List the files of one study, or those that the index does not name.

        Outside an iteration of `studies` this takes a copy of the index, which is kept for
        further calls until `studies` is called or the source is no longer referred to.
        """
        if self._snapshot is None:
            self._snapshot = _Snapshot(self._base, self._folder_size)
        snapshot = self._snapshot
        with _explained():
            if study == ORPHANS:
                yield from _orphans(snapshot)
                return
            if snapshot.listing is None:
                return
            for file in snapshot.listing.files(study.locator.removeprefix(_STUDY)):
                yield _entry(snapshot, file)
        snapshot.root.ensure_there()

    def read(
        self,
        entries: Iterable[InstanceEntry],
        *,
        kept: int = 1,  # noqa: ARG002 - they lie where they lie
    ) -> Iterator[InstanceFile | UnreadableEntry]:
        """Check each file once more, and hand out its path."""
        try:
            data = data_folder(self._base)
            root = LocalRoot(os.path.join(data, DATABASE_FOLDER))  # noqa: PTH118
            root.check()
        except SourceUnavailableError as error:
            for entry in entries:
                yield UnreadableEntry(entry, EntryUnreadableError.code, error.message)
            return
        for entry in entries:
            path = local_files.unescape(entry.locator)
            if entry.locator.startswith(NO_FILE) or not local_files.can_be_a_path(path):
                yield local_files.nameless(entry)
            elif path.startswith("/"):
                # A linked file lies anywhere: on a volume, perhaps, that is not there now.
                folder = LocalRoot(os.path.dirname(path))  # noqa: PTH120
                yield local_files.readable(entry, path, folder)
            else:
                yield local_files.readable(entry, _path(data, entry.locator), root)

    def sidecar(self) -> Iterator[SidecarFile | UnreadableSidecar]:
        """Hand out the index and what only it knows; see `dcmvault.sources.horos.sidecar`.

        It has a copy of the index of its own: `studies` may be listed at the same time.
        """
        return sidecar_files(self._base)

    def remarks(self) -> SourceRemarks:
        """Say what the last iteration of `studies`, with their entries, found."""
        return self._remarks

    def marks(self) -> dict[str, StudyMarks]:
        """Say what the index had of its studies when they were last listed, by UID."""
        return self._marks

    def _release(self) -> None:
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None


def _orphans(snapshot: _Snapshot) -> Iterator[InstanceEntry]:
    for folder in (DATABASE_FOLDER, ROI_FOLDER):
        top = os.path.join(snapshot.data, folder)  # noqa: PTH118
        for relative, listing in local_files.walk(top):
            place = local_files.join(folder, relative) if relative else folder
            if not listing.complete:
                snapshot.counts.unlisted += 1
                yield InstanceEntry(local_files.escape(place), local_files.NO_FINGERPRINT)
            named: Collection[str] = ()
            if snapshot.listing is not None:
                named = snapshot.listing.names_in(local_files.escape(place))
            for name in listing.files:
                locator = local_files.escape(f"{place}/{name}")
                if locator in named:
                    continue
                if is_placeholder(name):
                    snapshot.counts.in_cloud += 1
                    continue
                entry = local_files.examine(locator, _path(snapshot.data, locator))
                if entry is not None:
                    # Regions of interest of older versions were never named by an index.
                    is_orphan = folder == DATABASE_FOLDER and entry.claim is Claim.DICOM
                    snapshot.counts.orphans += is_orphan
                    yield entry
    snapshot.root.ensure_there()


def _entry(snapshot: _Snapshot, file: IndexedFile) -> InstanceEntry:
    fingerprint = local_files.NO_FINGERPRINT
    if not file.locator.startswith(NO_FILE):
        try:
            status = os.stat(_path(snapshot.data, file.locator))  # noqa: PTH116
            fingerprint = local_files.fingerprint_of(status)
            snapshot.counts.in_cloud += is_in_cloud_only(status)
        except OSError as error:
            # Missing, or not to be examined: listed all the same, so that reading says why.
            snapshot.counts.missing += isinstance(error, FileNotFoundError | NotADirectoryError)
    return InstanceEntry(file.locator, fingerprint, file.claim, file.sop_instance_uid, file.indexed)


def _path(data: str, locator: str) -> str:
    path = local_files.unescape(locator)
    return path if path.startswith("/") else f"{data}/{path}"  # a linked file, or one inside


def _discard(connection: sqlite3.Connection, folder: str) -> None:
    connection.close()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn SQLite's errors about the copy into one about the source."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise SourceUnavailableError(
            f"The copy of the library's index cannot be read: {error}.",
            hint="Check the space for temporary files, and whether the viewer opens the library.",
        ) from error
    except sqlite3.DatabaseError as error:
        raise SourceIndexError(
            f"The library's index (Database.sql) is damaged: {error}.",
            hint="Let the viewer rebuild its database.",
        ) from error
