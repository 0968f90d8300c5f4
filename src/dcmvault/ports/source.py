"""Where studies come from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dcmvault.model.classification import StudyMarks
from dcmvault.model.comparison import StudySummary
from dcmvault.model.instance import InstanceEntry, InstanceFile, StudyRef, UnreadableEntry
from dcmvault.model.remarks import SourceRemarks
from dcmvault.model.selection import Selection
from dcmvault.model.sidecar import SidecarFile, UnreadableSidecar


class Source(Protocol):
    """A place that holds studies. It is read, never written to.

    A source is used by one thread at a time.
    """

    @property
    def name(self) -> str:
        """The source's address in canonical form: equal for equal sources, without secrets."""
        ...

    def studies(self) -> Iterator[StudyRef]:
        """List the studies (or places that may hold some), each once, in a stable order.

        Raises SourceUnavailableError when the source as a whole cannot be read. An empty
        answer means that it was read and holds nothing; the caller judges whether that is
        believable.
        """
        ...

    def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
        """List the entries of one study without reading any file.

        Locators are unique within the source. An entry that vanishes while listing is left
        out. A file that is listed but cannot be examined is still listed, with a zero
        fingerprint, so that `read` can say why.
        """
        ...

    def read(
        self, entries: Iterable[InstanceEntry], *, kept: int = 1
    ) -> Iterator[InstanceFile | UnreadableEntry]:
        """Make entries readable, in the order given, one answer each.

        The fingerprint is checked again at read time; a difference is an UnreadableEntry with
        code `changed_while_reading`, a missing file one with `vanished`, anything else
        `unreadable`. `InstanceFile.path` is valid until the iterator was advanced `kept` times
        since, ended, or was closed. One bad entry never ends the iteration.
        """
        ...


@dataclass(frozen=True, slots=True)
class Changes:
    """What a source's log tells of the time since a pass."""

    #: Every study to which an instance was added, or in which one was replaced; each once.
    studies: Sequence[StudyRef]
    #: Where the log stands after them: kept instead of the bookmark that was asked with.
    bookmark: str


@runtime_checkable
class KeepsChanges(Protocol):
    """A source with a log of what is stored, so that not every pass lists everything.

    The log may be silent about deletions. A pass that lists only what the log names is believed
    where the source then holds exactly as many instances as are known; else everything is listed.
    """

    def bookmark(self) -> str:
        """Say where the log stands; empty where it cannot tell.

        Asked before everything is listed, and kept when that was recorded.
        """
        ...

    def changes_since(self, bookmark: str) -> Changes | None:
        """Say what was stored since; None where the log cannot tell, or it is time to list all."""
        ...

    def count(self) -> int:
        """Count the instances that the source holds now."""
        ...


@runtime_checkable
class Selective(Protocol):
    """A source that can list the studies of a selection without listing all that it holds."""

    def matching(self, selection: Selection) -> Iterator[StudyRef]:
        """List, as `studies` does, every study of which anything may be selected.

        More may be listed than is selected: what is known of a study or series has the last word.
        """
        ...


@runtime_checkable
class IndexMayErr(Protocol):
    """A source whose index may name another instance than a file holds (`InstanceEntry.indexed`).

    Its files are looked at before a destination that names an instance is believed to have it.
    Who fetches instances by the UIDs that were planned needs no such look.
    """

    @property
    def index_may_err(self) -> bool:
        """Whether this is so."""
        ...


@runtime_checkable
class HasRemarks(Protocol):
    """A source of which more is to be said than what its entries say.

    A library's index may name files that are not there; a PACS may cap its answers.
    """

    def remarks(self) -> SourceRemarks:
        """Return what the last listing found, as far as it came; nothing before the first."""
        ...


@runtime_checkable
class Summarises(Protocol):
    """A source that is asked over a network, and tells of whole studies without listing them.

    A StudyRef's locator is the Study Instance UID. What its lists leave out may be there: absence
    is believed only of what was asked for by its UID alone. All raise SourceUnavailableError.
    """

    def summaries(self, among: Collection[str] | None = None) -> Iterator[StudySummary]:
        """Tell of all studies, each once, in ascending order of their UIDs.

        With `among` no list is asked for, but each of these by its UID alone.
        """
        ...

    def summary(self, study_instance_uid: str) -> StudySummary | None:
        """Tell of one study, asked for by its UID alone; None where it is not there."""
        ...

    def instances_among(
        self, study_instance_uid: str, series_instance_uid: str, among: Collection[str]
    ) -> frozenset[str]:
        """Return those of these SOP Instance UIDs that are in a series, asked for by UID."""
        ...


@runtime_checkable
class HasSidecar(Protocol):
    """A source that holds more than instances: an index, and what only the index knows."""

    def sidecar(self) -> Iterator[SidecarFile | UnreadableSidecar]:
        """Hand out the files that belong to the source as a whole, in a stable order.

        `SidecarFile.path` is valid until the iterator is advanced or closed; it is a private
        copy, so that reading it neither fails nor disturbs the source. An unchanged source gives
        the same names and the same bytes. Memory is bounded by the largest folder, not by what
        the files hold.

        A file that cannot be read is an UnreadableSidecar (`vanished`, `changed_while_reading`
        or `unreadable`); it never ends the iteration. Raises SourceUnavailableError when the
        source as a whole is not there: then nothing may be concluded, and what was stored of the
        sidecar before still counts.
        """
        ...


@runtime_checkable
class MarksStudies(Protocol):
    """A source whose index says of studies what their files do not: locked, in an album ..."""

    def marks(self) -> Mapping[str, StudyMarks]:
        """Return it by Study Instance UID, as the last listing found; nothing before the first."""
        ...


@runtime_checkable
class PassingThrough(Protocol):
    """A source that holds studies only until they are backed up.

    What is listed no more has left it as it should where every destination holds it, and counts as
    absent without a word; what one of them lacks is lost. A source that lists nothing is believed.
    """

    @property
    def passes_through(self) -> bool:
        """Whether it is such a source."""
        ...
