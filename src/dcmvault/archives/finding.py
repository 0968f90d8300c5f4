"""Answering one query from a state of a vault: from its lists first, from headers where asked.

PS3.4 section C.4.1.3. What a query costs is bounded: of studies whose cards were not read before
only so many are looked into.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from dcmvault.archives.study_cards import CARD_TAGS, StudyCard, StudyCards
from dcmvault.archives.study_contents import HeldSeries
from dcmvault.archives.study_table import LISTED_TAGS, StudyRow, StudyTable
from dcmvault.dicom import attributes as tags
from dcmvault.dicom.attributes import is_answerable, level_of
from dcmvault.dicom.header_values import WantedValues
from dcmvault.dicom.matching import Matcher, matcher
from dcmvault.errors import QueryTooBroadError
from dcmvault.model.query import ArchiveAnswer, ArchiveQuery, QueryLevel
from dcmvault.vault.legible import LegibleState
from dcmvault.vault.records import InstanceRecord

#: Studies that one query looks into, of those that nobody looked into before.
_STUDIES_READ = 20_000

_SERIES_RECORDED = {
    tags.MODALITY: "modality",
    tags.SERIES_NUMBER: "series_number",
    tags.SERIES_DESCRIPTION: "series_description",
    tags.BODY_PART_EXAMINED: "body_part_examined",
}
_SERIES_KNOWN = frozenset(
    {*_SERIES_RECORDED, tags.SERIES_INSTANCE_UID, tags.SERIES_RELATED_INSTANCES}
)
_IMAGE_RECORDED = {
    tags.SOP_INSTANCE_UID: "sop_instance_uid",
    tags.SOP_CLASS_UID: "sop_class_uid",
    tags.INSTANCE_NUMBER: "instance_number",
}
#: Answered from the card, with what is counted there.
_CARD_KEYS = CARD_TAGS | tags.PATIENT_COUNTS | tags.STUDY_COUNTS - {tags.MODALITIES_IN_STUDY}


@dataclass(frozen=True, slots=True)
class StateView:
    """A state of a vault, arranged to be asked."""

    table: StudyTable
    legible: LegibleState
    cards: StudyCards
    #: Studies of which something turned out to be damaged so far; empty for many of them.
    lost: Set[str] = frozenset()

    def has_list_of(self, study_instance_uid: str) -> bool:
        """Say whether one list tells all of a study, not only what was added to it."""
        row = self.table.study(study_instance_uid)
        return row is not None and bool(row.manifest)


@dataclass(slots=True)
class Finding:
    """One query on its way through a state."""

    view: StateView
    query: ArchiveQuery
    _matchers: dict[QueryLevel, dict[int, Matcher]] = field(default_factory=dict)
    _asked: dict[QueryLevel, list[int]] = field(default_factory=dict)
    _read: int = 0
    _is_partial: bool = False

    def __post_init__(self) -> None:
        level = self.query.level
        for one in QueryLevel:
            self._matchers[one], self._asked[one] = {}, []
        for tag, key in self.query.keys.items():
            stands_at = level_of(tag)
            if stands_at > level or not is_answerable(tag):
                continue
            self._asked[stands_at].append(tag)
            test = matcher(tag, key)
            if test is not None:
                self._matchers[stands_at][tag] = test
        self._asked[level].append(tags.UNIQUE_KEYS[level])
        if level > QueryLevel.STUDY:
            self._asked[QueryLevel.STUDY].append(tags.STUDY_INSTANCE_UID)
        if level > QueryLevel.SERIES:
            self._asked[QueryLevel.SERIES].append(tags.SERIES_INSTANCE_UID)

    def answers(self) -> Iterator[ArchiveAnswer]:
        """Yield what matches."""
        level = self.query.level
        if level is QueryLevel.PATIENT:
            yield from self._patients()
            return
        for row in self.studies():
            if level is QueryLevel.STUDY:
                yield self._answer(self._study_attributes(row))
                continue
            upper: Mapping[int, str] | None = None
            for series, known in self._series(row):
                upper = self._study_attributes(row) if upper is None else upper
                if level is QueryLevel.SERIES:
                    yield self._answer({**upper, **known})
                    continue
                for instance in self._images(series):
                    yield self._answer({**upper, **known, **instance})

    def studies(self) -> Iterator[StudyRow]:
        """Yield the studies whose own and whose patient's attributes match."""
        matchers = self._matchers[QueryLevel.PATIENT] | self._matchers[QueryLevel.STUDY]
        of_card = {tag: test for tag, test in matchers.items() if tag in _CARD_KEYS}
        for row in self.view.table.matching(self.query.keys, matchers):
            if of_card:
                card = self._card(row)
                if card is None:
                    raise QueryTooBroadError(
                        "the query would have to look into too many studies",
                        hint="Name a patient, a range of dates or a study, too.",
                    )
                if not all(test(self._of_card(row, card, tag)) for tag, test in of_card.items()):
                    continue
            yield row

    # Attributes

    def _answer(self, known: Mapping[int, str]) -> ArchiveAnswer:
        return ArchiveAnswer(
            {tag: value for tag, value in known.items() if value}, self._is_partial
        )

    def _study_attributes(self, row: StudyRow) -> dict[int, str]:
        asked = self._asked[QueryLevel.PATIENT] + self._asked[QueryLevel.STUDY]
        known = {tag: row.value(tag) for tag in asked if tag in LISTED_TAGS}
        of_card = [tag for tag in asked if tag in _CARD_KEYS]
        if of_card:
            card = self._card(row)
            if card is None:
                self._is_partial = True
            else:
                known |= {tag: self._of_card(row, card, tag) for tag in of_card}
        return known

    def _card(self, row: StudyRow) -> StudyCard | None:
        """Return a study's card; None where too many were read for this query."""
        kept = self.view.cards.kept(row)
        if kept is not None:
            return kept
        if self._read >= _STUDIES_READ:
            return None
        self._read += 1
        return self.view.cards.card(row, self.view.legible)

    def _of_card(self, row: StudyRow, card: StudyCard, tag: int) -> str:
        if tag == tags.STUDY_RELATED_SERIES:
            return str(len(card.series))
        if tag == tags.STUDY_RELATED_INSTANCES:
            return str(card.instances)
        if tag == tags.SOP_CLASSES_IN_STUDY:
            return "\\".join(card.sop_classes)
        if tag in tags.PATIENT_COUNTS:
            return self._of_patient(row, tag)
        return card.attributes.get(tag, "")

    def _of_patient(self, row: StudyRow, tag: int) -> str:
        studies = self.view.table.of_patient(row)
        if tag == tags.PATIENT_RELATED_STUDIES:
            return str(len(studies))
        cards = [self._card(one) for one in studies]
        if any(card is None for card in cards):
            self._is_partial = True
            return ""
        if tag == tags.PATIENT_RELATED_SERIES:
            return str(sum(len(card.series) for card in cards if card))
        return str(sum(card.instances for card in cards if card))

    # Levels

    def _patients(self) -> Iterator[ArchiveAnswer]:
        told: set[tuple[str, str]] = set()
        for row in self.studies():
            patient = (row.patient_id, "" if row.patient_id else row.name)
            if patient not in told:
                told.add(patient)
                yield self._answer(self._study_attributes(row))

    def _series(self, row: StudyRow) -> Iterator[tuple[HeldSeries, dict[int, str]]]:
        matchers = self._matchers[QueryLevel.SERIES]
        asked = self._asked[QueryLevel.SERIES]
        wanted = _wanted(asked, _SERIES_KNOWN)
        for series in self._contents(row):
            known = {tag: _of_series(series, tag) for tag in asked if tag in _SERIES_KNOWN}
            if wanted is not None:
                known |= self.view.cards.header(series.records[0], wanted)
            if all(test(known.get(tag, "")) for tag, test in matchers.items()):
                yield series, known

    def _contents(self, row: StudyRow) -> Sequence[HeldSeries]:
        wanted = self._matchers[QueryLevel.SERIES].get(tags.SERIES_INSTANCE_UID)
        kept = self.view.cards.kept(row)
        if wanted is not None and kept is not None:
            if not any(wanted(one.series_instance_uid) for one in kept.series):
                return ()
        elif kept is None:
            self._read += 1
            if self._read > _STUDIES_READ:
                raise QueryTooBroadError(
                    "the query would have to look into too many studies",
                    hint="Name a patient, a range of dates or a study, too.",
                )
        return self.view.cards.contents(row, self.view.legible)

    def _images(self, series: HeldSeries) -> Iterator[dict[int, str]]:
        matchers = self._matchers[QueryLevel.IMAGE]
        asked = self._asked[QueryLevel.IMAGE]
        wanted = _wanted(asked, frozenset(_IMAGE_RECORDED))
        quick = {tag: test for tag, test in matchers.items() if tag in _IMAGE_RECORDED}
        slow = {tag: test for tag, test in matchers.items() if tag not in _IMAGE_RECORDED}
        for record in series.records:
            known = {tag: _of_record(record, tag) for tag in asked if tag in _IMAGE_RECORDED}
            if not all(test(known[tag]) for tag, test in quick.items()):
                continue
            if wanted is not None:
                known |= self.view.cards.header(record, wanted)
            if all(test(known.get(tag, "")) for tag, test in slow.items()):
                yield known


def _wanted(asked: Sequence[int], known: frozenset[int]) -> WantedValues | None:
    """Say what a header has to be read for."""
    missing = [tag for tag in asked if tag not in known]
    return WantedValues(missing) if missing else None


def _of_series(series: HeldSeries, tag: int) -> str:
    if tag == tags.SERIES_INSTANCE_UID:
        return series.series_instance_uid
    if tag == tags.SERIES_RELATED_INSTANCES:
        return str(len(series.records))
    value: str = getattr(series.attributes, _SERIES_RECORDED[tag])
    return value.strip()


def _of_record(record: InstanceRecord, tag: int) -> str:
    value: str = getattr(record, _IMAGE_RECORDED[tag])
    return value.strip()
