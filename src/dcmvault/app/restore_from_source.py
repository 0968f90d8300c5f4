"""Restore from any source that is no vault: a folder, a library, a PACS, an Orthanc, DICOMweb."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dcmvault.app.file_ids import FileIds
from dcmvault.app.restore_plan import not_there, require_values, values_of
from dcmvault.app.restore_report import RestoreFailure, RestoreRequest
from dcmvault.app.restored_directory import RestoredDirectory
from dcmvault.app.restored_names import safe_parts
from dcmvault.app.restoring import Restoring
from dcmvault.dicom.digest import file_sha256
from dcmvault.errors import DestinationError, EntryUnreadableError
from dcmvault.i18n import gettext as _
from dcmvault.model.instance import (
    Claim,
    InstanceEntry,
    InstanceFile,
    InstanceHeader,
    UnreadableEntry,
)
from dcmvault.model.restored import FileToRestore, Layout
from dcmvault.pipeline.examination import examine_listed
from dcmvault.pipeline.selection import may_be_meant, remarks_of, studies_of
from dcmvault.ports.source import HasSidecar, Source

_PIECE_BYTES = 1 << 20


@dataclass(slots=True)
class RestoreFromSource:
    """Restores what a source holds now, file by file as it gives them.

    How much that is, is known at the end only. Memory grows with what is restored: a few hundred
    bytes for a file.
    """

    request: RestoreRequest
    source: Source
    work: Restoring
    directory: RestoredDirectory | None
    _ids: FileIds = field(default_factory=FileIds)
    _patients: dict[str, str] = field(default_factory=dict)
    _studies: dict[str, list[FileToRestore]] = field(default_factory=dict)
    _series: set[str] = field(default_factory=set)
    #: Patient IDs and Accession Numbers that were met.
    _found: set[tuple[str, str]] = field(default_factory=set)

    def run(self) -> None:
        """Do it, at an opened target."""
        for study in studies_of(self.source, self.request.selection):
            entries = (
                entry
                for entry in self.source.entries(study)
                if entry.claim is Claim.DICOM and may_be_meant(entry, self.request.selection)
            )
            self._restore(entries)
        self._require_named()
        report = self.work.report
        report.studies = len(self._studies)
        if not remarks_of(self.source).lists_all:
            for warning in remarks_of(self.source).warnings:
                self.work.fail(RestoreFailure("unreadable", warning))
        take = None if self.directory is None else self.directory.take
        self.work.read_back(self._in_order(), take)
        if self.directory is not None:
            self.directory.finish(self.work)
        if isinstance(self.source, HasSidecar):
            report.remarks.append(
                _(
                    "What the library holds beside its instances (albums, comments, reports) does "
                    "not come so: back it up into a vault, and restore it from there."
                )
            )

    def _restore(self, entries: Iterable[InstanceEntry]) -> None:
        for answer in self.source.read(entries):
            self.work.look()
            if isinstance(answer, UnreadableEntry):
                self._failed(answer.entry, answer.code, answer.message)
                continue
            found = examine_listed(answer, include_other_files=False)
            if found.unreadable is not None:
                self._failed(answer.entry, found.unreadable.code, found.unreadable.message)
            elif found.header is not None:
                self._take(answer, found.header)
            elif found.opaque_reason and self.request.selection.is_whole:
                self._take(answer, None)

    def _take(self, answer: InstanceFile, header: InstanceHeader | None) -> None:
        chosen = self.request.selection
        if header is not None and not (
            chosen.names(header.study_instance_uid, header.series_instance_uid)
            and chosen.describes(header.study._asdict())
        ):
            return
        try:
            file = self._file(answer, header)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            self._failed(answer.entry, EntryUnreadableError.code, f"It cannot be read: {reason}.")
            return
        self.work.report.selected.add(file.size)
        self._studies.setdefault(file.study_instance_uid, []).append(file)
        self._series.add(file.series_instance_uid)
        if header is not None and chosen.asks_attributes:
            self._found |= values_of(header.study._asdict())
        self.work.write(file, _pieces(answer.path, file.file_sha256))

    def _file(self, answer: InstanceFile, header: InstanceHeader | None) -> FileToRestore:
        study = "" if header is None else header.study_instance_uid
        series = "" if header is None else header.series_instance_uid
        patient = study if header is None else header.study.patient_id or study
        self._patients[study] = patient
        by_number = self.work.report.layout is Layout.DICOM
        locator = answer.entry.locator
        return FileToRestore(
            parts=self._ids.name(patient, study, series) if by_number else safe_parts(locator),
            size=answer.path.stat().st_size,
            file_sha256=file_sha256(answer.path),
            mtime_ns=answer.path.stat().st_mtime_ns,
            study_instance_uid=study,
            series_instance_uid=series,
            sop_instance_uid="" if header is None else header.sop_instance_uid,
            sop_class_uid="" if header is None else header.sop_class_uid,
            transfer_syntax_uid="" if header is None else header.transfer_syntax_uid,
            source=self.source.name,
            locator=locator,
        )

    def _failed(self, entry: InstanceEntry, code: str, message: str) -> None:
        self.work.report.selected.add(0)
        uid = entry.expected_sop_instance_uid
        study = "" if entry.indexed is None else entry.indexed.study_instance_uid
        self.work.fail(
            RestoreFailure(
                code,
                message,
                study_instance_uid=study,
                sop_instance_uid=uid,
                locator=entry.locator,
            )
        )

    def _require_named(self) -> None:
        """Raise UsageError where what was named is not there; what is there was restored."""
        if self.work.report.failures:
            return  # it may be among them
        chosen = self.request.selection
        for name in sorted({*chosen.studies} - self._studies.keys()):
            raise not_there(_("The source holds no study %s.") % name)
        for name in sorted({*chosen.series} - self._series):
            raise not_there(_("The source holds no series %s.") % name)
        require_values(chosen, self._found)
        if chosen.asks_attributes and not self._studies:
            raise not_there(_("The source holds nothing that was asked for."))

    def _in_order(self) -> Iterator[tuple[str, list[FileToRestore]]]:
        for uid, files in self._studies.items():
            if self.directory is not None:
                self.directory.know(uid, self._patients[uid])
            yield uid, sorted(files, key=lambda file: file.parts)


def _pieces(path: Path, sha256: bytes) -> Iterator[bytes]:
    """Yield a file that may be another by now; DestinationError at its end if it is."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                yield piece
    except OSError as error:
        # Of the source, not of the disk that is restored to.
        raise DestinationError(
            f"the source's file cannot be read: {os.strerror(error.errno or 0)}"
        ) from error
    if digest.digest() != sha256:
        raise DestinationError(
            "the source's file changed while it was read", hint="Run the same command again."
        )
