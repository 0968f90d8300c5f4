"""Where files are that a viewer imports: still waiting for it, or in its library."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from dcmvault.app.incoming_folder import IncomingFolder, incoming_name
from dcmvault.app.library_user_data import LibraryData, read_library_json
from dcmvault.app.wiring.library import library_description, library_holdings
from dcmvault.model.restored import FileToRestore

#: Seconds after which a copy of the index may be too old to know what was just imported.
_LOOK_AGAIN_S = 1.0


class LibraryLookup:
    """Looks into copies of a library's index, as new as they must be; for several threads."""

    def __init__(
        self, base: Path, incoming: IncomingFolder, require_going: Callable[[], None]
    ) -> None:
        self._base = base
        self._incoming = incoming
        self._require_going = require_going
        self._lock = threading.Lock()
        self._holdings = library_holdings(base)
        self._looked_at = self._expected_until = time.monotonic()

    def held(self, file: FileToRestore) -> Path | None:
        """Return the library's file of the same instance, whether or not it is there."""
        return self._holdings.files(file.study_instance_uid).get(file.sop_instance_uid)

    def has(self, study_instance_uid: str, sop_instance_uid: str) -> bool:
        """Say whether the index names an instance."""
        return sop_instance_uid in self._holdings.files(study_instance_uid)

    def look_again(self) -> None:
        """Look into a new copy of the index; who uses the old one goes on with it."""
        with self._lock:
            self._holdings = library_holdings(self._base)
            self._looked_at = time.monotonic()

    def expect(self, seconds: float) -> None:
        """Wait so long, from now on, for files that the viewer has taken to be in its index."""
        self._expected_until = time.monotonic() + seconds

    def find(self, file: FileToRestore) -> Path | None:
        """Find where a file is now; None if the viewer took it and its library has it not."""
        waiting = self._incoming.folder / incoming_name(file.file_sha256)
        while True:
            if waiting.is_file():
                return waiting
            held = self.held(file)
            if held is not None and held.is_file():
                return held
            now = time.monotonic()
            if now - self._looked_at > _LOOK_AGAIN_S:
                self.look_again()
            elif now > self._expected_until:
                return None
            else:
                self._require_going()
                time.sleep(_LOOK_AGAIN_S / 4)

    def says_now(self) -> LibraryData:
        """Read what the index says now of its studies; nothing where it cannot be read."""
        try:
            return read_library_json(library_description(self._base))
        except (ValueError, RecursionError):
            return LibraryData()
