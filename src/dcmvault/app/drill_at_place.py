"""Drills from what is no vault: studies are fetched, and compared with what the catalogue knows."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from dcmvault.app.restore_from_source import RestoreFromSource
from dcmvault.app.restore_report import (
    RestoreProgress,
    RestoreReport,
    RestoreRequest,
    WatchRestore,
)
from dcmvault.app.restored_files import RestoreFolder
from dcmvault.app.restoring import Restoring
from dcmvault.app.wiring.reading import ReadablePlace, open_place
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.peer_sections import CoercingSection
from dcmvault.dicom.comparison import Likeness, compare
from dcmvault.errors import (
    AddressError,
    DcmvaultError,
    MalformedDicomError,
    RunInterruptedError,
    SourceUnavailableError,
    UsageError,
)
from dcmvault.i18n import gettext as _
from dcmvault.model.drill import Drill, DrilledStudy
from dcmvault.model.instance import InstanceEntry, InstanceFile, StudyRef, UnreadableEntry
from dcmvault.model.restored import FileToRestore, Layout, Restored
from dcmvault.model.selection import Selection
from dcmvault.ports.restores import KnownCopy, KnownStudy
from dcmvault.ports.source import Source
from dcmvault.scratch import scratch_folder


def drill_at_place(
    workplace: Workplace,
    request: RestoreRequest,
    count: int,
    watch: WatchRestore,
    stop: threading.Event,
) -> Drill:
    """Restore `count` random studies of those that the place is believed to hold, to scratch.

    A file is proven by its SHA-256; what a PACS sends, which writes files anew, also by comparison
    with the file at a source. Raises UsageError where the catalogue knows of nothing there that is
    selected, SourceUnavailableError, RunInterruptedError: then nothing is written down.
    """
    place = open_place(workplace.settings, request.source)
    known = _known(workplace, place.source.name, request.selection)
    if not known:
        raise UsageError(
            _("The catalogue knows of nothing at %s that could be drilled.") % place.source.name,
            hint=_("A drill compares with what is known: back up to it, or from it, first."),
        )
    began = time.monotonic()
    chosen = random.SystemRandom().sample(known, min(count, len(known)))
    uids = sorted(one.study_instance_uid for one in chosen)
    work = _Drilling(workplace, place, request, watch, stop)
    work.look_up(uids)
    opening_s = time.monotonic() - began
    drill = Drill(
        place=place.source.name,
        drilled_at=workplace.clock.now(),
        studies=tuple(work.studies()),
        whole_studies=len(known),
        whole_bytes=sum(one.bytes for one in known),
        opening_s=opening_s,
    )
    workplace.catalogue.restores.record_drill(drill)
    return drill


def _known(workplace: Workplace, place: str, chosen: Selection) -> list[KnownStudy]:
    """List the studies that may be drilled; a series that is named stands for its study."""
    book = workplace.catalogue.restores
    return [
        one
        for one in book.known_studies(place)
        if chosen.may_name(one.study_instance_uid)
        and chosen.describes(one._asdict())
        and (
            not chosen.series
            or any(
                chosen.names(one.study_instance_uid, copy.identity.series_instance_uid)
                for copy in book.known_copies(place, one.study_instance_uid)
            )
        )
    ]


@dataclass(slots=True)
class _Drilling:
    """One drill at work."""

    workplace: Workplace
    place: ReadablePlace
    request: RestoreRequest
    watch: WatchRestore
    stop: threading.Event
    _known: dict[str, list[KnownCopy]] = field(default_factory=dict)
    _source: Source | None = None

    def look_up(self, uids: Sequence[str]) -> None:
        """Read what is known of these studies; a place that is not asked by UID is listed once."""
        book, place = self.workplace.catalogue.restores, self.place
        self._known = {uid: book.known_copies(place.source.name, uid) for uid in uids}
        self._source = place.source
        if place.by_uid:
            return
        named = {copy.locator: uid for uid, copies in self._known.items() for copy in copies}
        found: dict[str, list[InstanceEntry]] = {uid: [] for uid in uids}
        for study in place.source.studies():
            self.require_going()
            for entry in place.source.entries(study):
                if (uid := named.get(entry.locator)) is not None:
                    found[uid].append(entry)
        self._source = _Listed(place.source, found)

    def studies(self) -> Iterator[DrilledStudy]:
        """Restore studies one after the other."""
        with scratch_folder() as scratch:
            for number, (uid, copies) in enumerate(self._known.items()):
                self.require_going()
                folder = scratch / str(number)
                progress = RestoreProgress(True, files=len(self._known), done=number)
                yield self._study(uid, copies, folder, progress)
                shutil.rmtree(folder, ignore_errors=True)

    def require_going(self) -> None:
        """Raise RunInterruptedError where the drill was stopped."""
        if self.stop.is_set():
            raise RunInterruptedError(_("The restore was stopped."))

    def _study(
        self, uid: str, copies: Sequence[KnownCopy], folder: Path, progress: RestoreProgress
    ) -> DrilledStudy:
        assert self._source is not None
        target = _Scratch(folder)
        selection = Selection(studies=(uid,))
        report = RestoreReport(
            self._source.name, "", Layout.DICOM, selection, (), None, datetime.now(UTC)
        )
        work = Restoring(target, report, lambda _one: self.watch(progress), self.stop)
        request = replace(self.request, selection=selection)
        began = time.monotonic()
        problem = ""
        try:
            with target.open():
                RestoreFromSource(request, self._source, work, None).run()
        except UsageError as error:  # the place says that there is no such study
            problem = error.message
        work.end()
        seconds = time.monotonic() - began
        if report.failures:
            problem = report.failures[0].message
        problem = problem or self._compared(copies, target)
        return DrilledStudy(uid, report.read_back.files, report.read_back.bytes, seconds, problem)

    def _compared(self, copies: Sequence[KnownCopy], target: _Scratch) -> str:
        """Say what is wrong with what came; empty where all is as it is known."""
        wanted: dict[str, list[KnownCopy]] = defaultdict(list)
        for copy in copies:
            wanted[copy.identity.sop_instance_uid].append(copy)
        for uid, versions in wanted.items():
            came = [file for file in target.files if file.sop_instance_uid == uid]
            if not came:
                return f"an instance that it should hold did not come: {uid}"
            wrong = [self._wrong(version, came, target) for version in versions]
            # A PACS has one place for each identity: any of what is known to be there is right.
            if all(wrong) if self.place.by_uid else any(wrong):
                return next(filter(None, wrong))
        return ""

    def _wrong(self, copy: KnownCopy, came: Sequence[FileToRestore], target: _Scratch) -> str:
        uid = copy.identity.sop_instance_uid
        if copy.file_sha256 and any(file.file_sha256 == copy.file_sha256 for file in came):
            return ""
        if not self.place.by_uid:
            return f"an instance is not what is known of it: {uid}"
        coerced = self._coerced_tags()
        for address, entry in self._originals(copy):
            for answer in self._read(address, entry):
                if isinstance(answer, UnreadableEntry):
                    continue
                try:
                    found = [_likeness(answer.path, target.path(file), coerced) for file in came]
                except (MalformedDicomError, OSError):
                    continue
                if any(differences is None for differences in found):
                    return ""
                return f"an instance is not what was sent: {uid}: {found[0]}"
        return f"an instance came, but nothing could be compared with it at a source: {uid}"

    def _originals(self, copy: KnownCopy) -> list[tuple[str, InstanceEntry]]:
        return self.workplace.catalogue.restores.originals(copy, self.place.source.name)

    def _read(self, address: str, entry: InstanceEntry) -> Iterator[InstanceFile | UnreadableEntry]:
        try:
            yield from self.workplace.source(address).read([entry])
        except (SourceUnavailableError, AddressError) as error:
            yield UnreadableEntry(entry, error.code, error.message)

    def _coerced_tags(self) -> frozenset[int]:
        try:
            section = self.workplace.destination_section(self.place.source.name)
        except DcmvaultError:  # it is read only
            return frozenset()
        return section.coerced_tags if isinstance(section, CoercingSection) else frozenset()


class _Scratch(RestoreFolder):
    """A folder that remembers what was restored into it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.files: list[FileToRestore] = []

    def write(self, file: FileToRestore, pieces: Iterable[bytes]) -> Restored:
        """Write a file and remember it."""
        became = super().write(file, pieces)
        self.files.append(file)
        return became

    def path(self, file: FileToRestore) -> Path:
        """Return where a file lies."""
        return self.root.joinpath(*file.parts)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A source of which some studies were listed already."""

    source: Source
    found: dict[str, list[InstanceEntry]]

    @property
    def name(self) -> str:
        return self.source.name

    def studies(self) -> Iterator[StudyRef]:
        for uid in self.found:
            yield StudyRef(uid, uid)

    def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
        yield from self.found[study.locator]

    def read(
        self, entries: Iterable[InstanceEntry], *, kept: int = 1
    ) -> Iterator[InstanceFile | UnreadableEntry]:
        return self.source.read(entries, kept=kept)


def _likeness(original: Path, copy: Path, coerced: frozenset[int]) -> str | None:
    """Return how a copy differs; None where it does not but for what a peer writes itself."""
    with copy.open("rb") as file:
        found = compare(original, file.fileno(), coerced)
    return ", ".join(found.differences) if found.likeness is Likeness.DIFFERENT else None
