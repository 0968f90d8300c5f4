"""Listing and reading an Orthanc."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dcmvault.config.peer_sections import OrthancSourceSection
from dcmvault.dicom.orthanc_rest import (
    OrthancBusyError,
    OrthancRest,
    Patience,
    ResourceGoneError,
    ResourceUnreadableError,
    unavailable,
)
from dcmvault.dicom.web_access import WebAccess, look_up_access
from dcmvault.errors import DestinationStoppedError, SourceUnavailableError
from dcmvault.model.instance import InstanceEntry, InstanceFile, StudyRef, UnreadableEntry
from dcmvault.model.remarks import SourceRemarks
from dcmvault.model.sidecar import SidecarFile, UnreadableSidecar
from dcmvault.ports.clock import Clock
from dcmvault.ports.source import Changes
from dcmvault.sources.orthanc.changes import changes_since, last_mark
from dcmvault.sources.orthanc.reading import read_instances
from dcmvault.sources.orthanc.rows import (
    InstanceRow,
    counted,
    entry_of,
    instance_row,
    instance_rows,
    locator_of,
    series_rows,
    study_row,
    unknown_entry,
)
from dcmvault.sources.orthanc.sidecar import read_sidecar

#: Listings that are tried where Orthanc lists fewer studies than it counts: some may be deleted
#: and others stored in between.
_LISTINGS = 3
#: After so many studies, one after the other, that Orthanc does not list it is not there.
_MOST_REFUSED = 5
_MOST_DOUBTS = 20


class OrthancSource:
    """A Source over Orthanc's REST interface.

    A StudyRef's locator is Orthanc's identifier of the study, an entry's is that of the study and
    that of the instance, `STUDY/INSTANCE.dcm`. Both are made of DICOM identifiers, so that what is
    deleted and stored again has the same one. The fingerprint is the size of the file, and a
    number made of the UUID that Orthanc gives each file that it writes. Secrets and certificates
    are looked up when Orthanc is first spoken to.
    """

    def __init__(
        self, section: OrthancSourceSection, clock: Clock, patience: Patience | None = None
    ) -> None:
        self._section = section
        self._clock = clock
        self._patience = patience or Patience()
        self._looked_up: WebAccess | None = None
        #: The connection of a listing that is under way.
        self._listing: OrthancRest | None = None
        self._doubts: list[str] = []
        #: Studies, one after the other, that Orthanc did not list.
        self._refused = 0

    @property
    def name(self) -> str:
        """The address in canonical form."""
        return self._section.address

    def studies(self) -> Iterator[StudyRef]:
        """List the studies, all in one answer: pages would shift when one is deleted meanwhile."""
        with self._connection() as rest, _whole():
            found = _study_ids(rest)
            self._doubts, self._refused = [], 0
            for study_id in found:
                yield StudyRef(study_id)

    def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
        """List the instances of one study; none when it is gone meanwhile.

        What one answer does not describe (an answer that is cut short, a defect) is asked for by
        itself, and listed with a zero fingerprint where that fails too. So is a study that cannot
        be listed; where Orthanc fails over several one after the other, or answers nothing, the
        source is not there.
        """
        with self._connection() as rest, _whole():
            try:
                found = list(_entries(rest, study.locator))
            except (ResourceUnreadableError, OrthancBusyError) as error:
                self._refused += 1
                if self._refused >= _MOST_REFUSED:
                    raise
                rest.json("/statistics")  # over one study, or altogether?
                if len(self._doubts) < _MOST_DOUBTS:
                    self._doubts.append(
                        f"Orthanc does not list the study {study.locator}: {error.message}"
                    )
                found = [unknown_entry(study.locator)]
            else:
                self._refused = 0
        yield from found

    def remarks(self) -> SourceRemarks:
        """Say which studies could not be listed: of those nothing is gone."""
        return SourceRemarks(tuple(self._doubts), lists_all=not self._doubts)

    def read(
        self, entries: Iterable[InstanceEntry], *, kept: int = 1
    ) -> Iterator[InstanceFile | UnreadableEntry]:
        """Fetch each file over several connections, in the order given."""
        self._patience.answered()  # when it was listed
        yield from read_instances(
            entries,
            self._rest,
            connections=self._section.max_connections,
            kept=kept,
        )

    def sidecar(self) -> Iterator[SidecarFile | UnreadableSidecar]:
        """Hand out metadata, labels, and attachments other than the instances themselves."""
        scope = self._section.sidecar
        if scope == "none":
            return
        with _whole():
            yield from read_sidecar(
                self._rest, scope=scope, connections=self._section.max_connections
            )

    def bookmark(self) -> str:
        """Return where Orthanc's log of changes ends; empty where it has no entry."""
        with self._connection() as rest, _whole():
            mark = last_mark(rest, self._clock.now())
        return mark.written() if mark else ""

    def changes_since(self, bookmark: str) -> Changes | None:
        """Read the log of changes since a bookmark; None where it does not reach it any more.

        Also where everything was listed a week ago for the last time.
        """
        with self._connection() as rest, _whole():
            return changes_since(rest, bookmark, self._clock.now())

    def count(self) -> int:
        """Count the instances."""
        with self._connection() as rest, _whole():
            return counted(rest.json("/statistics"), "CountInstances")

    @contextmanager
    def _connection(self) -> Iterator[OrthancRest]:
        """Give the connection of the listing that is under way, or one that ends here."""
        if self._listing is not None:
            yield self._listing
            return
        with self._rest() as rest:
            self._listing = rest
            try:
                yield rest
            finally:
                self._listing = None

    def _rest(self) -> OrthancRest:
        if self._looked_up is None:
            try:
                self._looked_up = look_up_access(self._section, self._clock.monotonic)
            except DestinationStoppedError as error:
                raise unavailable(error) from error
        return OrthancRest(self._looked_up, self._patience)


def _study_ids(rest: OrthancRest) -> list[str]:
    """List all studies, and believe no list that has fewer than Orthanc counts."""
    counts = [counted(rest.json("/statistics"), "CountStudies")]
    for _attempt in range(_LISTINGS):
        found = rest.ids("/studies")
        counts.append(counted(rest.json("/statistics"), "CountStudies"))
        if len(found) >= min(counts[-2:]):
            return found
    raise SourceUnavailableError(
        f"Orthanc lists {len(found):,} of {counts[-1]:,} studies.",
        hint="Allow this user to see all of them, or run again when less is stored and deleted.",
    )


def _entries(rest: OrthancRest, study_id: str) -> Iterator[InstanceEntry]:
    """List the instances of one study, in the order of their identifiers."""
    try:
        about = study_row(rest.json(f"/studies/{study_id}"))
        series = series_rows(rest.json(f"/studies/{study_id}/series?expand"))
    except ResourceGoneError:
        return
    rows = _instances(rest, f"/studies/{study_id}/instances?expand")
    missing: list[str] = []
    for instance_id in [i for one in series.values() for i in one.instance_ids]:
        if instance_id not in rows:
            try:
                row = instance_row(rest.json(f"/instances/{instance_id}"))
            except ResourceGoneError:
                continue
            except ResourceUnreadableError:
                row = None
            if row is None or row.instance_id != instance_id:
                missing.append(instance_id)
            else:
                rows[instance_id] = row
    for instance_id in sorted({*rows, *missing}):
        locator, row = locator_of(study_id, instance_id), rows.get(instance_id)
        if row is None:
            yield unknown_entry(locator)
        else:
            yield entry_of(locator, row, series.get(row.series_id), about)


def _instances(rest: OrthancRest, path: str) -> dict[str, InstanceRow]:
    """Ask for many instances in one answer; one that cannot be had leaves each to be asked for."""
    try:
        return instance_rows(rest.json(path))
    except (ResourceGoneError, ResourceUnreadableError):
        return {}


@contextmanager
def _whole() -> Iterator[None]:
    """Conclude nothing about a source where an answer that others depend on cannot be had."""
    try:
        yield
    except ResourceGoneError as error:
        raise SourceUnavailableError(
            "There is no Orthanc at this address: what it should have is not there (404).",
            hint="Check host, port and path in the address: orthanc+https://host",
        ) from error
    except ResourceUnreadableError as error:
        raise SourceUnavailableError(
            f"Orthanc cannot be listed. {error.message}", hint=error.hint
        ) from error
