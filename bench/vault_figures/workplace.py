"""Where a measurement works, and what it was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Workplace:
    """A temporary folder with the corpus in it, and the options."""

    folder: Path
    corpus: Path
    #: How often what is timed is repeated, by turns.
    runs: int
    #: Copies of the corpus in the larger one; 0: as many as keep restic busy for nine seconds.
    scale: int
    instances: int
    giant_bytes: int

    def place(self, name: str) -> Path:
        """Return a folder for a contender or a generated corpus."""
        return self.folder / name
