"""What a restore has to do: which files, from where in the vault, under which names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from dcmvault.app.file_ids import FileIds
from dcmvault.app.restored_names import (
    LIBRARY_FOLDER,
    PathRegister,
    safe_parts,
    source_folders,
)
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import FileToRestore, Layout, Parts
from dcmvault.model.selection import NO_STUDY, Selection
from dcmvault.vault.legible import LegibleState
from dcmvault.vault.reading import by_place
from dcmvault.vault.records import BlobsValue, InstanceRecord, Skeleton
from dcmvault.vault.repository import Vault
from dcmvault.vault.state import VaultState

#: What a library's index knew, in its sidecar.
DESCRIPTION = "library.json"
#: Files of one chunk at most, and their bytes: what one worker reads in few requests.
_FILES_AT_ONCE = 64
_BYTES_AT_ONCE = 4 << 20
#: Files that are put in the order of their packs at once; many studies may be small.
_FILES_IN_ORDER = 2000


@dataclass(frozen=True, slots=True)
class RestoreTask:
    """One file to be made: how it comes about, and where it goes."""

    record: InstanceRecord
    file: FileToRestore


@dataclass(slots=True)
class RestorePlan:
    """Walks over a state again and again: to count, to find shared paths, to give out tasks.

    So memory does not grow with what the vault holds but by 8 bytes for a file.
    """

    vault: Vault
    state: VaultState
    legible: LegibleState
    selection: Selection
    paths: PathRegister
    layout: Layout
    #: Is called after each study of the first pass.
    looked_at: Callable[[], None]
    #: Of several contents of one SOP Instance UID only the newest comes; of what belongs to a
    #: library as a whole, even when only a part is restored, what its index knew of that.
    newest_only: bool = False
    #: Only what came from this source, by its address; empty: from any.
    only_source: str = ""
    studies: int = 0
    files: int = 0
    bytes: int = 0
    _sources: set[str] = field(default_factory=set)
    _folders: dict[str, str] = field(default_factory=dict)

    def make(self) -> None:
        """Do the first pass; UsageError if a study or series that is wanted is not there.

        Where something cannot be read, what is not found may be there: that is told by whoever
        made `legible`.
        """
        missing = {*self.selection.studies}
        missing_series = {*self.selection.series}
        found: set[tuple[str, str]] = set()
        for study, about, records in self._selected():
            self.studies += 1
            found |= values_of(about or {})
            missing.discard(study_word(study))
            for record in records:
                missing_series.discard(record.series_instance_uid)
                self._count(record)
                if self.layout is not Layout.DICOM:
                    self.paths.note((record.source, *safe_parts(record.locator)))
            self.looked_at()
        if not self.legible.losses:
            self._require_found(missing, missing_series, found)
        library = list(self._library())
        for record, parts in library:
            self._count(record)
            self.paths.note((record.source, *parts))
        if len(self._sources) > 1:
            self._folders = source_folders(self._sources)
        if self.paths.close():
            for _study, _about, records in self._selected():
                for record in records:
                    self._contend(record, safe_parts(record.locator))
            for record, parts in library:
                self._contend(record, parts)

    def _require_found(
        self, missing: set[str], missing_series: set[str], found: set[tuple[str, str]]
    ) -> None:
        for name in sorted(missing):
            raise not_there(_("The vault holds no study %s.") % name)
        for name in sorted(missing_series):
            raise not_there(_("The vault holds no series %s.") % name)
        if not self.studies and self.only_source:
            raise not_there(_("The vault holds nothing from the source %s.") % self.only_source)
        require_values(self.selection, found)
        if not self.studies and self.selection.asks_attributes:
            raise not_there(_("The vault holds nothing that was asked for."))

    @property
    def sources(self) -> frozenset[str]:
        """The addresses of the sources of what is to be restored, after `make`."""
        return frozenset(self._sources)

    def chunks(self) -> Iterator[list[RestoreTask]]:
        """Do the second pass: tasks in the order of the packs, as many as one worker takes.

        Each call walks again, to the same tasks.
        """
        waiting: list[RestoreTask] = []
        for _study, _patient, tasks in self.studies_in_order():
            waiting += tasks
            if len(waiting) >= _FILES_IN_ORDER:
                yield from self._divided(waiting)
                waiting = []
        yield from self._divided(waiting)

    def studies_in_order(self) -> Iterator[tuple[str, str, list[RestoreTask]]]:
        """List studies with what tells their patients apart; tasks by series, then by number."""
        ids = FileIds()
        for study, about, records in self._selected():
            patient = (about or {}).get("patient_id", "") or study
            if self.layout is Layout.DICOM:
                named = [
                    (record, ids.name(patient, study, record.series_instance_uid))
                    for record in sorted(records, key=_series_order)
                ]
            else:
                named = [(record, self._original(record)) for record in records]
            yield (
                study,
                patient,
                [RestoreTask(record, _file(study, record, parts)) for record, parts in named],
            )

    def library_chunks(self) -> Iterator[list[RestoreTask]]:
        """Give out, in the same way, the files that belong to libraries as a whole."""
        tasks = []
        for record, parts in self._library():
            file = _file("", record, self._library_path(record, parts))
            tasks.append(RestoreTask(record, replace(file, of_library=True)))
        yield from self._divided(tasks)

    def _selected(
        self,
    ) -> Iterator[tuple[str, Mapping[str, str] | None, list[InstanceRecord]]]:
        wanted = self.selection
        asks = wanted.asks_attributes or self.layout is Layout.DICOM
        for uid, about in self._overview():
            if about is not None and not wanted.describes(about):
                continue
            records = [
                record
                for record in self._records(uid)
                if wanted.names(study_word(uid), record.series_instance_uid)
            ]
            if not records:
                continue
            if about is None and asks:
                about = self.legible.about(uid)
                if not wanted.describes(about):
                    continue
            yield uid, about, records

    def _records(self, uid: str) -> list[InstanceRecord]:
        records = self.legible.records(uid)
        if self.only_source:
            records = [record for record in records if record.source == self.only_source]
        if not self.newest_only:
            return records
        newest: dict[str, InstanceRecord] = {}
        for record in sorted(records, key=lambda one: (one.stored_at, one.file_sha256)):
            newest[record.sop_instance_uid or record.locator] = record
        return list(newest.values())

    def _overview(self) -> Iterator[tuple[str, Mapping[str, str] | None]]:
        """List studies that may be meant, each with what is known of it without its records."""
        wanted = self.selection
        if wanted.studies and not wanted.series and not wanted.asks_attributes:
            for name in dict.fromkeys(wanted.studies):
                yield "" if name == NO_STUDY else name, None
            return
        for uid, entry in self.legible.overview():
            if wanted.may_name(study_word(uid)):
                yield uid, None if entry is None else entry.about

    def _count(self, record: InstanceRecord) -> None:
        self.files += 1
        self.bytes += record.size
        self._sources.add(record.source)

    def _contend(self, record: InstanceRecord, parts: Parts) -> None:
        self.paths.contend((record.source, *parts), record.stored_at, record.file_sha256)

    def _original(self, record: InstanceRecord) -> Parts:
        key = (record.source, *safe_parts(record.locator))
        parts = self.paths.place(key, record.file_sha256)[1:]
        if self._folders:
            parts = (self._folders[record.source], *parts)
        return parts

    def _divided(self, tasks: list[RestoreTask]) -> Iterator[list[RestoreTask]]:
        chunk: list[RestoreTask] = []
        size = 0
        for task in by_place(self.vault, tasks, lambda task: task.record):
            chunk.append(task)
            size += task.record.size
            if len(chunk) >= _FILES_AT_ONCE or size >= _BYTES_AT_ONCE:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk

    # What belongs to a library as a whole

    def _library(self) -> Iterator[tuple[InstanceRecord, Parts]]:
        """List the files of sidecars as records, with the paths that they would like."""
        if not (self.selection.is_whole or self.newest_only):
            return
        newest: dict[str, tuple[tuple[str, int, bytes, tuple[bytes, ...]], ...]] = {}
        for state in sorted(self.state.states, key=lambda state: state.created_at):
            newest |= state.sidecars
        for source, files in sorted(newest.items()):
            if self.only_source not in ("", source):
                continue
            for name, size, sha256, blobs in files:
                if not self.selection.is_whole and name != DESCRIPTION:
                    continue
                record = replace(
                    _NO_RECORD,
                    locator=name,
                    size=size,
                    file_sha256=sha256,
                    values=(BlobsValue(0, "v", 1, blobs),),
                    source=source,
                )
                yield record, (LIBRARY_FOLDER, *safe_parts(source)[-1:], *safe_parts(name))

    def _library_path(self, record: InstanceRecord, parts: Parts) -> Parts:
        placed = self.paths.place((record.source, *parts), record.file_sha256)[1:]
        if self._folders:
            placed = (LIBRARY_FOLDER, self._folders[record.source], *placed[2:])
        return placed


def _series_order(record: InstanceRecord) -> tuple[str, int, str, str, str]:
    number = record.instance_number.strip()
    return (
        record.series_instance_uid,
        int(number) if number.isascii() and number.isdecimal() else 0,
        record.sop_instance_uid,
        record.source,
        record.locator,
    )


def _file(study: str, record: InstanceRecord, parts: Parts) -> FileToRestore:
    return FileToRestore(
        parts=parts,
        size=record.size,
        file_sha256=record.file_sha256,
        mtime_ns=record.mtime_ns,
        study_instance_uid=study,
        series_instance_uid=record.series_instance_uid,
        sop_instance_uid=record.sop_instance_uid,
        sop_class_uid=record.sop_class_uid,
        transfer_syntax_uid=record.transfer_syntax_uid,
        source=record.source,
        locator=record.locator,
    )


_NO_RECORD = InstanceRecord("", "", "", "", "", "", 0, 0, b"", Skeleton(b"", 0, 0, 0), ())


def study_word(study_instance_uid: str) -> str:
    """Return how people write a study's UID; that of files that are no instances is `-`."""
    return study_instance_uid or NO_STUDY


def values_of(about: Mapping[str, str]) -> set[tuple[str, str]]:
    """Return what a study is asked for by, each with the name of the attribute."""
    return {(name, about.get(name, "")) for name in ("patient_id", "accession_number")}


def require_values(selection: Selection, found: Collection[tuple[str, str]]) -> None:
    """Raise UsageError if some patient or accession number asked for is not among several."""
    for name, values, text in (
        ("patient_id", selection.patients, _("Nothing that was asked for has the Patient ID %s.")),
        (
            "accession_number",
            selection.accessions,
            _("Nothing that was asked for has the Accession Number %s."),
        ),
    ):
        for value in sorted({*values}):
            if len({*values}) > 1 and (name, value) not in found:
                raise not_there(text % value)


def not_there(message: str) -> UsageError:
    """Say that what was named is not there."""
    return UsageError(message, hint=_("`dcmvault find` and `dcmvault ls` show what it holds."))
