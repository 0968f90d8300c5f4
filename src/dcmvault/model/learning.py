"""Lessons: what people did to single studies, from which priorities learn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dcmvault.model.classification import LearnedFeature


class LessonKind(StrEnum):
    """What somebody did."""

    #: Moved forward in a queue.
    RAISED = "raised"
    #: Moved back in a queue.
    LOWERED = "lowered"
    #: Restored a study that was asked for by name.
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class Learned:
    """What all lessons together come to. Without `is_enough` nothing is adjusted by it."""

    #: Studies that lessons are about, and when the first and the last was given.
    studies: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    #: Fewer are too little to learn from.
    needed: int = 0
    #: Those that adjust, and those that come near, strongest first.
    features: tuple[LearnedFeature, ...] = ()

    @property
    def is_enough(self) -> bool:
        """Whether there is history enough."""
        return self.studies >= self.needed > 0
