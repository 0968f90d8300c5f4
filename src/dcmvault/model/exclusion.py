"""Studies that are not to be backed up, because somebody said so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A study that is left out of backups until somebody takes it in again."""

    study_instance_uid: str
    reason: str
    excluded_by: str
    #: Aware.
    excluded_at: datetime
