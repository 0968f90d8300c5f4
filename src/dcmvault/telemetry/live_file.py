"""The figures of now in a small file, which who works writes and others read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from dcmvault.model.alert import Subject, SubjectKind
from dcmvault.model.sample import Figure, Sample

FILE_NAME = "live.json"
#: Figures that are older say nothing of now: who wrote them is gone, or asleep.
FRESH = timedelta(seconds=5)
#: No file of ours is longer.
_LONGEST = 4 << 20


@dataclass(frozen=True, slots=True)
class Live:
    """What the process that works says of itself."""

    at: datetime
    process: int
    started_at: datetime
    samples: Sequence[Sample] = ()
    #: Bytes that went to each destination since that process began.
    moved: Mapping[str, int] = field(default_factory=dict)

    def is_fresh(self, now: datetime) -> bool:
        """Say whether these are figures of now."""
        return -FRESH <= now - self.at <= FRESH


def write_live(folder: Path, live: Live) -> None:
    """Write the file (mode 0600) in one piece; OSError as it comes. Not durable: it is soon old."""
    path = folder / FILE_NAME
    fresh = folder / f".{FILE_NAME}.{live.process}"
    text = json.dumps(
        {
            "at": live.at.isoformat(),
            "process": live.process,
            "started_at": live.started_at.isoformat(),
            "samples": [
                {
                    "at": sample.at.isoformat(),
                    "kind": sample.subject.kind.value,
                    "subject": sample.subject.name,
                    "figures": {name.value: value for name, value in sample.figures.items()},
                }
                for sample in live.samples
            ],
            "moved": live.moved,
        }
    )
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def remove_live(folder: Path) -> None:
    """Remove the file: nobody works any more."""
    with suppress(OSError):
        (folder / FILE_NAME).unlink()


def read_live(folder: Path) -> Live | None:
    """Read the file; None where there is none, or none that can be read."""
    try:
        with (folder / FILE_NAME).open("rb") as file:
            content = json.loads(file.read(_LONGEST))
        return Live(
            datetime.fromisoformat(content["at"]),
            int(content["process"]),
            datetime.fromisoformat(content["started_at"]),
            [
                Sample(
                    datetime.fromisoformat(one["at"]),
                    Subject(SubjectKind(one["kind"]), one["subject"]),
                    {Figure(name): float(value) for name, value in one["figures"].items()},
                )
                for one in content["samples"]
            ],
            {str(name): int(size) for name, size in content["moved"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
