"""Which studies to verify again: those whose evidence is oldest, before others."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from datetime import datetime, timedelta

from dcmvault.model.plan import Sample
from dcmvault.ports.reverification import StudyAge


def choose_oldest(ages: Iterable[StudyAge], sample: Sample, now: datetime) -> tuple[int, ...]:
    """Return the keys of the studies to verify, ascending; each is verified whole.

    What was never looked at comes first, then what was looked at longest ago; between equals the
    lower key. A time later than now is that of a wrong clock, and counts as never. A share is one
    of all studies, at least one of them, and of parts of a study it is the whole. An age leaves
    out what is younger.
    """
    before = None if not sample.older_than_s else now - timedelta(seconds=sample.older_than_s)
    total = 0
    candidates: list[tuple[float, int]] = []
    for age in ages:
        total += 1
        looked_at = age.looked_at
        if looked_at is not None and looked_at > now:
            looked_at = None
        if before is None or looked_at is None or looked_at < before:
            rank = float("-inf") if looked_at is None else looked_at.timestamp()
            candidates.append((rank, age.study_key))
    most = len(candidates)
    if sample.share:
        most = min(most, math.ceil(total * sample.share))
    if sample.studies:
        most = min(most, sample.studies)
    return tuple(sorted(key for _at, key in heapq.nsmallest(most, candidates)))
