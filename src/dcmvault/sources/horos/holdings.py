"""Which files of a library hold which instances, as its index says now."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import weakref
from collections import OrderedDict
from pathlib import Path

from dcmvault.config.sections import HorosSourceSection
from dcmvault.errors import SourceIndexError
from dcmvault.sources import local_files
from dcmvault.sources.horos.index import copy_index
from dcmvault.sources.horos.listing import NO_FILE, IndexListing
from dcmvault.sources.horos.paths import data_folder

#: Studies whose files are kept in memory.
_STUDIES = 16


class LibraryHoldings:
    """A look into a private copy of the index; for several threads.

    Making one raises SourceUnavailableError, or SourceIndexError for an index that is damaged.
    """

    def __init__(self, section: HorosSourceSection) -> None:
        base = str(section.path)
        self._data = data_folder(base)
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, dict[str, Path]] = OrderedDict()
        connection, folder = copy_index(base)
        self._end = weakref.finalize(self, _discard, connection, folder)
        try:
            self._listing = IndexListing(
                connection, folder, data=self._data, folder_size=section.folder_size
            )
        except sqlite3.DatabaseError as error:
            self.close()
            raise SourceIndexError(
                f"The library's index (Database.sql) is damaged: {error}.",
                hint="Let the viewer rebuild its database.",
            ) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the copy."""
        self._end()

    def files(self, study_instance_uid: str) -> dict[str, Path]:
        """Return the files of a study by SOP Instance UID, whether or not they are there."""
        with self._lock:
            if study_instance_uid not in self._seen:
                self._seen[study_instance_uid] = {
                    file.sop_instance_uid: Path(self._data, local_files.unescape(file.locator))
                    for file in self._listing.files(study_instance_uid)
                    if not file.locator.startswith(NO_FILE)
                }
                if len(self._seen) > _STUDIES:
                    self._seen.popitem(last=False)
            return self._seen[study_instance_uid]


def _discard(connection: sqlite3.Connection, folder: str) -> None:
    connection.close()
    shutil.rmtree(folder, ignore_errors=True)
