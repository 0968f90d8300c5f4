"""The Source over a DICOMweb service."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice

from dcmvault.config.peer_sections import DicomwebSourceSection
from dcmvault.dicom.attribute_query import Tag
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.idle_connections import IdleConnections
from dcmvault.dicom.intake import Room
from dcmvault.dicom.narrowed_questions import keys_of
from dcmvault.dicom.qido_inventory import SOP_INSTANCE_UID, WebInventory
from dcmvault.dicom.sentences import sentence
from dcmvault.dicom.web_access import WebAccess, look_up_access
from dcmvault.dicom.web_answers import DataSet, first_uid, text_of
from dcmvault.dicom.web_headers import SUMMARY_FIELDS, summary_told
from dcmvault.dicom.web_probe import WebProbe
from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    EntryChangedError,
    EntryUnreadableError,
    EntryVanishedError,
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
from dcmvault.model.probe import ProbeStep
from dcmvault.model.remarks import SourceRemarks
from dcmvault.model.selection import Selection
from dcmvault.ports.clock import Clock
from dcmvault.sources.dicomweb.fetching import Wanted, WebFetching, refusal
from dcmvault.sources.dicomweb.listing import Recollection, identity_of, list_study

_log = logging.getLogger(__name__)

#: Stands for "is there, but was not listed".
_UNLISTED = Fingerprint(0, 0, 0)
#: After so many studies, one after the other, that the service does not list it is not there.
_MOST_REFUSED = 5
_MOST_DOUBTS = 20
_PATIENT_ID = "00100020"
#: Entries whose fingerprints are checked together, before they are retrieved.
_CHECKED_AT_ONCE = 100


class DicomwebSource:
    """A Source over a DICOMweb service.

    A StudyRef's locator is the Study Instance UID, an entry's the three UIDs with `/` between.
    The fingerprint is a number made of all that the service tells of an instance, attributes of
    its study and series included; sizes are known when files are fetched. A change that the
    service tells nothing of is not noticed.

    `known_studies` gives the UIDs of studies that were there before: one that no list names is
    asked for by UID before it counts as gone. A study that the service does not list is itself an
    entry with a zero fingerprint, so that `read` reports it. Secrets and certificates are looked
    up when the service is first spoken to.
    """

    def __init__(
        self,
        section: DicomwebSourceSection,
        clock: Clock,
        known_studies: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """Connect nothing yet."""
        self._known_studies = known_studies
        self._is_complete = True
        self._doubts: list[str] = []
        #: Studies, one after the other, that the service did not list.
        self._refused = 0
        self._section = section
        self._clock = clock
        self._idle = IdleConnections(clock)
        self._looked_up: WebAccess | None = None

    @property
    def name(self) -> str:
        """The address in canonical form."""
        return self._section.address

    def remarks(self) -> SourceRemarks:
        """Say what else the service may have than what was listed last.

        What was known, and in no list, was asked for by UID: its absence may be believed unless
        a list is known to be cut.
        """
        return SourceRemarks(tuple(self._doubts), lists_all=self._is_complete)

    def studies(self) -> Iterator[StudyRef]:
        """List the studies by UID; raises SourceUnavailableError where the service gives none."""
        for uid in self._listed_studies():
            yield StudyRef(uid, uid)

    def matching(self, selection: Selection) -> Iterator[StudyRef]:
        """List the studies of a selection: what it says of them goes into the questions."""
        if selection.studies and not selection.series:
            yield from (StudyRef(uid, uid) for uid in selection.studies)
            return
        for uid in self._listed_studies(every=list(keys_of(selection))):
            yield StudyRef(uid, uid)

    def summaries(self, among: Collection[str] | None = None) -> Iterator[StudySummary]:
        """Tell of the studies by UID, with the service's own counts where it tells any."""
        if among is not None:
            yield from filter(None, map(self.summary, sorted(among)))
            return
        told: dict[str, tuple[StudySummary, str]] = {}

        def note(row: DataSet) -> None:
            summary = summary_told(row)
            patient = text_of(row, _PATIENT_ID)
            before = told.setdefault(summary.study_instance_uid, (summary, patient))
            if before != (summary, patient):
                # One study under two patients, perhaps: the instances have to be listed.
                vague = summary._replace(series=None, instances=None)
                told[summary.study_instance_uid] = (vague, patient)

        for uid in self._listed_studies(SUMMARY_FIELDS, note):
            yield told[uid][0] if uid in told else StudySummary(uid)

    def summary(self, study_instance_uid: str) -> StudySummary | None:
        """Tell of one study, asked for by its UID alone."""
        with _unavailable(), self._asking() as inventory:
            row = inventory.study(study_instance_uid, SUMMARY_FIELDS)
        return None if row is None else summary_told(row)

    def instances_among(
        self, study_instance_uid: str, series_instance_uid: str, among: Collection[str]
    ) -> frozenset[str]:
        """Ask for instances of a series by their UIDs, and for each that a list did not bring."""
        with _unavailable(), self._asking() as inventory:
            rows = inventory.instances_among(
                study_instance_uid, series_instance_uid, (), sorted(filter(is_usable_uid, among))
            )
            return frozenset(first_uid(row, SOP_INSTANCE_UID) for row in rows)

    def _listed_studies(
        self,
        fields: Collection[str] = (),
        note: Callable[[DataSet], object] = lambda _row: None,
        every: Sequence[Mapping[Tag, str]] = ({},),
    ) -> list[str]:
        """List the studies that match any of these keys; {} is matched by all."""
        found: set[str] = set()
        with _unavailable(), self._asking() as inventory:
            try:
                for keys in every:
                    # Those that were known count only where all are asked for.
                    known = () if keys else self._known_studies()
                    found |= inventory.studies(known, fields, note, keys)
            except (DestinationUnreachableError, DestinationStoppedError):
                raise
            except DestinationError as error:
                if not all(every):
                    raise
                _log.info("the service refuses to be asked by what is selected (%s)", error.code)
                found |= inventory.studies(self._known_studies(), fields, note)
        uids = sorted(found)
        self._doubts.clear()
        self._refused = 0
        # Who gives no UIDs cannot be asked by UID either.
        self._is_complete = not inventory.nameless
        if inventory.nameless:
            _doubt(self._doubts, "The service lists studies without a UID that can be asked for.")
        if inventory.is_incomplete:
            _doubt(
                self._doubts,
                "The service may have studies that it did not list: it caps its answers and gives"
                " no further pages.",
            )
        return uids

    def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
        """List the instances of one study, with what is told of them."""
        uid = study.locator
        with _unavailable():
            try:
                with self._asking() as inventory:
                    found = list_study(inventory, uid)
            except DestinationStoppedError:
                raise
            except DestinationError as error:
                self._refused += 1
                if self._refused >= _MOST_REFUSED:
                    raise
                if isinstance(error, DestinationUnreachableError):
                    # Lost over one study, or altogether?
                    with self._asking() as inventory:
                        inventory.require_answer()
                self._is_complete = False
                _doubt(
                    self._doubts,
                    f"The service does not list the study {uid}: {sentence(error.message)}",
                )
                found = [InstanceEntry(uid, _UNLISTED)]
            else:
                self._refused = 0
                if inventory.is_incomplete or inventory.nameless:
                    self._is_complete = False
                    _doubt(
                        self._doubts,
                        f"The service may have instances of the study {uid} that it did not list.",
                    )
        yield from found

    def read(
        self, entries: Iterable[InstanceEntry], *, kept: int = 1
    ) -> Iterator[InstanceFile | UnreadableEntry]:
        """Ask once more what is told of each, and retrieve what is as it was, several at once."""
        try:
            access = self._access()
        except DestinationError as error:
            for entry in entries:
                yield refusal(entry, EntryUnreadableError, sentence(error.message))
            return
        room = Room(self._section.max_waiting_mib << 20)
        fetching = WebFetching(access, self._idle, self._section.max_connections, room)
        with closing(fetching.answers(self._checked(iter(entries)), kept)) as answers:
            yield from answers

    def _checked(self, coming: Iterator[InstanceEntry]) -> Iterator[Wanted | UnreadableEntry]:
        """Say what is to be retrieved: what still is as it was listed."""
        recollection = Recollection()
        while batch := list(islice(coming, _CHECKED_AT_ONCE)):
            identities = [identity for entry in batch if (identity := identity_of(entry))]
            try:
                with self._asking() as inventory:
                    found = recollection.entries(inventory, identities)
                    now = {entry.locator: entry for entry in found}
            except DestinationError as error:
                for entry in batch:
                    yield refusal(entry, EntryUnreadableError, sentence(error.message))
            else:
                yield from (_judged(entry, now.get(entry.locator)) for entry in batch)

    def probe(self) -> tuple[ProbeStep, ...]:
        """Try name, connection, TLS, token, HTTP and QIDO-RS in order."""
        return WebProbe(self._access, self._clock, stores=False).run()

    @contextmanager
    def _asking(self) -> Iterator[WebInventory]:
        """Lend a connection for questions; it is kept for whoever comes next."""
        access = self._access()
        with access.service(self._idle.take(access.peer)) as service:
            yield WebInventory(service)
            self._idle.keep(service.give_up())

    def _access(self) -> WebAccess:
        if self._looked_up is None:
            self._looked_up = look_up_access(self._section, self._clock.monotonic)
        return self._looked_up


def _judged(entry: InstanceEntry, now: InstanceEntry | None) -> Wanted | UnreadableEntry:
    """Say whether an entry can be retrieved, by what the service tells of it now."""
    identity = identity_of(entry)
    if identity is None:
        if entry.fingerprint == _UNLISTED:
            return refusal(entry, EntryUnreadableError, "The service did not list this study.")
        return refusal(entry, EntryUnreadableError, "No instance belongs to this entry.")
    if now is None:
        return refusal(entry, EntryVanishedError, "The service does not have it any more.")
    if now.fingerprint != entry.fingerprint:
        return refusal(
            entry, EntryChangedError, "The service tells something else of it than when it listed."
        )
    return Wanted(entry, identity)


@contextmanager
def _unavailable() -> Iterator[None]:
    """Say of the source what was said of the peer."""
    try:
        yield
    except DestinationError as error:
        raise SourceUnavailableError(
            f"The DICOMweb service cannot be read: {sentence(error.message)}",
            hint=error.hint or "Check that it is reachable, then run again.",
        ) from error


def _doubt(doubts: list[str], words: str) -> None:
    if len(doubts) < _MOST_DOUBTS and words not in doubts:
        doubts.append(words)
