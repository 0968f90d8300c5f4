"""What people do to single studies is written down, for priorities to learn from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.workplace import known_catalogue
from dcmvault.config.settings import Settings
from dcmvault.errors import StateError
from dcmvault.model.learning import LessonKind

#: A restore of more is no word about single studies.
_SINGLE_STUDIES = 50


def note_restored(home: Path, settings: Settings, studies: Collection[str]) -> None:
    """Write down that studies were asked for and restored; no catalogue is made for that.

    What cannot be written down is left: a restore does not need the catalogue.
    """
    if not 0 < len(studies) <= _SINGLE_STUDIES:
        return
    try:
        with known_catalogue(home, settings) as catalogue:
            if catalogue is not None:
                now = SystemClock().now()
                catalogue.lessons.record_lesson(LessonKind.RESTORED, studies, now)
    except StateError:
        return
