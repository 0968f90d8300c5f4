"""Files on this machine: list folders without opening files, name files, check before reading."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dcmvault.errors import (
    EntryChangedError,
    EntryUnreadableError,
    EntryVanishedError,
    SourceUnavailableError,
)
from dcmvault.model.instance import (
    Claim,
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    UnreadableEntry,
)

#: Stands for "listed, but could not be examined"; equal to no real file's fingerprint.
NO_FINGERPRINT = Fingerprint(0, 0, 0)

#: What is to be said of a source when some listing of its folders was not complete.
NOT_ALL_LISTED = (
    "Some folders could not be listed to their end. What was in them is not taken for deleted."
)

#: What operating systems leave on volumes; the trash and indexes in them are no content.
_SYSTEM_FOLDERS = frozenset(
    {
        "$RECYCLE.BIN",
        ".DocumentRevisions-V100",
        ".Spotlight-V100",
        ".TemporaryItems",
        ".Trashes",
        ".fseventsd",
        "System Volume Information",
    }
)
_LITTER = frozenset({".ds_store", ".localized", "desktop.ini", "icon\r", "thumbs.db"})
_ESCAPE = re.compile("[\\\\\udc80-\udcff]")
_ESCAPED = re.compile(r"\\(\\|x[89a-f][0-9a-f])")


def escape(path: str) -> str:
    r"""Turn a file system path into valid Unicode, reversibly.

    A backslash becomes `\\`, and a byte that is not UTF-8 (a surrogate, PEP 383) `\xNN`.
    """
    if "\\" not in path and path.isascii():
        return path

    def replacement(match: re.Match[str]) -> str:
        char = match.group()
        return "\\\\" if char == "\\" else f"\\x{ord(char) - 0xDC00:02x}"

    return _ESCAPE.sub(replacement, path)


def unescape(locator: str) -> str:
    """Undo `escape`."""
    if "\\" not in locator:
        return locator

    def replacement(match: re.Match[str]) -> str:
        code = match.group(1)
        return "\\" if code == "\\" else chr(0xDC00 + int(code[1:], 16))

    return _ESCAPED.sub(replacement, locator)


def can_be_a_path(path: str) -> bool:
    """Say whether an unescaped locator can name a file, without leaving the root by `..`."""
    return "\0" not in path and ".." not in path.split("/")


def claim_by_name(name: str) -> Claim:
    """Judge a file name: OTHER for what is surely no instance, else DICOM until it is read.

    A DICOMDIR (PS3.10 section 8) lists instances and is none; `._*` are AppleDouble files.
    """
    low = name.lower()
    if low in _LITTER or low.startswith("._"):
        return Claim.OTHER
    if low.startswith("dicomdir") and low.partition(";")[0] == "dicomdir":
        return Claim.OTHER
    return Claim.DICOM


def fingerprint_of(status: os.stat_result) -> Fingerprint:
    """Take the fingerprint from what `stat` said."""
    return Fingerprint(status.st_size, status.st_mtime_ns, status.st_ino)


class LocalRoot:
    """The folder that everything of a source lies in, and whether it is still the same one.

    An unmounted volume leaves an empty folder, or none: files missing from it are not deleted.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None

    def check(self) -> None:
        """Raise SourceUnavailableError unless the root is a folder that can be listed."""
        hint = "Check the path, and that the volume is mounted."
        try:
            status = os.stat(self.path)  # noqa: PTH116  (undecodable names: plain strings)
            with os.scandir(self.path):
                pass
        except FileNotFoundError:
            message = "The source folder does not exist."
            raise SourceUnavailableError(message, hint=hint) from None
        except NotADirectoryError:
            message = "The source is not a folder."
            raise SourceUnavailableError(message, hint="Name a folder.") from None
        except PermissionError:
            raise SourceUnavailableError(
                "The source folder cannot be listed: permission denied.",
                hint="Grant read access (on macOS: Full Disk Access, in Privacy & Security).",
            ) from None
        except OSError as error:
            message = f"The source folder cannot be listed: {error.strerror}."
            raise SourceUnavailableError(message, hint=hint) from None
        self._identity = (status.st_dev, status.st_ino)

    def is_there(self) -> bool:
        """Say whether the root is still the folder that was checked."""
        try:
            status = os.stat(self.path)  # noqa: PTH116
        except OSError:
            return False
        return self._identity in {None, (status.st_dev, status.st_ino)}

    def ensure_there(self) -> None:
        """Raise SourceUnavailableError when the root went away."""
        if not self.is_there():
            raise SourceUnavailableError(
                "The source folder went away while it was being read.",
                hint="Check that the volume is mounted, then run again.",
            )


@dataclass(slots=True)
class FolderListing:
    """Names in one folder, sorted. Special files (FIFOs, sockets, devices) are left out."""

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    #: False when the folder could not be listed to its end.
    complete: bool = True


def list_folder(path: str) -> FolderListing | None:
    """List one folder without examining its files; None when it is gone."""
    listing = FolderListing()
    try:
        with os.scandir(path) as found:
            for entry in found:
                _sort_in(entry, listing)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        listing.complete = False
    for names in (listing.files, listing.folders, listing.links):
        names.sort()
    return listing


def walk(top: str) -> Iterator[tuple[str, FolderListing]]:
    """List `top` and every folder below it, depth first by name: (path relative to top, names).

    The relative path of `top` is empty. Memory is bounded by the largest folder and the depth.
    """
    waiting = [""]
    while waiting:
        relative = waiting.pop()
        listing = list_folder(os.path.join(top, relative) if relative else top)  # noqa: PTH118
        if listing is None:
            continue
        yield relative, listing
        waiting += [join(relative, name) for name in reversed(listing.folders)]


def join(relative: str, name: str) -> str:
    """Join a path relative to a root, which may be empty, and a name."""
    return f"{relative}/{name}" if relative else name


def examine_all(folder: str, locator: str, names: Iterable[str]) -> Iterator[InstanceEntry]:
    """Make the entries of files listed in one folder; those that are gone are left out.

    `locator` is the folder's own (empty for the root).
    """
    before_path = folder if folder.endswith("/") else f"{folder}/"
    before_locator = f"{locator}/" if locator else ""
    lstat = os.lstat
    for name in names:
        try:
            status = lstat(before_path + name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            fingerprint = NO_FINGERPRINT
        else:
            fingerprint = Fingerprint(status.st_size, status.st_mtime_ns, status.st_ino)
        yield InstanceEntry(before_locator + escape(name), fingerprint, claim_by_name(name))


def examine(locator: str, path: str) -> InstanceEntry | None:
    """Make the entry of a listed file (or folder that cannot be listed); None when it is gone."""
    try:
        fingerprint = fingerprint_of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        fingerprint = NO_FINGERPRINT
    return InstanceEntry(locator, fingerprint, claim_by_name(os.path.basename(path)))  # noqa: PTH119


def readable(entry: InstanceEntry, path: str, root: LocalRoot) -> InstanceFile | UnreadableEntry:
    """Open and examine the file once more: it must still be the one that was listed.

    A file missing from a root that went away is `unreadable`, not `vanished`.
    """
    try:
        # O_NONBLOCK: a FIFO that took the file's place must not hold us.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        if root.is_there():
            return _unreadable(entry, EntryVanishedError, "The file is gone.")
        return _unreadable(
            entry, EntryUnreadableError, "Its folder is missing, or its volume is not mounted."
        )
    except OSError as error:
        reason = f"It cannot be opened: {error.strerror}."
        return _unreadable(entry, EntryUnreadableError, reason)
    try:
        status = os.fstat(descriptor)
    except OSError as error:
        reason = f"It cannot be examined: {error.strerror}."
        return _unreadable(entry, EntryUnreadableError, reason)
    finally:
        os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        return _unreadable(entry, EntryUnreadableError, "The folder cannot be listed.")
    if not stat.S_ISREG(status.st_mode) or fingerprint_of(status) != entry.fingerprint:
        reason = "The file is not the one that was listed: being written, or replaced."
        return _unreadable(entry, EntryChangedError, reason)
    return InstanceFile(entry, Path(path))


def nameless(entry: InstanceEntry) -> UnreadableEntry:
    """Answer for a locator that cannot be the name of a file."""
    return _unreadable(entry, EntryUnreadableError, "No file belongs to this entry.")


def _sort_in(entry: os.DirEntry[str], listing: FolderListing) -> None:
    try:
        # Most are files: what is asked first answers for them.
        if entry.is_file(follow_symlinks=False):
            listing.files.append(entry.name)
        elif entry.is_dir(follow_symlinks=False):
            if entry.name not in _SYSTEM_FOLDERS:
                listing.folders.append(entry.name)
        elif entry.is_symlink():
            listing.links.append(entry.name)
    except OSError:
        # Its type is unknown: listed as a file, so that reading it can say why.
        listing.files.append(entry.name)


def _unreadable(
    entry: InstanceEntry, error: type[EntryUnreadableError], message: str
) -> UnreadableEntry:
    return UnreadableEntry(entry, error.code, message)
