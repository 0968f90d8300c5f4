"""What lists of studies do not say: counts, classes, and attributes from one header of each study.

A card costs a blob of records and a look at one header, about a millisecond; it is kept as long as
the study stays what it is.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dcmvault.archives.study_contents import HeldSeries, read_study
from dcmvault.archives.study_table import LISTED_TAGS, StudyRow
from dcmvault.dicom.attributes import PATIENT_TAGS, STUDY_TAGS, is_answerable
from dcmvault.dicom.header_values import WantedValues
from dcmvault.errors import DestinationError, MalformedDicomError
from dcmvault.vault.damage import out_of_reach
from dcmvault.vault.legible import LegibleState
from dcmvault.vault.records import InstanceRecord
from dcmvault.vault.repository import Vault
from dcmvault.vault.skeletons import SkeletonBytes

#: Attributes of a patient or study that a card has, though no list.
CARD_TAGS = frozenset(
    tag for tag in (PATIENT_TAGS | STUDY_TAGS) - LISTED_TAGS if is_answerable(tag)
)
_WANTED = WantedValues(CARD_TAGS)
_KEPT_CARDS = 300_000
_KEPT_STUDIES = 16


class SeriesCount(NamedTuple):
    """A series of a card."""

    series_instance_uid: str
    instances: int
    #: SOP classes with transfer syntaxes.
    kinds: tuple[tuple[str, str], ...]


class StudyCard(NamedTuple):
    """What one look into a study tells."""

    attributes: Mapping[int, str]
    series: tuple[SeriesCount, ...]

    @property
    def instances(self) -> int:
        """How many instances the study has."""
        return sum(one.instances for one in self.series)

    @property
    def sop_classes(self) -> list[str]:
        """The SOP classes of its instances."""
        return sorted({uid for one in self.series for uid, _syntax in one.kinds})


class StudyCards:
    """Cards and contents of studies, read when they are asked for. Safe for several threads."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._lock = threading.Lock()
        #: By study and manifest: a study that changed has another.
        self._cards: OrderedDict[tuple[str, bytes], StudyCard] = OrderedDict()
        #: By SOP class, in how many series of cards each transfer syntax was met.
        self._syntaxes: dict[str, Counter[str]] = {}
        self._contents: OrderedDict[tuple[str, LegibleState], Sequence[HeldSeries]] = OrderedDict()

    def every(self) -> dict[tuple[str, bytes], StudyCard]:
        """Return all cards that were read."""
        with self._lock:
            return dict(self._cards)

    def take_up(self, cards: Mapping[tuple[str, bytes], StudyCard]) -> None:
        """Take cards that were read before."""
        with self._lock:
            for key, card in cards.items():
                self._keep(key, card)

    def kept(self, row: StudyRow) -> StudyCard | None:
        """Return the card of a study, if it was read already."""
        with self._lock:
            return self._cards.get((row.study_instance_uid, row.manifest))

    def card(self, row: StudyRow, legible: LegibleState) -> StudyCard:
        """Return the card of a study."""
        found = self.kept(row)
        if found is not None:
            return found
        series = read_study(legible, row.study_instance_uid)
        card = self._made(series)
        if row.manifest:  # else nothing tells when it changes
            with self._lock:
                self._keep((row.study_instance_uid, row.manifest), card)
        return card

    def contents(self, row: StudyRow, legible: LegibleState) -> Sequence[HeldSeries]:
        """Return the series of a study with their records."""
        key = (row.study_instance_uid, legible)
        with self._lock:
            found = self._contents.get(key)
            if found is not None:
                self._contents.move_to_end(key)
                return found
        series = read_study(legible, row.study_instance_uid)
        with self._lock:
            self._contents[key] = series
            if len(self._contents) > _KEPT_STUDIES:
                self._contents.popitem(last=False)
        return series

    def syntaxes(self, sop_class_uid: str) -> list[str]:
        """Return the transfer syntaxes of a class in all cards, the commonest first."""
        with self._lock:
            met = self._syntaxes.get(sop_class_uid, Counter[str]())
            return [syntax for syntax, _count in met.most_common()]

    def forget_contents(self) -> None:
        """Let go of what belongs to another state."""
        with self._lock:
            self._contents.clear()

    def header(self, record: InstanceRecord, wanted: WantedValues) -> Mapping[int, str]:
        """Return attributes from the header of a file; none where it cannot be read."""
        try:
            return wanted.read(SkeletonBytes(self._vault, record))
        except MalformedDicomError:
            return {}
        except DestinationError as error:
            if out_of_reach(error):
                raise
            return {}

    def _keep(self, key: tuple[str, bytes], card: StudyCard) -> None:
        self._cards[key] = card
        for sop_class, syntax in (kind for one in card.series for kind in one.kinds):
            self._syntaxes.setdefault(sop_class, Counter())[syntax] += 1
        if len(self._cards) > _KEPT_CARDS:
            self._cards.popitem(last=False)

    def _made(self, series: Sequence[HeldSeries]) -> StudyCard:
        first = next((one.records[0] for one in series if one.records), None)
        return StudyCard(
            self.header(first, _WANTED) if first is not None else {},
            tuple(
                SeriesCount(
                    one.series_instance_uid,
                    len(one.records),
                    tuple(sorted({(r.sop_class_uid, r.transfer_syntax_uid) for r in one.records})),
                )
                for one in series
            ),
        )
