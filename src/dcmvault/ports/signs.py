"""Signs that a source is being spoilt: what changed or went since it was last believed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dcmvault.model.identifiers import SourceId


@dataclass(frozen=True, slots=True)
class SourceSigns:
    """What happened to what a source had, summed over passes; what is new counts for nothing."""

    #: Instances that were listed before.
    known: int = 0
    #: Of those, how many hold something new now, and how many of these are no DICOM any more.
    changed: int = 0
    spoilt: int = 0
    #: And how many are not listed any more, under whatever name.
    gone: int = 0


@dataclass(frozen=True, slots=True)
class HeldSource:
    """A source whose backups are held, by its address, and since when."""

    source_id: SourceId
    name: str
    held_at: datetime
    signs: SourceSigns


class SignBook(Protocol):
    """Remembers signs: no pass is needed to ask, and one that only looked counts like others."""

    def signs(self, source_id: SourceId) -> SourceSigns:
        """Return what happened since the source was last believed."""
        ...

    def hold(self, source_id: SourceId, at: datetime) -> None:
        """Note that backups of the source are held, since then or earlier."""
        ...

    def lately(self, source_id: SourceId, since: datetime) -> SourceSigns:
        """Add what was believed since then to what happened since the source was last believed.

        What is gone counts only since then: archives are cleared out bit by bit.
        """
        ...

    def believe(self, source_id: SourceId, at: datetime, since: datetime) -> None:
        """Take the source as it is, and hold nothing; what was believed `since` is remembered."""
        ...

    def doubt(self, source_id: SourceId, since: datetime) -> None:
        """Take back what was believed since then: it is among the signs again."""
        ...

    def accept(self, source_id: SourceId) -> None:
        """Take the source as it is, for good: nothing happened to it, and nothing is held."""
        ...

    def held(self) -> list[HeldSource]:
        """List the sources whose backups are held."""
        ...
