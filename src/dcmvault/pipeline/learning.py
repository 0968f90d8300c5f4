"""Learning: what people did to single studies moves the priority of studies like them.

Small and bounded: by one step at most, never to emergency, and not at all before there is history
enough. Every adjustment is counts that anybody can check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from dcmvault.model.classification import LearnedFeature, StudyFacts
from dcmvault.model.learning import Learned, LessonKind
from dcmvault.pipeline.whole_words import words_of

#: Studies that people must have moved or restored before anything is learned.
NEEDED_STUDIES = 10
#: So many more must have gone one way than the other to move studies that share a feature ...
_NEEDED_OF_FEATURE = 5
#: ... and the feature must be so much more frequent among them than among all studies.
_NEEDED_LIFT = 2.0
#: Words too short, or that every description has.
_SHORTEST_WORD = 3
_STOP_WORDS = frozenset(
    ["and", "for", "the", "with", "without", "com", "das", "dos", "para", "por", "sem", "uma"]
)
#: Features that are shown though they adjust nothing.
_SHOWN = 20

_Feature = tuple[str, str]
Lesson = tuple[StudyFacts, Mapping[LessonKind, datetime]]


def features_of(facts: StudyFacts) -> frozenset[_Feature]:
    """Return what a study may have in common with others: (kind, value)."""
    words = {word for text in facts.descriptions for word in words_of(text)}
    telling = {
        word
        for word in words
        if len(word) >= _SHORTEST_WORD and not word.isdecimal() and word not in _STOP_WORDS
    }
    return frozenset(
        [("modality", value.strip().upper()) for value in facts.modalities]
        + [("body_part", value.strip().upper()) for value in facts.body_parts]
        + [("station", value.strip()) for value in facts.stations]
        + [("word", word) for word in telling]
    )


def learn(lessons: Collection[Lesson], usual: Iterable[StudyFacts]) -> Learned:
    """Sum lessons up; `usual` are studies that show how frequent each feature is anyway."""
    times = [at for _facts, kinds in lessons for at in kinds.values()]
    counts: dict[LessonKind, Counter[_Feature]] = {kind: Counter() for kind in LessonKind}
    among_lessons: Counter[_Feature] = Counter()
    for facts, kinds in lessons:
        features = features_of(facts)
        among_lessons.update(features)
        for kind in kinds:
            counts[kind].update(features)
    among_all: Counter[_Feature] = Counter()
    total = 0
    for facts in usual:
        total += 1
        among_all.update(features_of(facts) & among_lessons.keys())
    enough = len(lessons) >= NEEDED_STUDIES
    found = []
    for feature, number in among_lessons.items():
        share, usual_share = number / len(lessons), among_all[feature] / max(total, 1)
        raised, lowered, restored = (
            counts[kind][feature]
            for kind in (LessonKind.RAISED, LessonKind.LOWERED, LessonKind.RESTORED)
        )
        net = raised + restored - lowered
        adjustment = 0
        if enough and abs(net) >= _NEEDED_OF_FEATURE and share >= _NEEDED_LIFT * usual_share:
            adjustment = 1 if net > 0 else -1
        found.append(
            LearnedFeature(*feature, raised, lowered, restored, share, usual_share, adjustment)
        )
    found.sort(key=lambda one: (not one.adjustment, -one.share, one.kind, one.value))
    adjusting = sum(bool(one.adjustment) for one in found)
    return Learned(
        studies=len(lessons),
        first_at=min(times, default=None),
        last_at=max(times, default=None),
        needed=NEEDED_STUDIES,
        features=tuple(found[: max(adjusting, _SHOWN)]),
    )


def adjustment_for(learned: Learned, facts: StudyFacts) -> tuple[tuple[LearnedFeature, ...], int]:
    """Return the features of a study that count, and by how much they move it together."""
    own = features_of(facts)
    counting = tuple(
        one for one in learned.features if one.adjustment and (one.kind, one.value) in own
    )
    net = sum(one.adjustment for one in counting)
    return counting, (net > 0) - (net < 0)
