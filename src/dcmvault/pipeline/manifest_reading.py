"""Reads what a place holds of studies, instance by instance, for manifests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from dcmvault.dicom.content_digests import attributes_digest, file_pixels_digest
from dcmvault.dicom.digest import data_set_digest, file_sha256
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import (
    Claim,
    InstanceEntry,
    InstanceFile,
    InstanceHeader,
    StudyRef,
    UnreadableEntry,
)
from dcmvault.model.manifest import (
    Depth,
    ListedInstance,
    ManifestProblem,
)
from dcmvault.pipeline.examination import examine_listed
from dcmvault.ports.source import IndexMayErr, Source


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """An instance of a place, and where it lies as long as it is in hand."""

    listed: ListedInstance
    locator: str
    #: None where it was not read: the place's own records told all that was asked.
    path: Path | None


@dataclass(slots=True)
class ManifestReading:
    """One pass over a place, of all studies or of those that are wanted.

    `by_uid` says that the place lists a study by its UID without listing all.
    """

    source: Source
    depth: Depth = Depth.PIXELS
    wanted: Collection[str] = ()
    by_uid: bool = False
    #: At Depth.FILE the digests that a place's own records tell are believed, and files not read.
    by_records: bool = True
    #: Told how many instances were read.
    told: Callable[[int], None] = lambda _instances: None
    problems: list[ManifestProblem] = field(default_factory=list)
    _read: int = 0

    def instances(self) -> Iterator[FoundInstance]:
        """Yield what is there; what cannot be read becomes a problem and holds nothing up.

        Raises SourceUnavailableError when the place as a whole cannot be read.
        """
        for study in self._studies():
            unread: list[InstanceEntry] = []
            for entry in self.source.entries(study):
                told = self._told_by_records(entry)
                if told is not None:
                    yield told
                elif self._may_be_wanted(entry):
                    unread.append(entry)
            yield from self._of_files(self.source.read(unread))

    def _studies(self) -> Iterable[StudyRef]:
        if self.wanted and self.by_uid:
            return [StudyRef(uid, uid) for uid in sorted(self.wanted)]
        return (
            study
            for study in self.source.studies()
            if not (self.wanted and study.study_instance_uid)
            or study.study_instance_uid in self.wanted
            or self._index_may_err
        )

    @property
    def _index_may_err(self) -> bool:
        return isinstance(self.source, IndexMayErr) and self.source.index_may_err

    def _may_be_wanted(self, entry: InstanceEntry) -> bool:
        if entry.claim is Claim.OTHER:
            return False
        if not self.wanted or entry.indexed is None or self._index_may_err:
            return True
        return entry.indexed.study_instance_uid in self.wanted

    def _told_by_records(self, entry: InstanceEntry) -> FoundInstance | None:
        """Return what a place knows of an instance that need not be read for that."""
        told = entry.indexed
        if not self.by_records or self.depth is not Depth.FILE:
            return None
        if told is None or not entry.file_sha256:
            return None
        if not told.sop_instance_uid or not self._may_be_wanted(entry):
            return None
        listed = _listed(told, entry.file_sha256, entry.fingerprint.size)
        return FoundInstance(listed, entry.locator, None)

    def _of_files(
        self, answers: Iterable[InstanceFile | UnreadableEntry]
    ) -> Iterator[FoundInstance]:
        for answer in answers:
            found = self._of_file(answer)
            if found is not None:
                self._read += 1
                self.told(self._read)
                yield found

    def _of_file(self, answer: InstanceFile | UnreadableEntry) -> FoundInstance | None:
        if isinstance(answer, UnreadableEntry):
            self._note(answer.code, answer.message, answer.entry)
            return None
        scanned = examine_listed(answer, include_other_files=False)
        if scanned.unreadable is not None:
            self._note(scanned.unreadable.code, scanned.unreadable.message, answer.entry)
            return None
        header = scanned.header
        if header is None:
            if scanned.opaque_reason:
                self._note(MalformedDicomError.code, scanned.opaque_reason, answer.entry)
            return None
        if self.wanted and header.study_instance_uid not in self.wanted:
            return None
        try:
            listed = self._digested(answer.path, header)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self._note("unreadable", f"it cannot be read: {reason}", answer.entry)
            return None
        return FoundInstance(listed, answer.entry.locator, answer.path)

    def _digested(self, path: Path, header: InstanceHeader) -> ListedInstance:
        data_set = attributes = pixels = ""
        # What does not parse to its end has no such digest; its bytes have.
        with suppress(MalformedDicomError):
            if self.depth.includes(Depth.DATA_SET):
                data_set = data_set_digest(path)
            if self.depth.includes(Depth.PIXELS):
                attributes = attributes_digest(path)
                pixels = file_pixels_digest(path)
        size = path.stat().st_size
        return replace(
            _listed(header, file_sha256(path), size),
            data_set=data_set,
            pixels=pixels,
            attributes=attributes,
        )

    def _note(self, code: str, message: str, entry: InstanceEntry) -> None:
        identity = entry.indexed.identity if entry.indexed is not None else None
        self.problems.append(ManifestProblem(code, message, entry.locator, identity))


def _listed(header: InstanceHeader, sha256: bytes, size: int) -> ListedInstance:
    return ListedInstance(
        header.identity, sha256, size, header.sop_class_uid, header.transfer_syntax_uid
    )
