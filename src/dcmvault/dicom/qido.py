"""Asking a DICOMweb service what it holds: QIDO-RS by UIDs, page by page (PS3.18 section 10.6).

Answers are read as sets of UIDs. Services cap their pages, ignore offsets, repeat rows: what is
asked ends when a page brings nothing new.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.dicomweb import DicomwebConnection, ServiceBusyError
from dcmvault.dicom.find import StudyCounts
from dcmvault.dicom.http_connection import HttpAnswer
from dcmvault.dicom.web_answers import DataSet, first_number, first_uid, read_data_sets
from dcmvault.errors import DestinationError, MalformedDicomError
from dcmvault.model.instance import InstanceIdentity

_SOP_INSTANCE_UID = "00080018"
_STUDY_INSTANCE_UID = "0020000D"
_SERIES_INSTANCE_UID = "0020000E"
_STUDY_RELATED_SERIES = "00201206"
_STUDY_RELATED_INSTANCES = "00201208"

#: Asked for at once; a row has one or two kilobytes.
_PAGE = 500
#: What a service answers that fails over what it has.
_CANNOT_LIST = 500
#: UIDs in one question: addresses of some thousand characters are too long for some services.
_UIDS_PER_QUESTION = 20
#: More rows about one series are a defect of the peer.
_MOST_ROWS = 500_000
#: Seconds that all questions about one study may take; every answer has a limit of its own, too.
_LONGEST_QUERY_S = 2 * 3600.0


@dataclass
class WebStudyQuery:
    """Questions about studies, each noted in `asked` as raw proof.

    Raises DestinationError when the service refuses a question or answers with something else,
    and DestinationUnreachableError when it does not answer.
    """

    service: DicomwebConnection
    #: One row per question: level, UIDs asked for, rows, final status. JSON-able.
    asked: list[Mapping[str, object]] = field(default_factory=list)
    #: Seconds from now within which all questions must be answered.
    longest_s: float = _LONGEST_QUERY_S
    page: int = _PAGE

    def __post_init__(self) -> None:
        self._deadline = time.monotonic() + self.longest_s

    @property
    def peer_name(self) -> str:
        """How messages call the peer."""
        return self.service.peer.name

    @property
    def is_open(self) -> bool:
        """While there is time: another question makes a connection of its own, if it must."""
        return time.monotonic() < self._deadline

    def study_counts(self, study_instance_uid: str) -> StudyCounts:
        """Ask for (0020,1206) and (0020,1208) of one study."""
        answers = 0
        series: int | None = None
        instances: int | None = None
        for row in self._study_rows(study_instance_uid):
            answers += 1
            # A row that does not say which study it counts proves nothing about ours.
            if first_uid(row, _STUDY_INSTANCE_UID) == study_instance_uid:
                series = _highest(series, first_number(row, _STUDY_RELATED_SERIES))
                instances = _highest(instances, first_number(row, _STUDY_RELATED_INSTANCES))
        return StudyCounts(answers, series, instances)

    def series_uids(self, study_instance_uid: str) -> frozenset[str]:
        """Return the Series Instance UIDs of one study."""
        keys = {_STUDY_INSTANCE_UID: study_instance_uid}
        return frozenset(self._uids("SERIES", keys, _SERIES_INSTANCE_UID))

    def instance_uids(
        self,
        study_instance_uid: str,
        series_instance_uid: str,
        among: Collection[str] = (),
    ) -> frozenset[str]:
        """Return the SOP Instance UIDs of one series.

        `among` asks for these UIDs only, which finds what a capped answer left out.
        """
        keys = {
            _STUDY_INSTANCE_UID: study_instance_uid,
            _SERIES_INSTANCE_UID: series_instance_uid,
        }
        wanted = sorted(among)
        found: set[str] = set()
        for start in range(0, max(len(wanted), 1), _UIDS_PER_QUESTION):
            some = wanted[start : start + _UIDS_PER_QUESTION]
            found.update(self._uids("INSTANCE", keys, _SOP_INSTANCE_UID, some))
        return frozenset(found)

    def elsewhere(self, study_instance_uid: str, most: int) -> Iterator[InstanceIdentity]:
        """Yield one instance each of so many other studies at most, those that come first.

        They are asked for one by one: a service that reads files for its answer may fail for one
        study, and lists the next. Raises DestinationUnreachableError.
        """
        seen = {study_instance_uid}
        for number in range(most + 1):
            one_of = [("limit", "1"), ("offset", str(number))]
            study = self._first("/studies", one_of, _STUDY_INSTANCE_UID)
            uid = study.get(_STUDY_INSTANCE_UID, "")
            if uid in seen or not is_usable_uid(uid):
                continue
            seen.add(uid)
            keys = (_SERIES_INSTANCE_UID, _SOP_INSTANCE_UID)
            found = self._first(f"/studies/{uid}/instances", [("limit", "1")], *keys)
            if all(found.values()) and found:
                yield InstanceIdentity(uid, *(found[key] for key in keys))

    def _first(
        self, resource: str, parameters: Sequence[tuple[str, str]], *keys: str
    ) -> Mapping[str, str]:
        """Return some UIDs of the first row; none where there is no row, or no answer to this."""
        try:
            rows, _has_more = self._ask(resource, parameters)
        except ServiceBusyError as error:
            if error.status != _CANNOT_LIST:
                raise
            return {}
        return {key: first_uid(rows[0], key) for key in keys} if rows else {}

    def _uids(
        self, level: str, keys: Mapping[str, str], tag: str, among: Sequence[str] = ()
    ) -> Iterator[str]:
        """Ask page by page for the values of `tag` in all rows that match `keys`."""
        if not all(map(is_usable_uid, (*keys.values(), *among))):
            return  # no instance has such a UID
        study = keys[_STUDY_INSTANCE_UID]
        resource = f"/studies/{study}"
        series = keys.get(_SERIES_INSTANCE_UID, "")
        if series:
            resource += f"/series/{series}"
        resource += "/series" if level == "SERIES" else "/instances"
        matching = [("SOPInstanceUID", ",".join(among))] if among else []
        seen: set[str] = set()
        total = 0
        while True:
            paging = [("limit", str(self.page)), ("offset", str(total))]
            rows, has_more = self._ask(resource, [*matching, *paging])
            if rows is None:
                # What is not there: the series, the study, or the whole service?
                if self._is_there(study, series):
                    raise self.service.failure(404)
                rows = []
            total += len(rows)
            # A service that ignores a key answers with more than was asked for.
            fresh = {
                uid
                for row in rows
                if all(first_uid(row, key) in (value, "") for key, value in keys.items())
                and (uid := first_uid(row, tag))
            } - seen
            yield from fresh
            seen |= fresh
            if not fresh or not has_more:
                break
            if total > _MOST_ROWS:
                raise DestinationError(
                    f"{self.peer_name} answers queries without end",
                    hint="Look for a defect of the peer.",
                )
        self._note(level, series, len(among), total)

    def _is_there(self, study_instance_uid: str, series_instance_uid: str) -> bool:
        """Say whether the service lists a study, and in it a series if one is asked for."""
        rows = self._study_rows(study_instance_uid)
        if not any(first_uid(row, _STUDY_INSTANCE_UID) for row in rows):
            return False
        return not series_instance_uid or series_instance_uid in self.series_uids(
            study_instance_uid
        )

    def _study_rows(self, study_instance_uid: str) -> list[DataSet]:
        if not is_usable_uid(study_instance_uid):
            return []  # empty, it would ask for everything there is
        fields = [
            ("includefield", tag) for tag in (_STUDY_RELATED_SERIES, _STUDY_RELATED_INSTANCES)
        ]
        rows, _has_more = self._ask("/studies", [("StudyInstanceUID", study_instance_uid), *fields])
        if rows is None:
            raise self.service.failure(404)
        self._note("STUDY", "", 0, len(rows))
        return rows

    def _ask(
        self, resource: str, parameters: Sequence[tuple[str, str]]
    ) -> tuple[list[DataSet] | None, bool]:
        """Return the rows of one page and whether there may be more; None for "not found"."""
        if not self.is_open:
            raise DestinationError(
                f"{self.peer_name} did not answer all questions within {self.longest_s:g} s",
                hint="The peer or the network between is overloaded or stuck.",
            )
        answer = self.service.search(resource, parameters)
        if answer.status == 404:
            return None, False
        if answer.status == 204:
            return [], False
        if answer.status not in (200, 206):
            raise self.service.failure(answer.status, answer.retry_after)
        rows = read_rows(self.peer_name, answer)
        # PS3.18 section 8.3.4.4.1: a service with a limit of its own says so.
        is_capped = any(warning.startswith("299") for warning in answer.warnings)
        return rows, is_capped or answer.status == 206 or len(rows) >= self.page

    def _note(self, level: str, series_instance_uid: str, uids_asked: int, answers: int) -> None:
        self.asked.append(
            {
                "level": level,
                "series_instance_uid": series_instance_uid,
                "uids_asked": uids_asked,
                "answers": answers,
            }
        )


def _highest(known: int | None, count: int | None) -> int | None:
    return known if count is None else max(count, known or 0)


def require_search_answer(service: DicomwebConnection, answer: HttpAnswer) -> None:
    """Raise DestinationError unless this is how a service answers that lets us search."""
    if answer.status not in (200, 204, 206):
        raise service.failure(answer.status)
    read_rows(service.peer.name, answer)


def read_rows(peer: str, answer: HttpAnswer) -> list[DataSet]:
    """Read the rows of an answer; DestinationError for what is none."""
    try:
        return read_data_sets(answer.body) if answer.body.strip() else []
    except MalformedDicomError as error:
        raise DestinationError(
            f"{peer} answers queries with what is not DICOM: {error.message}",
            hint="Check the path in the address, or look for a defect of the peer.",
        ) from error
