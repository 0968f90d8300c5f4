"""Files that belong to a source as a whole: what its index alone knows, and the index itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


def is_sidecar_name(name: str) -> bool:
    """Say whether a name is a relative POSIX path that stays below its root on every system.

    Valid Unicode; no empty part, `.` or `..`; no backslash, no control character.
    """
    return (
        all(part not in {"", ".", ".."} for part in name.split("/"))
        and not any(char == "\\" or ord(char) < 0x20 or ord(char) == 0x7F for char in name)
        and not any(0xD800 <= ord(char) <= 0xDFFF for char in name)
    )


@dataclass(frozen=True, slots=True)
class SidecarFile:
    """One file of a sidecar: `path` holds exactly `size` bytes while it is in hand.

    `name` is unique in the sidecar (see `is_sidecar_name`). Names and contents are patient data:
    they are stored where copies of studies are, and never logged.
    """

    name: str
    path: Path
    size: int  #: bytes


@dataclass(frozen=True, slots=True)
class UnreadableSidecar:
    """A file (or folder) of a sidecar that could not be read, and so is not in it.

    `code` as in the error tree; `message` is one sentence without names or paths.
    """

    name: str
    code: str
    message: str
