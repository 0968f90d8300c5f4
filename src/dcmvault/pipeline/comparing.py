"""Comparing two sides, study after study: deeper where that is asked for, or where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dcmvault.model.comparison import Depth, HeldStudy, StudyComparison, StudySummary, Verdict
from dcmvault.pipeline.comparison import compare_study, counts_agree, paired
from dcmvault.pipeline.sides import Side


@dataclass(frozen=True, slots=True)
class Comparing:
    """Compares A with B. `is_wanted` says of a study whether it is to be looked at."""

    a: Side
    b: Side
    depth: Depth
    is_wanted: Callable[[StudySummary], bool]

    def studies(self) -> Iterator[StudyComparison]:
        """Yield what is true of each study that one side has at least, by UID.

        What a peer's lists lack is asked for by UID before it counts as missing. Counts that
        differ are explained by instances. Raises SourceUnavailableError.
        """
        for uid, a, b in paired(self.a.studies(), self.b.studies()):
            if any(held is not None and self.is_wanted(held.summary) for held in (a, b)):
                yield self._compare(uid, a, b)

    def _compare(self, uid: str, a: HeldStudy | None, b: HeldStudy | None) -> StudyComparison:
        a = self.a.look(uid) if a is None else a
        b = self.b.look(uid) if b is None else b
        if a is None or b is None:
            return compare_study(uid, self._alone(self.a, a), self._alone(self.b, b))
        may_count = self.depth is Depth.STUDY and (a.series is None or b.series is None)
        if may_count and counts_agree(a.summary, b.summary):
            return compare_study(uid, a, b)
        a, b = self._listed(self.a, a), self._listed(self.b, b)
        found = compare_study(uid, a, b)
        if found.verdict is not Verdict.DIFFERENT:
            return found
        only_a = {one.series_instance_uid: one.only_a for one in found.series if one.only_a}
        only_b = {one.series_instance_uid: one.only_b for one in found.series if one.only_b}
        if only_a:
            b = self.b.having(b, only_a)
        if only_b:
            a = self.a.having(a, only_b)
        return compare_study(uid, a, b)

    def _alone(self, side: Side, held: HeldStudy | None) -> HeldStudy | None:
        """List what only one side has, where that was asked for or nothing else counts it."""
        if held is None or (self.depth is Depth.STUDY and held.summary.instances is not None):
            return held
        return self._listed(side, held)

    @staticmethod
    def _listed(side: Side, held: HeldStudy) -> HeldStudy:
        return side.listed(held) if held.series is None else held
