"""Accesses as JSON lines, one file a month, for nobody else's eyes."""

from __future__ import annotations

import json
import logging
import os
import threading
from dataclasses import asdict
from pathlib import Path

from dcmvault.model.access import Access

_log = logging.getLogger(__name__)

#: UIDs of one kind in a line; their number is told where there are more.
_MOST_UIDS = 1000


class AccessLog:
    """An AccessJournal in a folder: `access-YYYY-MM.jsonl`, mode 0600, one line for each access.

    A line is written by one call, so that several processes may share the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def record(self, access: Access) -> None:
        """Append a line."""
        line = json.dumps(_document(access), separators=(",", ":")).encode() + b"\n"
        path = self._folder / f"access-{access.at:%Y-%m}.jsonl"
        try:
            with self._lock:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                descriptor = os.open(path, flags, 0o600)
                try:
                    os.write(descriptor, line)
                finally:
                    os.close(descriptor)
        except OSError as error:
            _log.error("an access could not be written down: %s", error.strerror)


def _document(access: Access) -> dict[str, object]:
    """Return what a line says: what is empty is left out."""
    told: dict[str, object] = {"at": access.at.isoformat()}
    for name, value in asdict(access).items():
        if name == "at" or not value:
            continue
        if isinstance(value, tuple) and len(value) > _MOST_UIDS:
            told[f"{name}_count"] = len(value)
            value = value[:_MOST_UIDS]
        told[name] = round(value, 3) if isinstance(value, float) else value
    return told
