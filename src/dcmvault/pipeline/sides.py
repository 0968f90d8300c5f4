"""The two sides of a comparison: a place whose files are listed, or a peer that is asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import Any, Protocol

from dcmvault.errors import DestinationUnreachableError, SourceUnavailableError
from dcmvault.model.comparison import Contents, HeldStudy, SideNotes, StudySummary
from dcmvault.model.instance import (
    Claim,
    Fingerprint,
    InstanceEntry,
    InstanceHeader,
    StudyRef,
    UnreadableEntry,
)
from dcmvault.pipeline.examination import examine_listed
from dcmvault.pipeline.selection import remarks_of
from dcmvault.pipeline.sorted_spill import SortedSpill
from dcmvault.ports.source import IndexMayErr, Source, Summarises

#: Entries that are listed, and files whose headers are read, at once.
_AT_ONCE = 500
#: The fingerprint of what is listed, but cannot be examined.
_ABSENT = Fingerprint(0, 0, 0)
#: Questions, one after the other, over which a peer is lost before it is given up.
_MOST_LOST = 3

#: Is told how many studies were listed so far, and how many files.
Progress = Callable[[int, int], None]


class Side(Protocol):
    """One of the two places."""

    notes: SideNotes

    def studies(self) -> Iterator[HeldStudy]:
        """Yield every study once, in ascending order of UIDs. Raises SourceUnavailableError."""
        ...

    def look(self, study_instance_uid: str) -> HeldStudy | None:
        """Look again for a study that `studies` did not yield; None where it is not there."""
        ...

    def listed(self, study: HeldStudy) -> HeldStudy:
        """Return a study with its instances."""
        ...

    def having(self, study: HeldStudy, missing: Mapping[str, Collection[str]]) -> HeldStudy:
        """Look again for instances, by series, that it did not list; add those that are there."""
        ...

    def entries(self, study_instance_uids: Collection[str]) -> Iterator[tuple[str, InstanceEntry]]:
        """Yield what can be read of these studies, each with its Study Instance UID."""
        ...


class ListedSide:
    """A folder, a library, a vault or an Orthanc: what it lists is all that it has.

    Its entries are sorted by study on disk. Where no index that is to be believed names an
    instance, the header of its file is read.
    """

    def __init__(self, source: Source, spill: SortedSpill, progress: Progress) -> None:
        self.notes = SideNotes()
        self._source = source
        self._spill = spill
        self._progress = progress
        self._believes_index = not (isinstance(source, IndexMayErr) and source.index_may_err)

    def studies(self) -> Iterator[HeldStudy]:
        """List everything, then yield it by study."""
        for studies, study in enumerate(self._source.studies(), 1):
            entries = self._source.entries(study)
            while some := list(islice(entries, _AT_ONCE)):
                self._take(some)
                self._progress(studies, self._spill.count)
        remarks = remarks_of(self._source)
        self.notes.may_have_more = not remarks.lists_all
        for warning in remarks.warnings:
            self.notes.tell(warning)
        for uid, rows in groupby(self._spill.rows(), key=lambda one: one[0]):
            yield _held(uid, (row for _key, row in rows))

    def look(self, study_instance_uid: str) -> HeldStudy | None:  # noqa: ARG002 - nothing more
        """Return nothing: what was not listed is not there."""
        return None

    def listed(self, study: HeldStudy) -> HeldStudy:
        """Return it: it was listed with its instances."""
        return study

    def having(
        self,
        study: HeldStudy,
        missing: Mapping[str, Collection[str]],  # noqa: ARG002 - there are no more
    ) -> HeldStudy:
        """Return it: what was not listed is not there."""
        return study

    def entries(self, study_instance_uids: Collection[str]) -> Iterator[tuple[str, InstanceEntry]]:
        """Yield the entries as they were listed."""
        for uid, row in self._spill.rows():
            if uid in study_instance_uids:
                yield uid, _entry(row)

    def _take(self, entries: Iterable[InstanceEntry]) -> None:
        unknown: list[InstanceEntry] = []
        for entry in entries:
            if entry.claim is Claim.OTHER:
                continue
            if entry.fingerprint == _ABSENT:
                self._lack("something is listed that cannot be examined")
            elif entry.indexed is not None and self._believes_index and _is_named(entry.indexed):
                self._add(entry, entry.indexed)
            elif entry.indexed is None and entry.file_sha256:
                self.notes.not_instances += 1  # a vault knows what it holds
            else:
                unknown.append(entry)
        for answer in self._source.read(unknown) if unknown else ():
            if isinstance(answer, UnreadableEntry):
                self._lack(answer.message)
                continue
            scanned = examine_listed(answer, include_other_files=False)
            if scanned.header is not None:
                self._add(answer.entry, scanned.header)
            elif scanned.unreadable is not None:
                self._lack(scanned.unreadable.message)
            elif scanned.opaque_reason:
                self.notes.not_instances += 1

    def _lack(self, reason: str) -> None:
        self.notes.unreadable += 1
        self.notes.tell(reason)

    def _add(self, entry: InstanceEntry, header: InstanceHeader) -> None:
        self._spill.add(
            header.study_instance_uid,
            [
                header.series_instance_uid,
                header.sop_instance_uid,
                entry.file_sha256.hex(),
                header.series.modality,
                header.study.study_date,
                header.study.accession_number,
                entry.locator,
                *entry.fingerprint,
            ],
        )


def _is_named(header: InstanceHeader) -> bool:
    identity = header.identity
    return bool(
        identity.study_instance_uid and identity.series_instance_uid and identity.sop_instance_uid
    )


def _held(uid: str, rows: Iterable[list[Any]]) -> HeldStudy:
    """Put a study together from the rows of its instances, each of which may come twice."""
    series: dict[str, dict[str, set[bytes]]] = {}
    unread: set[str] = set()
    modalities: set[str] = set()
    date = accession = ""
    for series_uid, sop_uid, digest, modality, study_date, accession_number, *_entry in rows:
        contents = series.setdefault(series_uid, {}).setdefault(sop_uid, set())
        if digest:
            contents.add(bytes.fromhex(digest))
        else:
            unread.add(sop_uid)
        modalities.add(modality)
        date, accession = date or study_date, accession or accession_number
    known: dict[str, dict[str, Contents]] = {
        series_uid: {
            sop_uid: frozenset() if sop_uid in unread else frozenset(contents)
            for sop_uid, contents in instances.items()
        }
        for series_uid, instances in series.items()
    }
    instances = sum(map(len, known.values()))
    summary = StudySummary(
        uid, len(known), instances, date, accession, tuple(sorted(modalities - {""}))
    )
    return HeldStudy(summary, known)


def _entry(row: list[Any]) -> InstanceEntry:
    _series, sop_uid, digest, _modality, _date, _accession, locator, *fingerprint = row
    return InstanceEntry(
        locator,
        Fingerprint(*fingerprint),
        expected_sop_instance_uid=sop_uid,
        file_sha256=bytes.fromhex(digest),
    )


class AskedSide:
    """A PACS or a DICOMweb service: it tells of studies, and lists those that are asked for.

    Its lists may leave things out, so what they lack is asked for by UID before it is missing.
    With `only` no list is asked for, but each of these studies by its UID.
    """

    def __init__(self, source: Source, only: Collection[str] | None, progress: Progress) -> None:
        assert isinstance(source, Summarises)
        self.notes = SideNotes()
        self._source = source
        self._asked: Summarises = source
        self._only = only
        self._progress = progress
        self._lost = 0

    def studies(self) -> Iterator[HeldStudy]:
        """Tell of the studies as the peer's lists do."""
        for count, summary in enumerate(self._asked.summaries(self._only), 1):
            self._progress(count, 0)
            yield HeldStudy(summary)
        self._note_doubts()

    def look(self, study_instance_uid: str) -> HeldStudy | None:
        """Ask for one study by its UID alone; a peer that refuses that leaves it in doubt."""
        try:
            summary = None if self._only is not None else self._asked.summary(study_instance_uid)
        except SourceUnavailableError as error:
            return HeldStudy(StudySummary(study_instance_uid), {}, self._doubt(error))
        return None if summary is None else HeldStudy(summary)

    def listed(self, study: HeldStudy) -> HeldStudy:
        """Ask for the series and instances of a study."""
        uid = study.summary.study_instance_uid
        entries = list(self._source.entries(StudyRef(uid, uid)))
        self._note_doubts()
        headers = [entry.indexed for entry in entries if entry.indexed is not None]
        series: dict[str, dict[str, Contents]] = {}
        for header in headers:
            instances = series.setdefault(header.series_instance_uid, {})
            instances[header.sop_instance_uid] = frozenset()
        modalities = {header.series.modality for header in headers} - {""}
        told = study.summary
        summary = told._replace(
            series=len(series),
            instances=sum(map(len, series.values())),
            modalities=tuple(sorted(modalities)) or told.modalities,
        )
        if len(headers) < len(entries) or (not entries and told.instances != 0):
            return HeldStudy(told, series, "the peer has it, and does not list all of it")
        return HeldStudy(summary, series)

    def having(self, study: HeldStudy, missing: Mapping[str, Collection[str]]) -> HeldStudy:
        """Ask for instances by UID; a peer that refuses that leaves the study in doubt."""
        series = {uid: dict(instances) for uid, instances in (study.series or {}).items()}
        uid = study.summary.study_instance_uid
        try:
            for series_uid, wanted in missing.items():
                for found in self._asked.instances_among(uid, series_uid, wanted):
                    series.setdefault(series_uid, {})[found] = frozenset()
        except SourceUnavailableError as error:
            return HeldStudy(study.summary, study.series, self._doubt(error))
        self._lost = 0
        summary = study.summary._replace(
            series=len(series), instances=sum(map(len, series.values()))
        )
        return HeldStudy(summary, series, study.doubt)

    def _note_doubts(self) -> None:
        """Note what the peer may have beside what it lists: nobody knows its UIDs to ask by."""
        for warning in remarks_of(self._source).warnings:
            self.notes.may_have_more = True
            self.notes.tell(warning)

    def _doubt(self, error: SourceUnavailableError) -> str:
        """Return why a question has no answer; raise it of a peer that is there no more."""
        if isinstance(error.__cause__, DestinationUnreachableError):
            self._lost += 1
            if self._lost >= _MOST_LOST:
                raise error
        return error.message

    def entries(self, study_instance_uids: Collection[str]) -> Iterator[tuple[str, InstanceEntry]]:
        """List the studies anew."""
        for uid in sorted(study_instance_uids):
            for entry in self._source.entries(StudyRef(uid, uid)):
                if entry.indexed is not None:
                    yield uid, entry


def side_of(
    source: Source, only: Collection[str] | None, spill: SortedSpill, progress: Progress
) -> Side:
    """Make the side of a place; `only` are the studies to ask a peer for, if they are known."""
    if isinstance(source, Summarises):
        return AskedSide(source, only, progress)
    return ListedSide(source, spill, progress)
