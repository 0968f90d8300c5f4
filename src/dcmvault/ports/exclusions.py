"""Studies that are left out of backups by somebody's word."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from dcmvault.model.exclusion import Exclusion
from dcmvault.model.identifiers import SourceId
from dcmvault.model.selection import EVERYTHING, Selection


class ExclusionBook(Protocol):
    """Keeps which studies are not to be backed up. What plans due work leaves them out."""

    def exclude(self, exclusions: Sequence[Exclusion]) -> int:
        """Leave studies out from now on; return how many were not left out before.

        Those that are stay as they are. They need not be known yet.
        """
        ...

    def include(self, study_uids: Collection[str]) -> int:
        """Take studies in again; return how many were left out."""
        ...

    def exclusions(self, *, after: str = "", limit: int = 1000) -> Sequence[Exclusion]:
        """List some, by UID, behind one of them."""
        ...

    def exclusion(self, study_instance_uid: str) -> Exclusion | None:
        """Return why a study is left out; None where it is not."""
        ...

    def excluded_among(self, study_uids: Collection[str]) -> int:
        """Count those of these studies that are left out."""
        ...

    def left_out(self, source_id: SourceId, selection: Selection = EVERYTHING) -> int:
        """Count the studies that a source has now, and that are meant but left out."""
        ...
