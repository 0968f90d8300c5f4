"""The directory of a restored DICOM File-set: made of what was read back, study by study."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from dcmvault.app.file_ids import FILE_ID_PATTERN
from dcmvault.app.restore_report import RestoreFailure
from dcmvault.app.restored_files import RestoreFolder
from dcmvault.app.restoring import Restoring, ends_all
from dcmvault.errors import DestinationError, ObjectExistsError
from dcmvault.model.instance import InstanceIdentity, InstanceKind
from dcmvault.model.restored import FileToRestore
from dcmvault.ports.restore_target import RestoreTarget

if TYPE_CHECKING:
    from dcmvault.dicom.directory import DirectoryWriter

_PIECE_BYTES = 1 << 20


@dataclass(slots=True)
class RestoredDirectory:
    """Collects the records of restored instances in a temporary file, then writes them."""

    _file: BinaryIO
    _writer: DirectoryWriter
    #: Instances that have a record.
    _named: int = 0
    #: By study: who its patient is.
    _patients: dict[str, str] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def begun(cls) -> Iterator[Self]:
        """Begin one; what it was collected in is gone when left."""
        from dcmvault.dicom.directory import DirectoryWriter  # noqa: PLC0415 - when needed

        with tempfile.TemporaryFile(prefix="dcmvault-") as file:
            opened = cast("BinaryIO", file)
            yield cls(opened, DirectoryWriter(opened))

    def know(self, study_instance_uid: str, patient: str) -> None:
        """Say whose study this is, before it is taken."""
        self._patients[study_instance_uid] = patient

    def take(self, study_instance_uid: str, files: list[tuple[FileToRestore, bytes]]) -> None:
        """Add the instances of a study, each with the beginning of its file; by one thread."""
        from dcmvault.dicom.directory import directory_entry  # noqa: PLC0415 - when needed

        self._named += sum(bool(file.sop_instance_uid) for file, _head in files)
        patient = self._patients.pop(study_instance_uid, study_instance_uid)
        self._writer.add_study(
            patient,
            (
                directory_entry(
                    file.parts,
                    InstanceIdentity(
                        file.study_instance_uid, file.series_instance_uid, file.sop_instance_uid
                    ),
                    InstanceKind(file.sop_class_uid, file.transfer_syntax_uid),
                    head,
                )
                for file, head in files
                if file.sop_instance_uid
            ),
        )

    def finish(self, work: Restoring) -> None:
        """Write the directory, or note why that cannot be.

        One that an earlier restore made is replaced, unless files are there that only it names.
        """
        from dcmvault.dicom.directory import (  # noqa: PLC0415 - when needed
            DIRECTORY_MARK,
            DIRECTORY_NAME,
        )

        self._writer.close()
        self._file.seek(0)
        digest = hashlib.sha256()
        for piece in self._pieces():
            digest.update(piece)
        file = FileToRestore(
            parts=(DIRECTORY_NAME,),
            size=self._file.tell(),
            file_sha256=digest.digest(),
            replaces=DIRECTORY_MARK.encode(),
        )
        self._file.seek(0)
        try:
            if _loses_names(work.target, DIRECTORY_NAME, self._named):
                raise ObjectExistsError(
                    "the DICOMDIR that is there may name files that this restore does not; it was"
                    " left as it is",
                    hint="Restore into another folder.",
                )
            work.target.write(file, self._pieces())
        except DestinationError as error:
            if ends_all(error):
                raise
            work.fail(RestoreFailure(error.code, error.message, error.hint, locator=DIRECTORY_NAME))

    def _pieces(self) -> Iterator[bytes]:
        while piece := self._file.read(_PIECE_BYTES):
            yield piece


def _loses_names(target: RestoreTarget, directory: str, named: int) -> bool:
    """Say whether a folder has a directory, and more instances of a File-set than `named`."""
    if not isinstance(target, RestoreFolder) or not (target.root / directory).exists():
        return False
    return sum(1 for _path in target.root.glob(FILE_ID_PATTERN)) > named
