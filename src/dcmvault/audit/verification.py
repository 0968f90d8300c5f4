"""Is the journal whole? Every line is held against the next one, and the end against the head."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dcmvault.audit.chain import Checked, Position, check, file_name, file_numbers, read_head
from dcmvault.model.audit import AuditKind
from dcmvault.model.journal import Break, Finding, JournalVerdict, KeptHead

#: Breaks that are listed; where a journal was rewritten, all its lines may be wrong.
_MOST_FINDINGS = 1000


def verify(folder: Path, kept: KeptHead | None = None) -> JournalVerdict:
    """Read the whole journal; `kept` is a head that was kept elsewhere. OSError as it comes."""
    verdict = JournalVerdict(files=len(file_numbers(folder)))
    head = read_head(folder)
    seen: set[int] = set()
    end: Checked | None = None
    for end in check(folder):
        verdict.findings += _at_line(end, head, kept, seen)
        if end.record is not None:
            verdict.lines += 1
            verdict.mended += end.record["event"] == AuditKind.JOURNAL_MENDED
            verdict.last = KeptHead(end.record["seq"], end.line.sha256)
        del verdict.findings[_MOST_FINDINGS:]
    verdict.findings += _at_end(verdict, head, kept, seen)
    return verdict


def _at_line(
    checked: Checked, head: Position | None, kept: KeptHead | None, seen: set[int]
) -> Iterator[Finding]:
    yield from checked.findings
    if checked.record is None:
        return
    seq, line = checked.record["seq"], checked.line
    for one in (head, kept):
        if one is not None and one.seq == seq:
            seen.add(seq)
            if one.sha256 != line.sha256:
                yield Finding(Break.HEAD, file_name(line.number), line.row, seq)


def _at_end(
    verdict: JournalVerdict, head: Position | None, kept: KeptHead | None, seen: set[int]
) -> Iterator[Finding]:
    last = verdict.last.seq if verdict.last else 0
    if head is None and (verdict.lines or verdict.files):
        yield Finding(Break.HEAD_LOST, "", 0, last)
    for one in (head, kept):
        if one is not None and one.seq not in seen:
            yield Finding(Break.CUT, "", 0, min(last + 1, one.seq), one.seq)
