"""Fetching instances from an Orthanc: several at once, checked, and handed out in order."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from dcmvault.dicom.orthanc_rest import (
    Connect,
    Connections,
    OrthancRest,
    ResourceGoneError,
    ResourceUnreadableError,
)
from dcmvault.errors import (
    EntryChangedError,
    EntryUnreadableError,
    EntryVanishedError,
    SourceUnavailableError,
)
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile, UnreadableEntry
from dcmvault.sources.fetched_files import FetchedFile, FetchedFiles
from dcmvault.sources.orthanc.rows import instance_of, instance_row, is_unknown

#: Bytes of the largest file that is fetched.
_LONGEST_FILE = 64 << 30
#: Bytes that may be on their way ahead of what was asked for, beside one file.
_AHEAD = 256 << 20
#: Bytes per second of a file that must come, after so many seconds of grace.
_SLOWEST, _GRACE_S = 4 << 10, 300.0
#: The MD5 of an attachment, behind its revision.
_ETAG = re.compile(r'"?\d+-([0-9a-f]{32})"?\Z')
_MD5 = re.compile(r"[0-9a-f]{32}\Z")


@dataclass(frozen=True, slots=True)
class _Fetching:
    """A file that is on its way, or an answer that is there already."""

    entry: InstanceEntry
    file: FetchedFile | None
    answer: Future[UnreadableEntry | None]


def read_instances(
    entries: Iterable[InstanceEntry], connect: Connect, *, connections: int, kept: int
) -> Iterator[InstanceFile | UnreadableEntry]:
    """Fetch each entry's file byte for byte, and answer in order, one for each."""
    with (
        FetchedFiles(kept=kept, longest_file=_LONGEST_FILE) as files,
        Connections(connect) as open_ones,
        ThreadPoolExecutor(connections) as workers,
    ):
        fetcher = _Fetcher(open_ones)
        coming = iter(entries)
        ahead: deque[_Fetching] = deque()
        try:
            waiting = next(coming, None)
            while ahead or waiting is not None:
                while waiting is not None and _may_begin(ahead, waiting, connections):
                    ahead.append(_begin(waiting, files, fetcher, workers))
                    waiting = next(coming, None)
                yield _end(ahead.popleft(), files)
        finally:
            for fetching in ahead:
                fetching.answer.cancel()
            fetcher.interrupt()


def _may_begin(ahead: deque[_Fetching], entry: InstanceEntry, connections: int) -> bool:
    """Say whether one more may be on its way: few files, and few bytes unless it is alone."""
    under_way = sum(one.entry.fingerprint.size for one in ahead)
    return not ahead or (
        len(ahead) < 2 * connections and under_way + entry.fingerprint.size <= _AHEAD
    )


def _begin(
    entry: InstanceEntry, files: FetchedFiles, fetcher: _Fetcher, workers: ThreadPoolExecutor
) -> _Fetching:
    answer: Future[UnreadableEntry | None]
    refusal = _refusal_at_sight(entry)
    file = None
    if refusal is None:
        try:
            file = files.new()
        except OSError as error:
            refusal = _refused(entry, _no_room(error))
    if file is None:
        answer = Future()
        answer.set_result(refusal)
        return _Fetching(entry, None, answer)
    return _Fetching(entry, file, workers.submit(fetcher.fetch, entry, file))


def _end(fetching: _Fetching, files: FetchedFiles) -> InstanceFile | UnreadableEntry:
    refusal = fetching.answer.result()
    file = fetching.file
    if file is None:
        assert refusal is not None
        return refusal
    if refusal is not None:
        file.drop()
        return refusal
    files.hand_out(file.path)
    status = file.path.stat()
    fetched = Fingerprint(status.st_size, status.st_mtime_ns, status.st_ino)
    return InstanceFile(fetching.entry, file.path, fetched=fetched)


class _Fetcher:
    """Fetches files; used by several threads."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._interrupted = False

    def interrupt(self) -> None:
        """Let what is under way end early."""
        self._interrupted = True

    def fetch(self, entry: InstanceEntry, file: FetchedFile) -> UnreadableEntry | None:
        """Fetch one file; return why it cannot be had, or nothing."""
        try:
            rest = self._connections.mine()
            rest.patience.apply(lambda: self._fetch(rest, entry, file))
            file.finish()
        except EntryUnreadableError as error:
            return _refused(entry, error)
        except SourceUnavailableError as error:
            return _refused(entry, EntryUnreadableError(error.message))
        except OSError as error:
            return _refused(entry, _no_room(error))
        return None

    def _fetch(self, rest: OrthancRest, entry: InstanceEntry, file: FetchedFile) -> None:
        """Write the file as Orthanc has it now, which must be as it was listed."""
        size = entry.fingerprint.size
        digest = hashlib.md5(usedforsecurity=False)
        must_end = time.monotonic() + _GRACE_S + size / _SLOWEST

        def take(piece: memoryview) -> None:
            if self._interrupted:
                raise EntryUnreadableError("Fetching was interrupted.")
            if time.monotonic() > must_end:
                raise EntryUnreadableError("Orthanc sends the file too slowly.")
            digest.update(piece)
            file.write(piece)

        problem: EntryUnreadableError | None = None
        etag = ""
        try:
            file.empty()
            path = f"/instances/{instance_of(entry.locator)}/attachments/dicom"
            etag = rest.fetch(f"{path}/data", take, longest=size)
        except ResourceGoneError:
            problem = EntryUnreadableError(
                "Orthanc knows the instance, but has no file of it: its storage is damaged."
            )
        except ResourceUnreadableError as error:
            problem = error
        _require_unchanged(rest, entry)
        if problem is not None:
            raise problem
        if file.size != size:
            raise EntryUnreadableError("The file is not as long as Orthanc says: it is damaged.")
        recorded = _recorded_md5(rest, path, etag)
        if recorded and recorded != digest.hexdigest():
            raise EntryUnreadableError(
                "The file has not the MD5 that Orthanc recorded when it stored it: it is damaged"
                " in Orthanc's storage, or on its way."
            )


def _require_unchanged(rest: OrthancRest, entry: InstanceEntry) -> None:
    """Raise EntryVanishedError or EntryChangedError unless the instance is what was listed."""
    instance_id = instance_of(entry.locator)
    try:
        row = instance_row(rest.json(f"/instances/{instance_id}"))
    except ResourceGoneError:
        raise EntryVanishedError("Orthanc does not have the instance any more.") from None
    if row is None or row.instance_id != instance_id:
        raise EntryUnreadableError("Orthanc does not say what it has under this name.")
    if row.fingerprint != entry.fingerprint:
        raise EntryChangedError("The instance was stored again since it was listed.")


def _recorded_md5(rest: OrthancRest, path: str, etag: str) -> str:
    """Return the MD5 that Orthanc knows of a file; empty where it keeps none."""
    if found := _ETAG.match(etag):
        return found[1]
    try:
        told = rest.text(f"{path}/md5")
    except (ResourceGoneError, ResourceUnreadableError):
        return ""
    return told if _MD5.match(told) else ""


def _refusal_at_sight(entry: InstanceEntry) -> UnreadableEntry | None:
    """Say what need not be asked for."""
    size = entry.fingerprint.size
    if is_unknown(entry) and "/" not in entry.locator:
        return _refused(entry, EntryUnreadableError("Orthanc did not list this study."))
    if not instance_of(entry.locator):
        return _refused(entry, EntryUnreadableError("No instance of an Orthanc has this name."))
    if is_unknown(entry):
        reason = "Orthanc lists the instance, and does not say what it is."
        return _refused(entry, EntryUnreadableError(reason))
    if size > _LONGEST_FILE or size > shutil.disk_usage(tempfile.gettempdir()).free:
        return _refused(entry, _no_room(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    return None


def _no_room(error: OSError) -> EntryUnreadableError:
    reason = os.strerror(error.errno or 0)
    return EntryUnreadableError(f"The file cannot be kept on this machine: {reason}.")


def _refused(entry: InstanceEntry, error: EntryUnreadableError) -> UnreadableEntry:
    return UnreadableEntry(entry, error.code, error.message)
