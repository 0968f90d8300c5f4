"""A sample of studies, read back from both sides and compared: files, data sets, pixels."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dcmvault.dicom.comparison import Comparison, Likeness, compare
from dcmvault.dicom.digest import file_sha256
from dcmvault.dicom.part10 import scan
from dcmvault.errors import MalformedDicomError
from dcmvault.model.certificate import SampledStudy
from dcmvault.model.comparison import StudyComparison, Verdict
from dcmvault.model.instance import InstanceEntry, InstanceFile, UnreadableEntry
from dcmvault.pipeline.sides import Side
from dcmvault.ports.source import Source

#: Instances that are read from both sides in one stretch.
_AT_ONCE = 200
#: Instances whose differences are named, of one study; how many there are is told in any case.
_MOST_REASONS = 20

#: Is told how many studies were read, and of how many.
Progress = Callable[[int, int], None]


def choose(studies: Iterable[StudyComparison], count: int, seed: str) -> list[str]:
    """Choose studies that both sides have, at random, and so that anybody can choose them again.

    They are the `count` ones whose SHA-256 of `SEED:STUDY_INSTANCE_UID` is smallest.
    """
    there = (Verdict.SAME, Verdict.DIFFERENT)
    candidates = (one.study_instance_uid for one in studies if one.verdict in there)
    return heapq.nsmallest(count, candidates, key=lambda uid: _place(uid, seed))


def _place(uid: str, seed: str) -> bytes:
    return hashlib.sha256(f"{seed}:{uid}".encode("utf-8", "replace")).digest()


@dataclass(frozen=True, slots=True)
class ContentSample:
    """Reads what both sides have of a study and compares it, instance by instance.

    `coerced` are tags of attributes that one of the sides may have written itself.
    """

    sides: tuple[Side, Side]
    sources: tuple[Source, Source]
    coerced: frozenset[int] = frozenset()

    def read(self, uids: Collection[str], progress: Progress) -> Iterator[SampledStudy]:
        """Yield what was found of each study, in the order of `uids`."""
        known = [self._entries(side, uids) for side in self.sides]
        for number, uid in enumerate(uids):
            progress(number, len(uids))
            yield self._study(uid, known[0].get(uid, {}), known[1].get(uid, {}))
        progress(len(uids), len(uids))

    def _entries(
        self, side: Side, uids: Collection[str]
    ) -> Mapping[str, dict[str, list[InstanceEntry]]]:
        """Gather the entries of the sampled studies, by study and SOP Instance UID."""
        found: dict[str, dict[str, list[InstanceEntry]]] = {}
        for uid, entry in side.entries(frozenset(uids)):
            sop_uid = entry.expected_sop_instance_uid
            found.setdefault(uid, {}).setdefault(sop_uid, []).append(entry)
        return found

    def _study(
        self, uid: str, a: Mapping[str, list[InstanceEntry]], b: Mapping[str, list[InstanceEntry]]
    ) -> SampledStudy:
        result = _Result(uid)
        in_both = sorted(a.keys() & b.keys())
        result.missing_in_b = len(a.keys() - b.keys())
        result.extra_in_b = len(b.keys() - a.keys())
        single = [sop_uid for sop_uid in in_both if len(a[sop_uid]) == len(b[sop_uid]) == 1]
        for start in range(0, len(single), _AT_ONCE):
            some = single[start : start + _AT_ONCE]
            self._compare(
                [a[sop_uid][0] for sop_uid in some], [b[sop_uid][0] for sop_uid in some], result
            )
        for sop_uid in sorted(set(in_both).difference(single)):
            for entry in a[sop_uid]:
                self._find(entry, b[sop_uid], result)
        return result.done()

    def _find(self, entry: InstanceEntry, among: Sequence[InstanceEntry], result: _Result) -> None:
        """Look for one of several files under a UID: B may have them in another order, or not."""
        attempt = _Result(result.uid)
        for other in among:
            attempt = _Result(result.uid)
            self._compare([entry], [other], attempt)
            if not attempt.reasons:
                break
        result.add(attempt)

    def _compare(self, a: list[InstanceEntry], b: list[InstanceEntry], result: _Result) -> None:
        first, second = self.sources
        for one, other in zip(first.read(a), second.read(b), strict=True):
            sop_uid = one.entry.expected_sop_instance_uid
            if isinstance(one, UnreadableEntry) or isinstance(other, UnreadableEntry):
                answers = (("A", one), ("B", other))
                for name, answer in answers:
                    if isinstance(answer, UnreadableEntry):
                        result.fail("unreadable", f"{sop_uid}: in {name}: {answer.message}")
                        break
            else:
                self._compare_files(sop_uid, one, other, result)

    def _compare_files(
        self, sop_uid: str, one: InstanceFile, other: InstanceFile, result: _Result
    ) -> None:
        try:
            if file_sha256(one.path) == file_sha256(other.path):
                result.counts["identical"] += 1
                return
            if scan(other.path).sop_instance_uid != sop_uid:
                result.fail("different", f"{sop_uid}: B gives another instance")
                return
            with other.path.open("rb") as file:
                found = compare(one.path, file.fileno(), self.coerced)
        except (OSError, MalformedDicomError) as error:
            reason = error.message if isinstance(error, MalformedDicomError) else error.strerror
            result.fail("unreadable", f"{sop_uid}: {reason}")
            return
        result.judge(sop_uid, found)


@dataclass(slots=True)
class _Result:
    """What was found of one study so far."""

    uid: str
    missing_in_b: int = 0
    extra_in_b: int = 0
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("identical", "equal", "transcoded", "coerced", "different", "unreadable"), 0
        )
    )
    reasons: list[str] = field(default_factory=list)
    coercions: set[str] = field(default_factory=set)

    def fail(self, kind: str, reason: str) -> None:
        self.counts[kind] += 1
        if len(self.reasons) < _MOST_REASONS:
            self.reasons.append(reason)

    def add(self, other: _Result) -> None:
        for kind, count in other.counts.items():
            self.counts[kind] += count
        self.reasons += other.reasons[: _MOST_REASONS - len(self.reasons)]
        self.coercions |= other.coercions

    def judge(self, sop_uid: str, found: Comparison) -> None:
        if found.likeness is Likeness.DIFFERENT:
            self.fail("different", f"{sop_uid}: {', '.join(found.differences)}")
            return
        self.counts[found.likeness.value] += 1
        self.coercions.update(one.attribute for one in found.coercions)

    def done(self) -> SampledStudy:
        return SampledStudy(
            self.uid,
            **self.counts,
            missing_in_b=self.missing_in_b,
            extra_in_b=self.extra_in_b,
            coerced_attributes=tuple(sorted(self.coercions)),
            reasons=tuple(self.reasons),
        )
