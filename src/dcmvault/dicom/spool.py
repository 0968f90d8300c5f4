"""The spool: a folder of Part 10 files that were sent to us and are still to be backed up.

    SPOOL/lock
    SPOOL/arriving/NUMBER.part          being received; removed when a listener starts
    SPOOL/studies/STUDY/INSTANCE.dcm    durable, whole, and answered for

The folder is the queue: what lies under `studies` is what was answered with 0000, whatever
happened since. STUDY and INSTANCE are made of the SHA-256 of the UIDs, never of what they say.
Another content under the same UID gets a name of its own (`INSTANCE-2.dcm` ...).
"""

from __future__ import annotations

import fcntl
import filecmp
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from dcmvault.dicom.part10 import scan
from dcmvault.dicom.received import part10_head
from dcmvault.durability import make_durable, make_names_durable
from dcmvault.errors import MalformedDicomError, StateError
from dcmvault.model.instance import Fingerprint, InstanceHeader

_log = logging.getLogger(__name__)

STORED = 0x0000
#: PS3.4 table B.2-1.
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

#: Hexadecimal digits of a digest in a name.
_DIGITS = 40
_STUDIES = "studies"
_ARRIVING = "arriving"
#: Bytes that may come between two looks at the free space.
_LOOK_EVERY = 1024 * 1024


def study_name(study_instance_uid: str) -> str:
    """Return the name of a study's folder."""
    return _hashed(study_instance_uid)


def instance_names(sop_instance_uid: str) -> Iterator[str]:
    """Yield the names that contents of one instance may have, in the order they are taken."""
    stem = _hashed(sop_instance_uid)
    yield f"{stem}.dcm"
    number = 2
    while True:
        yield f"{stem}-{number}.dcm"
        number += 1


def _hashed(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:_DIGITS]


class Spool:
    """The spool of one listener. Safe for several threads; one process at a time has it.

    `budget` is how many bytes it may hold (0: no limit of its own), `reserve` how many stay free
    on its disk. `arrived` is told the name of the study of each instance that became durable.
    Used as a context.
    """

    def __init__(
        self,
        folder: Path,
        *,
        budget: int = 0,
        reserve: int = 0,
        arrived: Callable[[str], None] = lambda _study: None,
    ) -> None:
        self.folder = folder
        self._budget = budget
        self._reserve = reserve
        self._lock = threading.Lock()
        self._placing = threading.Lock()
        #: Bytes in it, those that are arriving included.
        self._used = 0
        self._arrived = 0
        #: Studies whose folder has a durable name, by name; used under `_placing`.
        self._durable: set[str] = set()
        self._guard: int | None = None
        self._tell_arrived = arrived

    @property
    def studies(self) -> Path:
        """The folder of the studies' folders."""
        return self.folder / _STUDIES

    @property
    def used(self) -> int:
        """Bytes in it, those that are arriving included."""
        return self._used

    def __enter__(self) -> Self:
        """Make it if there is none, and take it; StateError when that is not possible.

        The folder in which it lies must be there.
        """
        try:
            # Without its parents: where these are missing, so is the volume.
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self.studies.mkdir(mode=0o700, exist_ok=True)
            (self.folder / _ARRIVING).mkdir(mode=0o700, exist_ok=True)
            make_names_durable(self.folder)
            make_names_durable(self.folder.parent)
            self._guard = os.open(
                self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # What a listener that was killed made may not be durable yet.
            make_names_durable(self.studies)
            self._durable = {path.name for path in self.studies.iterdir()}
            for leftover in (self.folder / _ARRIVING).iterdir():
                leftover.unlink()
            self._used = sum(path.stat().st_size for path in self.studies.glob("*/*.dcm"))
        except BlockingIOError:
            self._let_go()
            raise StateError(
                "another listener has this spool",
                hint="One listener at a time receives into a folder: end the other one.",
            ) from None
        except FileNotFoundError:
            self._let_go()
            raise StateError(
                "the folder in which the spool lies is not there",
                hint="Is its volume mounted? Make it yourself, or check `folder` in [listener].",
            ) from None
        except OSError as error:
            self._let_go()
            raise StateError(
                f"the spool cannot be used: {error.strerror}",
                hint="Check the folder of the spool (`folder` in [listener]) and its disk.",
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._let_go()

    def has_room(self) -> bool:
        """Say whether more may come: within the budget, and the reserve of its disk untouched."""
        if self._budget and self._used >= self._budget:
            return False
        try:
            disk = os.statvfs(self.folder)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize > self._reserve

    def begin(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> ArrivingInstance:
        """Begin to receive an instance; a full spool shows in its status.

        The UIDs must be usable ones (`command.is_usable_uid`).
        """
        with self._lock:
            self._arrived += 1
            number = self._arrived
        head = part10_head(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
        path = self.folder / _ARRIVING / f"{number}.part"
        return ArrivingInstance(self, path, sop_instance_uid, head)

    def take(self, size: int) -> None:
        """Count bytes in (negative: out)."""
        with self._lock:
            self._used += size

    def place(self, arrived: Path, header: InstanceHeader) -> None:
        """Give a durable file its name, durably; it is dropped if the same bytes are there.

        Raises OSError; nothing may be answered for then.
        """
        study = self.studies / study_name(header.study_instance_uid)
        with self._placing:
            study.mkdir(mode=0o700, exist_ok=True)
            self._make_name_durable(study)
            for name in instance_names(header.sop_instance_uid):
                path = study / name
                if not path.exists():
                    arrived.rename(path)
                    break
                if filecmp.cmp(path, arrived, shallow=False):
                    self.take(-arrived.stat().st_size)
                    arrived.unlink()
                    break
        # Also for bytes that were there: who brought them may not be done with it.
        make_names_durable(study)
        self._tell_arrived(study.name)

    def remove(self, study: str, name: str, fingerprint: Fingerprint) -> bool:
        """Remove an instance, and the study's folder after its last one; say whether it was so.

        A file that is not the one of the fingerprint stays.
        """
        path = self.studies / study / name
        with self._placing:
            try:
                status = path.stat()
                found = Fingerprint(status.st_size, status.st_mtime_ns, status.st_ino)
                if found != fingerprint:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
            self.take(-status.st_size)
            self._durable.discard(study)
            with suppress(OSError):  # others are in it
                path.parent.rmdir()
        return True

    def sop_classes(self, sop_instance_uids: Collection[str]) -> dict[str, set[str]]:
        """Return which SOP classes the contents held under these SOP Instance UIDs have.

        Each file is opened: what cannot be read is not held.
        """
        wanted = {_hashed(uid): uid for uid in sop_instance_uids}
        found: dict[str, set[str]] = {}
        for study in self.studies.iterdir():
            named = [(wanted.get(name[:_DIGITS]), name) for name in _names_in(study)]
            if any(uid for uid, _name in named):
                # Their names may be there and not be durable yet.
                with self._placing:
                    self._make_name_durable(study)
                make_names_durable(study)
            for uid, name in named:
                if uid is None:
                    continue
                try:
                    header = scan(study / name)
                except (OSError, MalformedDicomError) as error:
                    _log.warning("cannot read a file of the spool (%s)", type(error).__name__)
                    continue
                if header.sop_instance_uid == uid:
                    found.setdefault(uid, set()).add(header.sop_class_uid)
        return found

    def _make_name_durable(self, study: Path) -> None:
        """Bring a study's folder to the medium, once: it may be there, and only in memory."""
        if study.name not in self._durable:
            make_names_durable(self.studies)
            if study.is_dir():  # else it was removed meanwhile, and comes anew
                self._durable.add(study.name)

    def _let_go(self) -> None:
        if self._guard is not None:
            os.close(self._guard)
            self._guard = None


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names, not paths: there may be many
    except FileNotFoundError:
        return []


class ArrivingInstance:
    """One instance on its way into the spool, written from front to back by one thread.

    Once something is wrong its status says so, and further bytes are only counted off.
    """

    def __init__(self, spool: Spool, path: Path, sop_instance_uid: str, head: bytes) -> None:
        self._spool = spool
        self._path = path
        self._sop_instance_uid = sop_instance_uid
        self._size = 0
        self._next_look = 0
        self._descriptor = -1
        #: What will be answered (PS3.4 table B.2-1), as far as it is known.
        self.status = STORED
        try:
            self._descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            self._fail(error)
        else:
            self.write(head)

    def write(self, data: bytes | memoryview) -> None:
        """Go on with the file."""
        if self.status != STORED:
            return
        if self._size >= self._next_look:
            self._next_look = self._size + _LOOK_EVERY
            if not self._spool.has_room():
                _log.warning("the spool is full: an instance was answered with A700")
                self.status = OUT_OF_RESOURCES
                self.drop()
                return
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            self._fail(error)
            return
        self._size += len(data)
        self._spool.take(len(data))

    def finish(self) -> int:
        """Make it durable under its name; return the status to answer (PS3.4 table B.2-1)."""
        if self.status != STORED:
            return self.status
        try:
            header = scan(self._path)
            if self._lacks_identity(header):
                self.drop()
                return self.status
            make_durable(self._descriptor)
            self._spool.place(self._path, header)
        except MalformedDicomError as error:
            _log.warning("refused an instance: %s", error.message)
            self.status = CANNOT_UNDERSTAND
            self.drop()
        except OSError as error:
            self._fail(error)
        else:
            os.close(self._descriptor)
            self._descriptor = -1
        return self.status

    def drop(self) -> None:
        """Remove what there is of it; harmless after `finish`."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        # Where it has its name already it stays, though nobody knows for how long.
        with suppress(OSError):
            self._path.unlink()
            self._spool.take(-self._size)

    def _lacks_identity(self, header: InstanceHeader) -> bool:
        if header.sop_instance_uid != self._sop_instance_uid:
            self.status = DOES_NOT_MATCH
        elif not (header.study_instance_uid and header.series_instance_uid):
            self.status = CANNOT_UNDERSTAND
        if self.status != STORED:
            _log.warning("refused an instance: its data set lacks a UID, or has another one")
        return self.status != STORED

    def _fail(self, error: OSError) -> None:
        _log.error("cannot keep an instance: %s", error.strerror or type(error).__name__)
        self.status = OUT_OF_RESOURCES
        self.drop()
