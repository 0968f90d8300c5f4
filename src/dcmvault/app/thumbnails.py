"""One small picture of a series, on demand: decoded by a process that can do no harm, and kept.

Pictures lie in the state folder under names that say nothing (mode 0600), of bounded size in all.
A file that made no picture is remembered as one without: an empty file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.readable import as_source
from dcmvault.config.sections import (
    FolderSourceSection,
    HorosSourceSection,
    VaultSourceSection,
)
from dcmvault.errors import DcmvaultError
from dcmvault.model.instance import InstanceFile
from dcmvault.model.study_detail import Picture
from dcmvault.vault.damage import read_in_spite_of_damage
from dcmvault.vault.reading import FileReader
from dcmvault.vault.state import present_state

#: Columns and rows that a picture fits into.
SIDE = 160
_FOLDER = "thumbnails"
_LARGEST_FILE = 512 << 20
_LARGEST_PICTURE = 256 << 10
_MOST_KEPT_BYTES = 64 << 20
#: Wall time of the process that decodes; it has fewer seconds on the processor.
_TIMEOUT_S = 30.0
#: How many are made at once; who comes then, and for so long (s), is told that there is none now.
_AT_ONCE = 2
_PATIENCE_S = 30.0
_NO_PICTURE = 3
_MODULE = "dcmvault.dicom.thumbnail_process"


class Thumbnails:
    """Makes and keeps pictures; for several threads."""

    def __init__(self, workplace: Workplace, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._workplace = workplace
        self._folder = workplace.home / _FOLDER
        self._timeout_s = timeout_s
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        #: A source is used by one thread at a time.
        self._reading = threading.Lock()

    def knows(self, study_instance_uid: str, series_instance_uid: str) -> bool:
        """Say whether there is such a series, whatever picture it gives."""
        details = self._workplace.catalogue.details
        return details.picture(study_instance_uid, series_instance_uid) is not None

    def of_series(self, study_instance_uid: str, series_instance_uid: str) -> bytes | None:
        """Return a JPEG; None where the series has no picture, or none can be had now."""
        picture = self._workplace.catalogue.details.picture(study_instance_uid, series_instance_uid)
        if picture is None or picture.size > _LARGEST_FILE:
            return None
        kept = self._folder / _name(study_instance_uid, series_instance_uid, picture)
        with contextlib.suppress(OSError):
            os.utime(kept)
            return kept.read_bytes() or None
        if not self._turns.acquire(timeout=_PATIENCE_S):
            return None
        try:
            made = self._make(study_instance_uid, picture)
        finally:
            self._turns.release()
        if made is not None:
            self._keep(kept, made)
        return made or None

    def _make(self, study_instance_uid: str, picture: Picture) -> bytes | None:
        """Return a picture, empty where the file gives none; None where it cannot be read now."""
        with tempfile.TemporaryFile(dir=self._private_folder()) as copy:
            with self._reading:
                found = self._read_original(picture, copy) or self._read_copy(
                    study_instance_uid, picture, copy
                )
            if not found:
                return None
            copy.flush()
            return picture_of(copy, timeout_s=self._timeout_s)

    def _private_folder(self) -> Path:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return self._folder

    def _read_original(self, picture: Picture, into: BinaryIO) -> bool:
        """Read the source's own file, where that is a file on this machine."""
        for address, entry in picture.originals:
            with contextlib.suppress(DcmvaultError, OSError):
                section = self._workplace.source_section(address)
                if not isinstance(section, FolderSourceSection | HorosSourceSection):
                    continue
                reading = self._workplace.source(address).read([entry])
                for one in reading:
                    if isinstance(one, InstanceFile):
                        with one.path.open("rb") as original:
                            return _copy(iter(lambda: original.read(1 << 20), b""), into)
        return False

    def _read_copy(self, study_instance_uid: str, picture: Picture, into: BinaryIO) -> bool:
        """Read it from a vault."""
        for address in picture.copies:
            with contextlib.suppress(DcmvaultError, OSError):
                section = as_source(self._workplace.destination_section(address))
                if not isinstance(section, VaultSourceSection):
                    continue
                vault = self._workplace.vault(section)
                read_in_spite_of_damage(vault)
                for record in present_state(vault).records(study_instance_uid):
                    if record.sop_instance_uid == picture.sop_instance_uid:
                        with ThreadPoolExecutor(1, thread_name_prefix="thumbnail") as decoders:
                            return _copy(FileReader(vault, [record], decoders).pieces(record), into)
        return False

    def _keep(self, path: Path, picture: bytes) -> None:
        """Keep a picture, and let go of those that nobody asked for longest."""
        with contextlib.suppress(OSError):
            # Made with mode 0600.
            descriptor, new = tempfile.mkstemp(dir=self._private_folder(), prefix=".new-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(picture)
            Path(new).replace(path)
            kept = sorted(
                ((one.stat().st_mtime, one.stat().st_size, one) for one in self._folder.iterdir()),
                reverse=True,
            )
            total = 0
            for _at, size, one in kept:
                total += max(size, 4096)
                if total > _MOST_KEPT_BYTES:
                    one.unlink(missing_ok=True)


def picture_of(file: BinaryIO, *, side: int = SIDE, timeout_s: float = _TIMEOUT_S) -> bytes:
    """Decode a file in a process of its own; empty where it gives no picture, whatever it did.

    The process has limits of memory, processor time and files, and is killed when it takes too
    long; nothing of the environment is passed on.
    """
    file.seek(0)
    child = subprocess.Popen(
        [sys.executable, "-I", "-m", _MODULE, str(side)],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    assert child.stdout is not None
    killer = threading.Timer(timeout_s, _kill, [child])
    killer.start()
    picture = b""
    try:
        # One byte more tells that there is too much.
        picture = child.stdout.read(_LARGEST_PICTURE + 1)
    finally:
        if len(picture) > _LARGEST_PICTURE:
            _kill(child)
        child.stdout.close()
        status = child.wait()
        killer.cancel()
        killer.join()
    is_jpeg = picture[:2] == b"\xff\xd8" and len(picture) <= _LARGEST_PICTURE
    return picture if status == 0 and is_jpeg else b""


def _kill(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _copy(pieces: Iterator[bytes], into: BinaryIO) -> bool:
    into.seek(0)
    into.truncate()
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > _LARGEST_FILE:
            return False
        into.write(piece)
    return total > 0


def _name(study_instance_uid: str, series_instance_uid: str, picture: Picture) -> str:
    parts = (study_instance_uid, series_instance_uid, picture.sop_instance_uid, str(SIDE))
    told = "\0".join(parts).encode() + picture.file_sha256
    return hashlib.sha256(told).hexdigest()
