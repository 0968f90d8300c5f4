"""Bringing files back into a library that is there, through the doors that its viewer has.

Instances go into INCOMING.noindex, from which the viewer imports them; regions of interest, reports
and window states that it keeps as DICOM SR are among them. What only the old index knew goes there
as annotations SRs, and into a folder beside the library as a list of albums to be imported and as
files to be read. Nothing else of the library is written to; its index is only copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from dcmvault.app.incoming_folder import IncomingFolder, Limits
from dcmvault.app.library_beside import write_beside
from dcmvault.app.library_lookup import LibraryLookup
from dcmvault.app.library_outcome import ImportOutcome
from dcmvault.app.library_places import COMPANION_FOLDER
from dcmvault.app.library_srs import OldLibrary, make_srs
from dcmvault.app.library_user_data import read_library_json
from dcmvault.app.restored_files import RestoreFolder, one_file
from dcmvault.app.wiring.library import library_data_folder
from dcmvault.errors import (
    DestinationError,
    LibraryIncompleteError,
    ObjectExistsError,
)
from dcmvault.model.restored import FileToRestore, Restored, RestoreScope

#: Seconds to wait for a viewer that takes no file: it looks every three seconds while it runs.
PATIENCE_S = 15.0
_DESCRIPTION = "library.json"
_PIECE_BYTES = 1 << 20
#: Seconds until a viewer that has taken a file has written its index.
VIEWER_PATIENCE_S = 120.0
#: Instances of a study that are remembered, as examples of it.
_EXAMPLES = 3


class LibraryIncoming:
    """Implements `ports.restore_target.RestoreTarget` and `Concluding`: a viewer's library.

    What it holds already, under the same SOP Instance UID with the same bytes, is left; what it
    holds with other bytes is an error, since the viewer would drop the one that comes.
    """

    def __init__(
        self, base: Path, require_going: Callable[[], None], limits: Limits | None = None
    ) -> None:
        self._base = base
        data = library_data_folder(base)
        self._incoming = IncomingFolder(data, require_going, limits or Limits())
        self._companion = RestoreFolder(base.parent / COMPANION_FOLDER)
        self._library = LibraryLookup(base, self._incoming, require_going)
        self._lock = threading.Lock()
        self._settling = threading.Lock()
        self._settled = False
        self._scope: RestoreScope | None = None
        self._descriptions: list[tuple[Path, bytes]] = []
        #: Some instances of each study that is in the library, or on its way.
        self._examples: dict[str, list[FileToRestore]] = {}
        self._outcome = ImportOutcome()

    @property
    def name(self) -> str:
        """The library's address."""
        return f"horos:{self._base}"

    @property
    def keeps_versions(self) -> bool:
        """False: a library has one file of an instance."""
        return False

    def prepare(self, scope: RestoreScope) -> None:
        """Take note of what comes."""
        self._scope = scope

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Take the folder of imports; when left without an error everything is on its way."""
        with self._incoming.open(), self._companion.open():
            yield
            self._settle()

    def folds_case(self) -> bool:
        """Say whether names that differ in case only name one file beside the library."""
        return self._companion.folds_case()

    def write(self, file: FileToRestore, pieces: Iterable[bytes]) -> Restored:
        """Have the viewer import one file; what is no instance goes beside the library."""
        if file.of_library:
            return self._take_of_library(file, pieces)
        if not file.sop_instance_uid:
            with self._lock:
                self._outcome.beside += 1
            return self._companion.write(_beside(file), pieces)
        held = self._library.held(file)
        became = Restored.ALREADY_THERE
        if held is None or not held.is_file():
            became = self._incoming.write(file, pieces)
        elif not _is_same(held, file):
            raise _other_content()
        with self._lock:
            examples = self._examples.setdefault(file.study_instance_uid, [])
            if len(examples) < _EXAMPLES:
                examples.append(file)
        return became

    def read_back(self, file: FileToRestore) -> Iterator[bytes]:
        """Yield what the library has of a file now, or what waits for the viewer."""
        if file.of_library and not self._is_kept(file):
            yield self._descriptions[0][1]
            return
        if file.of_library or not file.sop_instance_uid:
            yield from self._companion.read_back(_beside(file))
            return
        self._settle()
        with one_file(reading=True), self._opened(file) as opened:
            while piece := opened.read(_PIECE_BYTES):
                yield piece

    def _opened(self, file: FileToRestore) -> BinaryIO:
        while (path := self._library.find(file)) is not None:
            # The viewer may take a file at any moment: then it is found elsewhere.
            with contextlib.suppress(FileNotFoundError):
                return path.open("rb")
        raise LibraryIncompleteError(
            "the viewer took the file, and its library has no such instance",
            hint="Look for it in the folder NOT READABLE of the library.",
        )

    def conclusion(self) -> tuple[list[str], list[DestinationError]]:
        """Say what the viewer has, what it still has to do, and what a person has to do."""
        return self._outcome.remarks(self._companion.root), self._outcome.failures()

    # What belongs to the library as a whole

    def _is_kept(self, file: FileToRestore) -> bool:
        """Say whether a file of the sidecar is put beside the library."""
        whole = self._scope is None or self._scope.is_whole
        return whole or file.locator != _DESCRIPTION

    def _take_of_library(self, file: FileToRestore, pieces: Iterable[bytes]) -> Restored:
        if file.locator == _DESCRIPTION:
            content = b"".join(pieces)
            with self._lock:
                folder = self._companion.root.joinpath(*_beside(file).parts[:-1])
                self._descriptions.append((folder, content))
            pieces = [content]
        if not self._is_kept(file):
            return Restored.WRITTEN
        return self._companion.write(_beside(file), pieces)

    def _settle(self) -> None:
        """When every file is written: add what only the index knew, and wait for the viewer.

        Done once; who comes meanwhile waits.
        """
        with self._settling:
            if not self._settled:
                self._finish()
                self._settled = True

    def _finish(self) -> None:
        libraries = []
        for folder, content in self._descriptions:
            with contextlib.suppress(ValueError, RecursionError):
                libraries.append(OldLibrary(read_library_json(content), folder))
        waiting = self._incoming.wait_until_taken(PATIENCE_S)
        if waiting and len(waiting) < self._incoming.written:
            # It runs, and is busy with what it took.
            waiting = self._incoming.wait_until_taken(VIEWER_PATIENCE_S)
        self._library.expect(VIEWER_PATIENCE_S)
        self._put_srs(libraries)
        if self._scope is not None:
            self._outcome.albums = write_beside(
                self._companion, [one.said for one in libraries], self._examples, self._scope
            )
        if not waiting and self._outcome.srs:
            waiting = self._incoming.wait_until_taken(PATIENCE_S)
        self._outcome.waiting = len(self._incoming.waiting())
        self._library.look_again()

    def _put_srs(self, libraries: list[OldLibrary]) -> None:
        """Have the viewer import what only the old index knew of the studies that are there."""
        if self._scope is None or self._scope.known_at is None:
            return
        present = self._library.says_now()
        for study, examples in sorted(self._examples.items()):
            instances = filter(None, map(self._library.find, examples))
            srs = make_srs(study, libraries, present, instances, self._scope.known_at)
            self._outcome.count(srs)
            for uid, content in srs.made.items():
                if not self._library.has(study, uid):
                    digest = hashlib.sha256(content).digest()
                    self._incoming.write(FileToRestore((), len(content), digest), [content])


def _beside(file: FileToRestore) -> FileToRestore:
    """Return the place beside the library."""
    parts = file.parts[1:] if file.of_library else ("other files", *file.parts)
    return replace(file, parts=parts)


def _is_same(path: Path, file: FileToRestore) -> bool:
    with one_file(), path.open("rb") as opened:
        if path.stat().st_size != file.size:
            return False
        return hashlib.file_digest(opened, "sha256").digest() == file.file_sha256


def _other_content() -> ObjectExistsError:
    return ObjectExistsError(
        "the library has this instance with another content, and its viewer keeps its own",
        hint="Restore into a folder to compare them. To have the old one back, delete the study in"
        " the viewer first.",
    )
