"""The directory of a restored DICOM File-set: made of what was read back, study by study."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Self, cast

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

    def finish(self, target: RestoreTarget) -> None:
        """Write the directory; one that an earlier restore made is replaced."""
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
        target.write(file, self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        while piece := self._file.read(_PIECE_BYTES):
            yield piece
