"""Names of restored files: what a locator becomes below the folder, so that nothing leaves it.

A locator is the source's own name of a file, and may say anything. Here it is a path of safe
parts, its escapes (format page, 8) undone; where two different files would get one path, all but
the newest get `~2`, `~3` ...
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dcmvault.app.hashed_keys import HashedKeys
from dcmvault.model.restored import Parts

#: Folder for what a source holds beside its files.
LIBRARY_FOLDER = "_library"
#: Files on their way lie here; it is removed at the end, and emptied at the next start.
UNFINISHED_FOLDER = ".dcmvault-restore"
#: Most file systems allow 255 bytes for a name; "~2" may come.
_LONGEST_PART = 240

#: A backslash, or a byte that is no UTF-8, as locators have them.
_ESCAPED = re.compile(r"\\(\\|x[89a-f][0-9a-f])")
_DRIVES = re.compile(r"^([A-Za-z]:)+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
#: Names that Windows takes for devices, whatever the suffix (Naming Files, Paths, Namespaces);
#: and our own folder.
_RESERVED = re.compile(
    rf"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|$)|{re.escape(UNFINISHED_FOLDER)}$",
    re.IGNORECASE,
)


def safe_parts(locator: str) -> Parts:
    """Return the path that a locator becomes: never empty, no part that leads elsewhere."""
    parts = []
    for part in locator.split("/"):
        name = _CONTROLS.sub("_", _DRIVES.sub("", _ESCAPED.sub(_unescaped, part)))
        if reserved := _RESERVED.match(name):
            name = f"{reserved[0]}_{name[reserved.end() :]}"
        try:
            raw = os.fsencode(name)
        except UnicodeEncodeError:
            raw = name.encode("utf-8", "replace")
        if len(raw) > _LONGEST_PART:
            raw = raw[: _LONGEST_PART // 2] + raw[-_LONGEST_PART // 2 :]
        if raw not in {b"", b".", b".."}:
            parts.append(os.fsdecode(raw))
    return tuple(parts) or ("file",)


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    return code if code == "\\" else chr(0xDC00 + int(code[1:], 16))


def source_folders(sources: Iterable[str]) -> dict[str, str]:
    """Name a folder for each source: its number, and the last part of its address."""
    return {
        source: f"{number}-{safe_parts(source)[-1]}"
        for number, source in enumerate(sorted(sources), 1)
    }


@dataclass(slots=True)
class PathRegister:
    """Finds paths that several files would get. First every file is noted, then names are given.

    Memory is 8 bytes for a file, and what the paths that are shared need.
    """

    #: Whether the file system takes names for equal that differ in case only.
    folds_case: bool
    _files: HashedKeys = field(default_factory=HashedKeys)
    #: Hashes of all folders above files.
    _folders: set[int] = field(default_factory=set)
    #: Hashes of paths that several files would get, or a file and a folder.
    _shared: set[int] = field(default_factory=set)
    #: By path: (newer is greater, SHA-256) of each file that would get it.
    _contenders: dict[Parts, set[tuple[str, bytes]]] = field(default_factory=dict)
    _numbers: dict[Parts, Mapping[bytes, int]] = field(default_factory=dict)

    def note(self, parts: Parts) -> None:
        """Take up the path of one file."""
        folded = self._fold(parts)
        self._files.note(folded)
        while (folded := folded[:-1]) and (key := hash(folded)) not in self._folders:
            self._folders.add(key)

    def close(self) -> bool:
        """End the noting; say whether any path may be shared, so that `contend` is needed."""
        self._files.close()
        self._shared = {key for key in self._folders if self._files.has_hash(key)}
        self._shared |= self._files.repeated
        return bool(self._shared)

    def contend(self, parts: Parts, stored_at: str, sha256: bytes) -> None:
        """Take up a file again, if its path may be shared."""
        folded = self._fold(parts)
        if hash(folded) in self._shared:
            self._contenders.setdefault(folded, set()).add((stored_at, sha256))

    def place(self, parts: Parts, sha256: bytes) -> Parts:
        """Return the path that a file gets; equal content under one path gets one file."""
        if not self._shared:
            return parts
        folded = self._fold(parts)
        if hash(folded) not in self._shared:
            return parts
        if folded not in self._numbers:
            self._numbers[folded] = self._count(folded)
        return numbered(parts, self._numbers[folded][sha256])

    def _count(self, folded: Parts) -> Mapping[bytes, int]:
        """Give numbers to the files of one path: 1 to the newest, unless a folder has the name."""
        newest_first = sorted(self._contenders[folded], reverse=True)
        numbers: dict[bytes, int] = {}
        number = 1
        for _stored_at, sha256 in newest_first:
            if sha256 in numbers:
                continue
            while self._is_taken(numbered(folded, number), first=number == 1):
                number += 1
            numbers[sha256] = number
            number += 1
        return numbers

    def _is_taken(self, folded: Parts, *, first: bool) -> bool:
        key = hash(folded)
        return key in self._folders or (not first and self._files.has_hash(key))

    def _fold(self, parts: Parts) -> Parts:
        if not self.folds_case:
            return parts
        return tuple(unicodedata.normalize("NFC", part).casefold() for part in parts)


def numbered(parts: Parts, number: int) -> Parts:
    """Return a path with `~number` before its suffix; 1 leaves it as it is."""
    if number == 1:
        return parts
    stem, dot, suffix = parts[-1].rpartition(".")
    stem, suffix = (stem, dot + suffix) if stem else (parts[-1], "")
    return (*parts[:-1], f"{stem}~{number}{suffix}")
