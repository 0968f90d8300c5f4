"""What a viewer does not import by itself, written beside its library for who goes on by hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence

from dcmvault.app.library_outcome import ALBUMS_FILE
from dcmvault.app.library_readme import OF_A_LIVE_LIBRARY, README_FILE
from dcmvault.app.library_user_data import LibraryData, importable_albums, left_over
from dcmvault.app.restored_files import RestoreFolder
from dcmvault.dicom.property_list import property_list
from dcmvault.model.restored import FileToRestore, RestoreScope

LEFT_OVER_FILE = "not-imported.json"


def write_beside(
    folder: RestoreFolder,
    libraries: Sequence[LibraryData],
    studies: Collection[str],
    scope: RestoreScope,
) -> int:
    """Write the list of albums, and what neither it nor SRs bring back; count the albums.

    `studies` are those that are in the library, or on their way. Lists of an earlier restore are
    replaced.
    """
    albums = [
        album
        for library in libraries
        for album in importable_albums(
            library, studies.__contains__, scope.about, whole=scope.is_whole
        )
    ]
    rest = [
        {"of": entity, **row}
        for library in libraries
        for study in sorted(studies)
        for entity, row in left_over(library, study)
    ]
    files = {README_FILE: OF_A_LIVE_LIBRARY.encode()} if albums or rest else {}
    if albums:
        files[ALBUMS_FILE] = property_list(albums)
    if rest:
        files[LEFT_OVER_FILE] = json.dumps(rest, ensure_ascii=False, indent=1).encode()
    for name, content in files.items():
        (folder.root / name).unlink(missing_ok=True)
        digest = hashlib.sha256(content).digest()
        folder.write(FileToRestore((name,), len(content), digest), [content])
    return len(albums)
