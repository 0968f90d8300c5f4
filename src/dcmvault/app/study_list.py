"""Lists of studies that somebody has in a file: Study Instance UIDs or accession numbers."""

from __future__ import annotations

import codecs
import csv
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.comparison import StudySummary
from dcmvault.model.identifiers import is_valid_uid

_LARGEST_FILE = 256 << 20
_MOST_NAMES = 2_000_000
_SEPARATORS = ";,\t"
#: How heads call the two columns, in small letters and digits alone.
_UID_HEADS = frozenset({"studyinstanceuid", "studyuid", "uid", "0020000d"})
_ACCESSION_HEADS = frozenset(
    {"accessionnumber", "accession", "accessionno", "numerodeacesso", "acesso", "00080050"}
)
#: What has fewer dots, and not more characters, may as well be an accession number (SH, PS3.5 6.2).
_DOTS_OF_A_UID = 3
_LONGEST_ACCESSION_NUMBER = 16
#: What spreadsheets, and our own reports, put around text that must not be calculated.
_AS_TEXT = re.compile(r'=?"?(.*?)"?\Z', re.DOTALL)


@dataclass(frozen=True, slots=True)
class StudyList:
    """Names of studies, each a Study Instance UID or an accession number."""

    names: frozenset[str]
    sha256: str = ""

    @property
    def uids(self) -> frozenset[str] | None:
        """The Study Instance UIDs, if all names certainly are some: peers are asked by them."""
        return self.names if all(map(_is_certainly_uid, self.names)) else None

    def names_of(self, study: StudySummary) -> frozenset[str]:
        """Return by which of the names a study is meant."""
        return self.names & {study.study_instance_uid, study.accession_number}


def read_study_list(path: Path) -> StudyList:
    """Read a CSV file: UTF-8 or UTF-16, any of the usual separators, with or without a head.

    Of several columns those count whose head says that they are, else the first. Raises
    UsageError for a file that cannot be read or names nothing.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UsageError(_("The list of studies is too large: %s") % path)
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            _("The list of studies cannot be read: %(path)s: %(reason)s")
            % {"path": path, "reason": error.strerror or type(error).__name__}
        ) from None
    names = frozenset(_names(_rows(_text(content))))
    if not names:
        raise UsageError(
            _("The list names no study: %s") % path,
            hint=_("Write one Study Instance UID or accession number in each line."),
        )
    if len(names) > _MOST_NAMES:
        raise UsageError(_("The list of studies is too large: %s") % path)
    return StudyList(names, hashlib.sha256(content).hexdigest())


def _text(content: bytes) -> str:
    for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        if content.startswith(mark):
            return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # a head may be in it; names are ASCII nearly always


def _rows(text: str) -> list[list[str]]:
    text = text.replace("\0", "")
    first = text.lstrip().partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    try:
        rows = list(csv.reader(text.splitlines(), delimiter=separator))
    except csv.Error:
        rows = [line.split(separator) for line in text.splitlines()]
    return [cells for row in rows if any(cells := [_plain(cell) for cell in row])]


def _plain(cell: str) -> str:
    found = _AS_TEXT.match(cell.strip().removeprefix("'"))
    return found[1].strip() if found else ""


def _names(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    if not rows:
        return
    heads = [re.sub("[^0-9a-z]", "", cell.casefold().replace("ú", "u")) for cell in rows[0]]
    columns = [number for number, head in enumerate(heads) if head in _UID_HEADS]
    columns += [number for number, head in enumerate(heads) if head in _ACCESSION_HEADS]
    if columns:
        rows = rows[1:]
    elif not is_valid_uid(rows[0][0]) and all(is_valid_uid(row[0]) for row in rows[1:]):
        rows = rows[1:] or rows  # a head in words that nobody foresaw
    for row in rows:
        cells = [row[number] for number in columns or [0] if number < len(row) and row[number]]
        yield from cells[:1]


def _is_certainly_uid(name: str) -> bool:
    is_long = name.count(".") >= _DOTS_OF_A_UID or len(name) > _LONGEST_ACCESSION_NUMBER
    return is_long and is_valid_uid(name)
