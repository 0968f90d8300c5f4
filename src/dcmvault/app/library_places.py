"""Where the files of a library lie in a new folder that is to be that library again."""

from __future__ import annotations

import os
from urllib.parse import unquote_to_bytes

from dcmvault.app.restored_names import safe_parts
from dcmvault.model.restored import FileToRestore, Parts

#: What the viewer does not know of: older versions, and what the index says in plain words.
COMPANION_FOLDER = "RESTORED LIBRARY"
#: Files that the old library named by absolute paths.
LINKED_FOLDER = "LINKED"
INDEX_FILE = "Database.sql"
REPORT_FOLDER = "REPORTS"
#: The index as the vault has it; the library's own is made of it, last.
INDEX_PARTS: Parts = (COMPANION_FOLDER, "index", INDEX_FILE)
DESCRIPTION_PARTS: Parts = (COMPANION_FOLDER, "library.json")
OLDER_VERSIONS = "older versions"
#: Folders below the library's own, with the files that locators name.
_OWN_FOLDERS = frozenset({"DATABASE.noindex", "ROIs"})
#: It leads to where the old library's files were.
_REDIRECT = "library/DBFOLDER_LOCATION"
_FOLDERS = {"reports": REPORT_FOLDER, "linked-reports": REPORT_FOLDER, "rois": "ROIs"}


def library_parts(file: FileToRestore) -> Parts:
    """Return the place of a file below the new library's folder."""
    if file.of_library:
        return sidecar_parts(file.locator)
    wanted = safe_parts(file.locator)
    if file.locator.startswith("/"):
        wanted = (LINKED_FOLDER, *wanted)
    elif wanted[0] not in _OWN_FOLDERS:
        wanted = (COMPANION_FOLDER, "other files", *wanted)
    if file.parts[-1] != wanted[-1]:  # another version has the name
        return (COMPANION_FOLDER, OLDER_VERSIONS, *wanted[:-1], file.parts[-1])
    return wanted


def sidecar_parts(name: str) -> Parts:
    """Return the place of a file of the sidecar: where the library had it, but for the index."""
    top, _slash, rest = name.partition("/")
    if not rest or top == "index" or is_left_behind(name):
        return (COMPANION_FOLDER, *_unescaped(name))
    if top in _FOLDERS:
        return (_FOLDERS[top], *_unescaped(rest))
    return _unescaped(rest if top == "library" else name)


def is_left_behind(name: str) -> bool:
    """Say whether a file of the sidecar must not be where the old library had it."""
    return name == _REDIRECT


def linked_parts(path: str) -> Parts:
    """Return the place of a file that the old library named by this absolute path."""
    return (LINKED_FOLDER, *safe_parts(path.replace("\\", "\\\\")))


def _unescaped(name: str) -> Parts:
    """Undo the escapes of names in a sidecar; a part that would lead elsewhere keeps them."""
    parts = []
    for part in name.split("/"):
        raw = unquote_to_bytes(part.encode("utf-8", "surrogateescape"))
        safe = raw not in {b"", b".", b".."} and not {*raw} & {0, ord("/")}
        parts.append(os.fsdecode(raw) if safe else part)
    return tuple(parts)
