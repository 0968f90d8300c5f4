"""What a DICOMweb service holds, with what it tells of it: QIDO-RS (PS3.18 section 10.6).

Services cap their answers without a word, ignore `offset`, repeat rows, and change while they are
asked. An empty further page ends an answer, and does not prove that it is whole: a service may cut
pages from what another one capped. So it is held against the service's own counts, and studies are
asked for in parts, as from a PACS (`study_inventory`), where two parts show that there are more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from dcmvault.dicom import attribute_query
from dcmvault.dicom.attribute_query import Answers, Tag
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.dicomweb import DicomwebConnection, ServiceBusyError, seconds_until_next
from dcmvault.dicom.http_connection import HttpAnswer
from dcmvault.dicom.narrowed_questions import narrowed
from dcmvault.dicom.qido import read_rows
from dcmvault.dicom.study_inventory import StudyInventory
from dcmvault.dicom.web_answers import DataSet, first_number, first_uid, text_of
from dcmvault.errors import (
    AssociationLostError,
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
)

SOP_INSTANCE_UID = "00080018"
STUDY_INSTANCE_UID = "0020000D"
SERIES_INSTANCE_UID = "0020000E"
STUDY_RELATED_SERIES = "00201206"
STUDY_RELATED_INSTANCES = "00201208"
SERIES_RELATED_INSTANCES = "00201209"
#: By what studies are asked for in parts, and what is looked at in the answers.
_KEYWORDS = {
    attribute_query.STUDY_INSTANCE_UID: "StudyInstanceUID",
    attribute_query.STUDY_DATE: "StudyDate",
    attribute_query.STUDY_TIME: "StudyTime",
    attribute_query.MODALITIES_IN_STUDY: "ModalitiesInStudy",
    attribute_query.PATIENT_ID: "PatientID",
    attribute_query.ACCESSION_NUMBER: "AccessionNumber",
}

#: Asked for at once; a row has one or two kilobytes.
_PAGE = 500
#: UIDs in one question: addresses of some thousand characters are too long for some services.
_UIDS_PER_QUESTION = 20
#: More rows are a defect of the peer. Memory holds a UID of each.
_MOST_ROWS = 1_000_000
#: No service caps its answers lower.
_LOWEST_CAP = 10
_ATTEMPTS = 3


@dataclass
class WebInventory:
    """Questions to one service over one connection.

    All methods raise DestinationError when the service refuses a question, answers with something
    else or without end, and DestinationUnreachableError when it does not answer. Rows of which
    nothing can be asked, for want of a UID, are left out and counted in `nameless`.
    """

    service: DicomwebConnection
    page: int = _PAGE
    #: Waits for so many seconds; what is asked may be interrupted by an error of it.
    wait: Callable[[float], object] = time.sleep
    #: An answer was capped, and what it left out could not be asked for in another way.
    is_incomplete: bool = False
    nameless: int = 0
    #: What is asked of studies that are listed, and who is told of each row.
    _fields: Collection[str] = ()
    _note: Callable[[DataSet], object] = lambda _row: None

    def studies(
        self,
        known: Iterable[str],
        fields: Collection[str] = (),
        note: Callable[[DataSet], object] = lambda _row: None,
        fixed: Mapping[Tag, str] = MappingProxyType({}),
    ) -> frozenset[str]:
        """Return the UIDs of all studies, or of those that match the keys in `fixed`.

        Those that are `known` and in no list are asked for by UID, before they count as gone.
        `note` is given every row, with these `fields`; several may be about one study.
        """
        self._fields, self._note = fields, note
        question = self._question_for(fixed)
        rows = [self._noted(row) for row in question.rows()]
        found = {row[attribute_query.STUDY_INSTANCE_UID] for row in rows}
        whole = Answers(rows, is_cut=question.may_be_capped)
        ask = narrowed(self._ask_studies, fixed)
        parts = StudyInventory(lambda keys: ask(keys) if keys else whole)
        parts.seeks_undated = attribute_query.STUDY_DATE not in fixed
        del rows
        try:
            parts.collect()
        except (DestinationUnreachableError, DestinationStoppedError):
            raise
        except DestinationError:
            # Nothing shows whether there are more, where nothing but all can be asked for.
            self.is_incomplete = True
        self.is_incomplete = self.is_incomplete or bool(parts.doubts)
        found.update(parts.found)
        missed = [uid for uid in known if uid not in found]
        return frozenset(found.union(parts.confirm(missed)))

    def _ask_studies(self, keys: Mapping[Tag, str]) -> Answers:
        """Ask for studies as `study_inventory` does."""
        question = self._question_for(keys)
        rows = [self._noted(row) for row in question.rows()]
        return Answers(rows, is_cut=question.says_more)

    def _question_for(self, keys: Mapping[Tag, str]) -> _Question:
        """Make a question for studies; UIDs in lists have commas between."""
        matching = [
            (_KEYWORDS[tag], value.replace("\\", ",")) for tag, value in sorted(keys.items())
        ]
        return _Question(self, "/studies", STUDY_INSTANCE_UID, self._fields, matching)

    def _noted(self, row: DataSet) -> dict[Tag, str]:
        self._note(row)
        return _study_keys(row)

    def study(self, study_instance_uid: str, fields: Collection[str]) -> DataSet | None:
        """Return the row of one study, asked for by its UID alone; None where there is none."""
        if not is_usable_uid(study_instance_uid):
            return None  # empty, it would ask for everything there is
        key = ("StudyInstanceUID", study_instance_uid)
        question = _Question(self, "/studies", STUDY_INSTANCE_UID, fields, (key,))
        for row in question.rows():
            if first_uid(row, STUDY_INSTANCE_UID) == study_instance_uid:
                return row
        return None

    def series(self, study: DataSet, fields: Collection[str]) -> Iterator[DataSet]:
        """Yield a row for each series of a study, which is named by its own row."""
        resource = f"/studies/{first_uid(study, STUDY_INSTANCE_UID)}/series"
        question = _Question(self, resource, SERIES_INSTANCE_UID, fields)
        question.expected = first_number(study, STUDY_RELATED_SERIES)
        yield from self._of_one(question)

    def instances(
        self, study: DataSet, series: DataSet, fields: Collection[str]
    ) -> Iterator[DataSet]:
        """Yield a row for each instance of a series, which is named by its own row."""
        resource = _instances_of(
            first_uid(study, STUDY_INSTANCE_UID), first_uid(series, SERIES_INSTANCE_UID)
        )
        question = _Question(self, resource, SOP_INSTANCE_UID, fields)
        question.expected = first_number(series, SERIES_RELATED_INSTANCES)
        yield from self._of_one(question)

    def instances_among(
        self,
        study_instance_uid: str,
        series_instance_uid: str,
        fields: Collection[str],
        among: Sequence[str],
    ) -> Iterator[DataSet]:
        """Yield a row for each of these instances of a series that the service has."""
        resource = _instances_of(study_instance_uid, series_instance_uid)
        found: set[str] = set()
        for start in range(0, len(among), _UIDS_PER_QUESTION):
            some = among[start : start + _UIDS_PER_QUESTION]
            for asked in (some, *((uid,) for uid in some)):
                # Who does not know lists of UIDs (PS3.4 section C.2.2.2.2) is asked one by one.
                if set(asked) <= found:
                    continue
                key = ("SOPInstanceUID", ",".join(asked))
                question = _Question(self, resource, SOP_INSTANCE_UID, fields, (key,))
                question.expected = len(asked)
                for row in question.rows():
                    uid = first_uid(row, SOP_INSTANCE_UID)
                    if uid in asked and uid not in found:
                        found.add(uid)
                        yield row

    def require_answer(self) -> None:
        """Ask for any one study, to see that the service answers questions."""
        self.ask("/studies", (("limit", "1"),))

    def ask(self, resource: str, parameters: Sequence[tuple[str, str]]) -> HttpAnswer:
        """Ask for one page; a service that is busy, or was lost, is asked again a little later."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self.service.search(resource, parameters)
                is_absent = answer.status == 404 and resource != "/studies"
                if answer.status in (200, 204, 206) or is_absent:
                    return answer
                raise self.service.failure(answer.status, answer.retry_after)
            except (ServiceBusyError, AssociationLostError) as error:
                if attempt == _ATTEMPTS:
                    raise
                self.wait(seconds_until_next(error, attempt))
        raise AssertionError

    def _of_one(self, question: _Question) -> Iterator[DataSet]:
        yield from question.rows()
        self.is_incomplete = self.is_incomplete or question.may_be_capped


@dataclass
class _Question:
    """One question, asked page by page."""

    inventory: WebInventory
    resource: str
    #: What tells one row from another.
    tag: str
    fields: Collection[str]
    #: Pairs of a key and what it is to match.
    matching: Sequence[tuple[str, str]] = ()
    #: How many rows there should be: a hint, for some services count what they do not list.
    expected: int | None = None
    #: Rows that came, each once.
    count: int = 0
    #: Known when all rows were taken: the service says that there are more than it gave.
    says_more: bool = False
    #: The same, or it looks so.
    may_be_capped: bool = False

    def rows(self) -> Iterator[DataSet]:
        """Yield each row once, page by page until a page is empty or brings nothing new."""
        mine: set[str] = set()
        offset = pages = 0
        while True:
            rows, says_more = self._page(offset)
            fresh = 0
            for row in rows:
                uid = first_uid(row, self.tag)
                if not uid:
                    self.inventory.nameless += 1
                elif uid not in mine:
                    mine.add(uid)
                    fresh += 1
                    yield row
            self.count = len(mine)
            is_all = self.expected is not None and self.count >= self.expected and not says_more
            if is_all and len(rows) < self.inventory.page:
                return
            if not fresh:
                # The same page again is no end, unless the service gave more than it was asked
                # for, or too few for any cap.
                is_repeated = bool(rows) and pages == 1
                is_like_a_cap = _LOWEST_CAP <= self.count <= self.inventory.page
                self.says_more = says_more
                is_like_a_cap = is_like_a_cap and not is_all
                is_short = self.expected is not None and self.count < self.expected
                self.may_be_capped = says_more or is_short or (is_repeated and is_like_a_cap)
                return
            offset += len(rows)
            pages += 1
            if offset > _MOST_ROWS:
                raise self._without_end()

    def _page(self, offset: int) -> tuple[list[DataSet], bool]:
        """Return the rows of one page, and whether the service says that there are more."""
        inventory = self.inventory
        paging = [("limit", str(inventory.page)), ("offset", str(offset))]
        fields = [("includefield", tag) for tag in self.fields]
        answer = inventory.ask(self.resource, [*self.matching, *fields, *paging])
        if answer.status == 204 or (answer.status == 404 and self.resource != "/studies"):
            return [], False
        # PS3.18 section 8.3.4.4.1: a service with a limit of its own says so.
        says_more = any(warning.startswith("299") for warning in answer.warnings)
        return read_rows(inventory.service.peer.name, answer), says_more or answer.status == 206

    def _without_end(self) -> DestinationError:
        return DestinationError(
            f"{self.inventory.service.peer.name} answers queries without end",
            hint="Look for a defect of the peer.",
        )


def _study_keys(row: DataSet) -> dict[Tag, str]:
    """Return what `study_inventory` looks at in the row of a study."""
    keys = {tag: text_of(row, _hex(tag)) for tag in _KEYWORDS}
    return keys | {attribute_query.STUDY_INSTANCE_UID: first_uid(row, STUDY_INSTANCE_UID)}


def _hex(tag: Tag) -> str:
    return f"{tag[0]:04X}{tag[1]:04X}"


def _instances_of(study_instance_uid: str, series_instance_uid: str) -> str:
    return f"/studies/{study_instance_uid}/series/{series_instance_uid}/instances"
