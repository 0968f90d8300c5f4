"""Classification: what is known of a study, the rules about it, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from dcmvault.model.identifiers import DestinationId
from dcmvault.model.job import Priority


class StudyMarks(NamedTuple):
    """What a viewer's index says of a study, beside what its files say."""

    locked: bool = False
    in_album: bool = False
    #: Place in the order in which the viewer's auto-clean would delete studies, from 0; None for
    #: what it spares, or where nobody deletes by itself.
    auto_clean_rank: int | None = None
    #: How many studies the auto-clean may delete in all.
    auto_clean_of: int = 0
    #: When the study was made, for an index that knows it better than the catalogue does yet.
    studied_at: datetime | None = None


NO_MARKS = StudyMarks()


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What rules may ask of a study. Descriptions are patient data: never logged."""

    study_instance_uid: str
    modalities: frozenset[str] = frozenset()
    #: Study Description and Series Descriptions.
    descriptions: tuple[str, ...] = ()
    body_parts: frozenset[str] = frozenset()
    #: Who sent it (0002,0016), and the peer that it is fetched from.
    ae_titles: frozenset[str] = frozenset()
    stations: frozenset[str] = frozenset()
    institution: str = ""
    study_date: str = ""  #: DA
    study_time: str = ""  #: TM
    #: At the source.
    instances: int = 0
    bytes: int = 0
    #: Destinations that took any of it, whatever evidence there is.
    taken_by: frozenset[DestinationId] = frozenset()
    marks: StudyMarks = NO_MARKS


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a rule asks; all that is given must hold, and of several values any one does."""

    #: Values of Modality (0008,0060); of a study with several any one counts.
    modality: tuple[str, ...] = ()
    #: Whole words, or several in a row, in a description; accents and case do not matter.
    words: tuple[str, ...] = ()
    #: Where one of these is, the rule does not fire.
    without_words: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    ae_title: tuple[str, ...] = ()
    station: tuple[str, ...] = ()
    #: Whole words of Institution Name (0008,0080).
    institution: tuple[str, ...] = ()
    younger_than_s: int = 0
    older_than_s: int = 0
    larger_than_bytes: int = 0
    smaller_than_bytes: int = 0
    locked: bool | None = None
    in_album: bool | None = None
    #: No destination took any of it yet.
    single_copy: bool | None = None
    #: The viewer's auto-clean may delete it soon.
    auto_clean_risk: bool | None = None


@dataclass(frozen=True, slots=True)
class ClassificationRule:
    """A rule: the first whose conditions hold gives the priority; raises are added to that.

    Exactly one of `priority` and `raises` is set. `raises` may be negative.
    """

    name: str
    conditions: Conditions
    priority: Priority | None = None
    raises: int = 0
    #: One of dcmvault's own.
    built_in: bool = False


@dataclass(frozen=True, slots=True)
class FiredRule:
    """A rule whose conditions hold for a study, and what they met, by condition.

    `decides` is set for the one that gave the priority, and for every raise.
    """

    rule: ClassificationRule
    met: Mapping[str, str] = field(default_factory=dict)
    decides: bool = True


@dataclass(frozen=True, slots=True)
class LearnedFeature:
    """What studies with one value have in common: how often people moved or restored them."""

    #: modality | body_part | word | station
    kind: str
    value: str
    raised: int
    lowered: int
    restored: int
    #: Of all studies that people moved or restored, and of all that are known (0 to 1).
    share: float
    usual_share: float
    #: What follows from it: -1, 0 or +1.
    adjustment: int = 0


@dataclass(frozen=True, slots=True)
class Classification:
    """What the rules made of a study, and why."""

    priority: Priority
    fired: tuple[FiredRule, ...] = ()
    #: Why what was learned moved it, and by how much.
    learned: tuple[LearnedFeature, ...] = ()
    learned_adjustment: int = 0
