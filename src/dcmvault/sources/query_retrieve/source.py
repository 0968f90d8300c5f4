"""The source itself: studies and entries by C-FIND, files by C-GET or C-MOVE."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.dicom.attribute_query import (
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    STUDY_INSTANCE_UID,
)
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.configured_peer import peer_of
from dcmvault.dicom.narrowed_questions import narrowed_inventory
from dcmvault.dicom.patient_inventory import PatientInventory
from dcmvault.dicom.study_inventory import Ask, StudyInventory
from dcmvault.dicom.told_studies import patient_id_in, unpacked
from dcmvault.errors import (
    AssociationLostError,
    DestinationError,
    DestinationUnreachableError,
    SourceUnavailableError,
)
from dcmvault.model.comparison import StudySummary
from dcmvault.model.instance import (
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    StudyRef,
    UnreadableEntry,
)
from dcmvault.model.remarks import SourceRemarks
from dcmvault.model.selection import EVERYTHING, Selection
from dcmvault.sources.query_retrieve.counting import Counting
from dcmvault.sources.query_retrieve.fetching import fetch
from dcmvault.sources.query_retrieve.listing import StudyListing, study_attributes
from dcmvault.sources.query_retrieve.questions import Questions

_log = logging.getLogger(__name__)

#: Stands for "listed, but could not be examined".
_NO_FINGERPRINT = Fingerprint(0, 0, 0)
#: Studies over which the association is lost, one after the other, before the PACS is given up.
_MOST_LOST = 3
#: More say no more.
_MOST_DOUBTS = 20


class QueryRetrieveSource:
    """A Source over a PACS (DIMSE query/retrieve).

    In the Study Root model; in the Patient Root model where the PACS serves only that. Questions
    are hierarchical; where it grants relational ones, those save some, or find more.

    A StudyRef is a study; its locator is the Study Instance UID. An entry's locator is made of the
    three UIDs. The PACS tells neither sizes nor when something changed: the fingerprint is made of
    whose study it is (patient and accession number), so that an unchanged PACS costs questions
    only, and a correction there is fetched anew; other changes under a UID are not seen.

    `known_studies` gives the UIDs of studies that were there before: one that no answer names is
    asked for by UID before it counts as gone. A study that the PACS refuses to list is itself an
    entry with a zero fingerprint, so that `read` reports it.
    """

    def __init__(
        self, section: DimseSourceSection, known_studies: Callable[[], Iterable[str]] = tuple
    ) -> None:
        """Connect nothing yet; ConfigurationError for files of TLS that cannot be used."""
        self._section = section
        self._peer = peer_of(section)
        self._known_studies = known_studies
        #: What was told of each study (`unpacked`).
        self._told: dict[str, str] = {}
        self._cap = section.max_answers
        #: The most answers to one question about a study's parts, by level.
        self._largest: dict[str, int] = {}
        #: Studies over which the association was lost, one after the other.
        self._lost = 0
        #: Open while studies are being iterated over.
        self._questions: Questions | None = None
        self._is_complete = True
        self._doubts: list[str] = []

    @property
    def name(self) -> str:
        """The PACS's address."""
        return self._section.address

    def remarks(self) -> SourceRemarks:
        """Say what else the PACS may have than what was listed last.

        What was known, and in no list, was asked for by UID: its absence may be believed unless
        a list is known to be cut.
        """
        return SourceRemarks(tuple(self._doubts), lists_all=self._is_complete)

    def studies(self) -> Iterator[StudyRef]:
        """List the studies by UID, and keep an association for questions about them.

        Raises SourceUnavailableError when the PACS cannot be reached or refuses to answer.
        """
        with Questions(self._peer) as questions:
            for uid in self._list(questions, questions.studies):
                yield StudyRef(uid, uid)

    def matching(self, selection: Selection) -> Iterator[StudyRef]:
        """List the studies of a selection: what it says of them goes into the questions."""
        if selection.studies and not selection.series:
            yield from (StudyRef(uid, uid) for uid in selection.studies)
            return
        with Questions(self._peer) as questions:
            for uid in self._list(questions, questions.studies, selection):
                yield StudyRef(uid, uid)

    def summaries(self, among: Collection[str] | None = None) -> Iterator[StudySummary]:
        """Tell of the studies by UID, with the PACS's own counts where it tells any."""
        with Questions(self._peer) as questions:
            counting = Counting(questions)
            if among is not None:
                self._questions = questions
                try:
                    yield from filter(None, map(self.summary, sorted(among)))
                finally:
                    self._questions = None
                return
            for uid in self._list(questions, counting.studies):
                yield counting.summary(uid, unpacked(self._told[uid]))

    def summary(self, study_instance_uid: str) -> StudySummary | None:
        """Tell of one study, asked for by its UID alone."""
        with self._asking() as questions:
            return Counting(questions).ask_for(study_instance_uid)

    def instances_among(
        self, study_instance_uid: str, series_instance_uid: str, among: Collection[str]
    ) -> frozenset[str]:
        """Ask for instances of a series by their UIDs, and for each that a list did not bring."""
        place = {STUDY_INSTANCE_UID: study_instance_uid, SERIES_INSTANCE_UID: series_instance_uid}
        with self._asking() as questions:
            if questions.needs_patient:
                place[PATIENT_ID] = patient_id_in(self._told.get(study_instance_uid, ""))
            return questions.instances_among(place, among)

    def _list(
        self, questions: Questions, ask: Ask, selection: Selection = EVERYTHING
    ) -> Iterator[str]:
        """Take the inventory, and yield its UIDs; the questions stay open meanwhile."""
        self._is_complete = True
        self._doubts = []
        self._lost = 0
        with _unavailable():
            inventory = None
            if selection.asks_attributes and not questions.needs_patient:
                inventory = narrowed_inventory(ask, self._section.max_answers, selection)
            inventory = inventory or self._take_inventory(questions, ask)
        for doubt in inventory.doubts:
            # Studies known before were asked for by UID, so what is gone is still told rightly.
            _doubt(self._doubts, f"the PACS may have studies that it did not name: {doubt}")
        self._told = inventory.found
        self._cap = inventory.cap
        uids = sorted(self._told)
        del inventory
        self._questions = questions
        try:
            yield from uids
        finally:
            self._questions = None

    def _take_inventory(self, questions: Questions, ask: Ask) -> StudyInventory:
        inventory = StudyInventory(ask, self._section.max_answers)
        if questions.is_relational:
            inventory.ask_series = questions.studies_of_series
        if questions.needs_patient:
            by_patient = PatientInventory(questions.patients, inventory)
            by_patient.collect()
            found_by_uid = sum(1 for _uid in by_patient.confirm(self._known_studies()))
            if by_patient.unconfirmed:
                # A question by UID alone is none that it must answer.
                self._is_complete = False
        else:
            inventory.collect()
            found_by_uid = sum(1 for _uid in inventory.confirm(self._known_studies()))
        if found_by_uid:
            _log.warning(
                "%s: %d studies are there that its lists left out", self._peer.name, found_by_uid
            )
        if inventory.nameless:
            inventory.doubts.append(
                f"{inventory.nameless:,} answers are about studies that no question can name"
            )
        return inventory

    def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
        """List the instances of one study: a question for its series, and one for each of them."""
        with self._asking() as questions:
            yield from self._listed(questions, study.locator)

    @contextmanager
    def _asking(self) -> Iterator[Questions]:
        """Give the questions of the listing that is under way, or some that end here."""
        with _unavailable():
            if self._questions is not None:
                self._questions.begin_study()
                yield self._questions
                return
            with Questions(self._peer) as questions:
                questions.begin_study()
                yield questions

    def _listed(self, questions: Questions, uid: str) -> list[InstanceEntry]:
        if not is_usable_uid(uid):
            return []
        with _unavailable():
            try:
                told = unpacked(self._told[uid]) if uid in self._told else questions.study(uid)
                attributes = study_attributes(told)
                listing = StudyListing(questions, uid, attributes, self._cap, self._largest)
                found = list(listing.entries())
            except AssociationLostError as error:
                self._lost += 1
                if self._lost >= _MOST_LOST:
                    raise
                return self._unlistable(uid, error)
            except DestinationUnreachableError:
                raise
            except DestinationError as error:
                return self._unlistable(uid, error)
        self._lost = 0
        for doubt in dict.fromkeys(listing.doubts):
            _doubt(self._doubts, f"the study {uid} may have more than is listed: {doubt}")
            self._is_complete = False
        return found

    def _unlistable(self, uid: str, error: DestinationError) -> list[InstanceEntry]:
        _doubt(self._doubts, f"the study {uid} cannot be listed: {error.message}")
        self._is_complete = False
        return [InstanceEntry(uid, _NO_FINGERPRINT)]

    def read(
        self, entries: Iterable[InstanceEntry], *, kept: int = 1
    ) -> Iterator[InstanceFile | UnreadableEntry]:
        """Fetch the instances, some ahead, into a private folder; the last `kept` are there.

        Whatever the PACS sends, only the UIDs asked for are taken. A file is preamble and file
        meta information of ours before the data set exactly as it was sent.
        """
        return fetch(self._section, self._peer, entries, kept)


@contextmanager
def _unavailable() -> Iterator[None]:
    """Say of the source what the peer said, or what came between."""
    try:
        yield
    except DestinationError as error:
        message = error.message.rstrip(".")
        raise SourceUnavailableError(
            f"The PACS cannot be read: {message}.",
            hint=error.hint or "Check that it is reachable, then run again.",
        ) from error


def _doubt(doubts: list[str], sentence: str) -> None:
    if len(doubts) < _MOST_DOUBTS and sentence not in doubts:
        doubts.append(sentence)
        _log.warning("%s", sentence)
