"""Names of files in a library's sidecar, and which of them a study's report is."""

from __future__ import annotations

import hashlib
import os
import re
from enum import StrEnum

from dcmvault.sources.local_files import can_be_a_path

#: The folder of report files, inside the data folder.
REPORT_FOLDER = "REPORTS"
#: What the index may name outside the library: documents, and no other file of this machine.
_DOCUMENTS = frozenset(
    {".doc", ".docx", ".htm", ".html", ".odt", ".pages", ".pdf", ".rtf", ".rtfd", ".txt"}
)
#: What some system forbids in a file's name, what is not UTF-8, and the escape itself.
_UNSAFE = re.compile('[%\\\\<>:"|?*\x00-\x1f\x7f\ud800-\udfff]')


class ReportKind(StrEnum):
    """Where a study's report is, by ZREPORTURL."""

    #: A file (or a bundle, which is a folder) in the library's REPORTS folder.
    LIBRARY = "library"
    #: A document somewhere else on this machine.
    LINKED = "linked"
    #: An address: what it leads to is not in the sidecar.
    URL = "url"
    #: None of these: what it leads to is not in the sidecar.
    OTHER = "other"


def safe_name(path: str) -> str:
    """Make a relative path a name that every system takes, reversibly: RFC 3986 escapes (%25).

    A byte that is not UTF-8 (a surrogate, PEP 383) is escaped as the byte that it is.
    """
    return _UNSAFE.sub(
        lambda match: "".join(f"%{byte:02X}" for byte in os.fsencode(match.group())), path
    )


def describe_report(location: object, base: str, data: str) -> tuple[ReportKind, str]:
    """Say what a ZREPORTURL is, and the name that the file has in the sidecar if it is there.

    Judged by the text alone; no file is looked for.
    """
    if not isinstance(location, str):
        return ReportKind.OTHER, ""
    if location.lower().startswith(("http://", "https://")):
        return ReportKind.URL, ""
    if not can_be_a_path(location):
        return ReportKind.OTHER, ""
    for folder in (REPORT_FOLDER, f"{data}/{REPORT_FOLDER}", f"{base}/{REPORT_FOLDER}"):
        inside = os.path.normpath(location.removeprefix(f"{folder}/"))
        if location.startswith(f"{folder}/") and inside != ".":
            return ReportKind.LIBRARY, safe_name(f"reports/{inside.lstrip('/')}")
    suffix = os.path.splitext(location)[1].lower()  # noqa: PTH122  (undecodable names: strings)
    if location.startswith("/") and suffix in _DOCUMENTS:
        # Its folders are nobody's business, and its name need not be unique.
        digest = hashlib.sha256(os.fsencode(location)).hexdigest()
        return ReportKind.LINKED, f"linked-reports/{digest[:32]}{suffix}"
    return ReportKind.OTHER, ""
