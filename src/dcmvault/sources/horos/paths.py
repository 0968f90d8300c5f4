"""Where a library keeps its files: the data folder, and the file that a row of the index means."""

from __future__ import annotations

import os
import re

from dcmvault.errors import SourceUnavailableError
from dcmvault.sources.local_files import can_be_a_path

#: The folder of the application's own files, inside the data folder.
DATABASE_FOLDER = "DATABASE.noindex"
#: Legacy regions of interest: DICOM SR files, often without a row in the index.
ROI_FOLDER = "ROIs"
#: An optional text file: the data folders lie elsewhere.
REDIRECT_FILE = "DBFOLDER_LOCATION"

#: At most as many digits as SQLite's integers have.
_NUMBERED = re.compile(rf"{re.escape(DATABASE_FOLDER)}/[0-9]{{1,19}}/([0-9]{{1,18}})\.dcm")
_NUMBERED_FOLDER = re.compile(rf"{re.escape(DATABASE_FOLDER)}/([1-9][0-9]{{0,17}})")
_LEADING_NUMBER = re.compile(r"\s*([0-9]+)")


def data_folder(base: str) -> str:
    """Find the folder that holds DATABASE.noindex, following DBFOLDER_LOCATION.

    The location may name the data folder itself, or the folder that it lies in.
    Raises SourceUnavailableError when the library's files are not there (unmounted volume).
    """
    try:
        with open(os.path.join(base, REDIRECT_FILE), "rb") as file:  # noqa: PTH118, PTH123
            location = os.fsdecode(file.read(65_536).strip(b"\r\n\0 "))
    except OSError:
        location = ""
    if not location:
        candidates = [base]
    else:
        place = os.path.join(base, os.path.expanduser(location))  # noqa: PTH111, PTH118
        candidates = [place, os.path.join(place, os.path.basename(base))]  # noqa: PTH118, PTH119
    for candidate in candidates:
        if os.path.isdir(os.path.join(candidate, DATABASE_FOLDER)):  # noqa: PTH112, PTH118
            return os.path.realpath(candidate)
    if location:
        raise SourceUnavailableError(
            "The library keeps its files elsewhere (DBFOLDER_LOCATION), and they are not there.",
            hint="Mount the volume that holds the library's files.",
        )
    raise SourceUnavailableError(
        "The library has no readable DATABASE.noindex folder.",
        hint="Check that the volume is mounted, and may be read (on macOS: Full Disk Access).",
    )


def file_of_row(number: object, text: object, folder_size: int) -> str:
    """Say which file a row means: a path relative to the data folder, or an absolute one.

    `number` is ZPATHNUMBER, `text` is ZPATHSTRING. A number, or a relative text by the number
    that it begins with, decides the sub-folder: 9999.dcm lies in 10000, 10000.dcm in 20000.
    Empty when the row names no file.
    """
    if isinstance(number, int):
        relative = f"{number}.dcm"
    elif isinstance(text, str) and text:
        relative = text
    else:
        return ""
    if not can_be_a_path(relative):
        return ""
    if relative.startswith("/"):
        return relative
    match = _LEADING_NUMBER.match(relative)
    leading = int(match.group(1)) if match else 0
    return f"{DATABASE_FOLDER}/{(leading // folder_size + 1) * folder_size}/{relative}"


def numbered_file(number: int, folder_size: int) -> str:
    """Say where the file with this ZPATHNUMBER (not negative) lies, relative to the data folder."""
    return f"{DATABASE_FOLDER}/{(number // folder_size + 1) * folder_size}/{number}.dcm"


def number_of_file(locator: str, folder_size: int) -> int | None:
    """Return the number of a file that `numbered_file` names; None for any other."""
    match = _NUMBERED.fullmatch(locator)
    if match is None:
        return None
    number = int(match.group(1))
    return number if numbered_file(number, folder_size) == locator else None


def numbers_in(folder: str, folder_size: int) -> tuple[tuple[int, int], ...]:
    """Return the first and last number of files that `numbered_file` puts in a folder, if any."""
    match = _NUMBERED_FOLDER.fullmatch(folder)
    if match is None:
        return ()
    end = int(match.group(1))
    return () if end % folder_size or not end else ((end - folder_size, end - 1),)
