"""Lines of the audit journal, and what checking it found, in words and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dcmvault.i18n import gettext as _
from dcmvault.model.journal import Break, Finding
from dcmvault.reports.escaping import spreadsheet_cell

#: For programs, and the same in every language.
COLUMNS = (
    "number",
    "time",
    "event",
    "outcome",
    "actor",
    "actor_kind",
    "actor_address",
    "place",
    "details",
    "study_instance_uids",
)


def finding_sentence(finding: Finding) -> str:
    """Say what is wrong with the chain at a line."""
    sentences = {
        Break.CHANGED: _("%(file)s, line %(row)s: this line or the one before it was changed."),
        Break.MISSING: _(
            "%(file)s, before line %(row)s: lines number %(seq)s to %(last)s are missing."
        ),
        Break.ORDER: _("%(file)s, line %(row)s: number %(seq)s is out of order, or there twice."),
        Break.UNREADABLE: _("%(file)s, line %(row)s: this is no line of the journal."),
        Break.CUT: _("The end is missing: lines number %(seq)s to %(last)s were there."),
        Break.HEAD: _(
            "%(file)s, line %(row)s: the remembered head is another line number %(seq)s."
        ),
        Break.HEAD_LOST: _("The head is not there that remembers where the journal ends."),
    }
    return sentences[finding.kind] % {
        "file": finding.file,
        "row": finding.row,
        "seq": finding.seq,
        "last": finding.last or finding.seq,
    }


def journal_csv(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Write lines as CSV (RFC 4180), one by one; no cell is a formula to a spreadsheet."""
    yield _row(COLUMNS)
    for record in records:
        actor = record.get("actor", {})
        yield _row(
            (
                record.get("seq", ""),
                record.get("at", ""),
                record["event"],
                record.get("outcome", ""),
                actor.get("name", ""),
                actor.get("kind", ""),
                actor.get("address", ""),
                record.get("place", ""),
                "; ".join(f"{name}={value}" for name, value in record.get("details", {}).items()),
                " ".join(record.get("study_instance_uids", ())),
            )
        )


def _row(cells: Iterable[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow([spreadsheet_cell(str(cell)) for cell in cells])
    return buffer.getvalue()
