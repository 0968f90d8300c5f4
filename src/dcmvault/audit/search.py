"""Lines of the journal that fit what is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dcmvault.audit.chain import Position, check
from dcmvault.model.journal import AuditQuery


def search(folder: Path, query: AuditQuery) -> Iterator[tuple[Mapping[str, Any], bytes]]:
    """Yield the lines that fit, oldest first: what each says, and its bytes."""
    for checked in check(folder, Position(1, 0, 0, "")):
        if checked.record is not None and query.fits(checked.record):
            yield checked.record, checked.line.raw
