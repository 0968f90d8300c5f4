"""Find my images: what this machine holds that could be backed up, looked at for a bounded time."""

from __future__ import annotations

import http.client
import json
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dcmvault.app.detecting import ORTHANC_PORT, detect
from dcmvault.app.wiring.sources import build_source
from dcmvault.config.addresses import is_library, source_section
from dcmvault.config.listener_section import ListenerSection
from dcmvault.config.peer_sections import OrthancSourceSection
from dcmvault.config.sections import FolderSourceSection, HorosSourceSection, SourceSection
from dcmvault.dicom.part10 import scan
from dcmvault.errors import DcmvaultError
from dcmvault.i18n import gettext as _
from dcmvault.i18n import sentence
from dcmvault.ports.source import HasRemarks

#: Where images lie besides libraries: below the home folder, and where disks are mounted.
_HOME_FOLDERS = ("DICOM", "Documents", "Desktop", "Downloads", "Pictures")
_MOUNTS = ("/Volumes", "/media", "/mnt", "/run/media")
_MOST_MOUNTS = 30
#: A folder deeper than this below one that is looked at is not looked into.
_DEEPEST = 8
#: Files of one folder that are opened to see whether it is one with images.
_SNIFFED = 3
#: Problems that are told of one place.
_MOST_PROBLEMS = 5
_PREFIX_AT, _PREFIX = 128, b"DICM"
_HTTP_PATIENCE_S = 2.0
_LONGEST_ANSWER = 1 << 20


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how far one place is looked at."""

    seconds: float = 8.0
    #: Names in folders, or entries of an index.
    entries: int = 200_000
    #: Files whose headers are read, for studies and dates.
    headers: int = 1_500


@dataclass(frozen=True, slots=True)
class FoundPlace:
    """A place with images, or one that could have some: what was seen of it."""

    kind: str  #: horos | orthanc | folder | other
    address: str
    studies: int = 0
    #: Files, or instances as an index or a peer counts them.
    instances: int = 0
    bytes: int = 0
    #: Study Dates as eight digits; empty where none was seen.
    first_date: str = ""
    last_date: str = ""
    #: Whether all of it was looked at: else there is at least as much as the numbers say.
    is_whole: bool = True
    #: Whether dates and studies come from a part of it only.
    is_sampled: bool = False
    #: Sentences about what is not as it should be.
    problems: tuple[str, ...] = ()
    needs_login: bool = False
    #: The same place as a destination, where it takes DICOM; else empty.
    as_destination: str = ""


@dataclass(slots=True)
class _Tally:
    studies: set[str] = field(default_factory=set)
    instances: int = 0
    bytes: int = 0
    dates: set[str] = field(default_factory=set)
    is_whole: bool = True
    problems: list[str] = field(default_factory=list)

    def problem(self, words: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS and words not in self.problems:
            self.problems.append(words)

    def date(self, text: str) -> None:
        digits = text.replace(".", "").strip()
        if len(digits) == 8 and digits.isascii() and digits.isdigit():
            self.dates.add(digits)
            if len(self.dates) > 2:
                self.dates = {min(self.dates), max(self.dates)}


def find_places(
    home: Path | None = None,
    *,
    orthanc_port: int = ORTHANC_PORT,
    bounds: Bounds | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[FoundPlace]:
    """Look at the usual places one by one: libraries, a local Orthanc, folders with images.

    Nothing is written and nothing leaves this machine; links are not followed. Each place is
    yielded as soon as it was looked at.
    """
    bounds = bounds or Bounds()
    root = home or Path.home()
    libraries: list[Path] = []
    for place in detect(root, orthanc_port):
        if place.kind == "horos":
            libraries.append(Path(place.address.removeprefix("horos:")))
            yield look_at(place.address, bounds=bounds, monotonic=monotonic)
        else:
            yield _look_at_orthanc(
                place.address, place.needs_login, place.as_destination, bounds, monotonic
            )
    deadline = monotonic() + bounds.seconds
    for folder in _usual_folders(root):
        if monotonic() > deadline:
            return
        found = _walk(folder, bounds, deadline, monotonic, libraries)
        if found is not None:
            yield found


def look_at(
    address: str,
    *,
    bounds: Bounds | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> FoundPlace:
    """Look at one place that somebody names; what is wrong with it is among its problems.

    Raises AddressError for what is no address of a source.
    """
    bounds = bounds or Bounds()
    section = source_section(address)
    if isinstance(section, FolderSourceSection):
        return _look_at_folder(section, bounds, monotonic)
    if isinstance(section, HorosSourceSection):
        return _look_at_library(section, bounds, monotonic)
    if isinstance(section, OrthancSourceSection) and _is_here(section.url):
        return _look_at_orthanc(section.address, False, "", bounds, monotonic)
    return FoundPlace("other", section.address, is_whole=False)


def _is_here(url: str) -> bool:
    """Say whether a URL is on this machine: others are not spoken to for a look."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")


def _usual_folders(home: Path) -> Iterator[Path]:
    for name in _HOME_FOLDERS:
        if (home / name).is_dir() and not (home / name).is_symlink():
            yield home / name
    count = 0
    for mount in _MOUNTS:
        with suppress(OSError):
            for entry in sorted(Path(mount).iterdir()):
                if entry.is_dir() and not entry.is_symlink() and count < _MOST_MOUNTS:
                    count += 1
                    yield entry


def _look_at_folder(
    section: FolderSourceSection, bounds: Bounds, monotonic: Callable[[], float]
) -> FoundPlace:
    if not section.path.is_dir():
        problem = _("The folder is not there, or cannot be looked into.")
        return FoundPlace("folder", section.address, problems=(problem,))
    deadline = monotonic() + bounds.seconds
    found = _walk(section.path, bounds, deadline, monotonic, (), whole_folder=True)
    if found is None:
        problem = _("No DICOM file was found in it.")
        return FoundPlace("folder", section.address, is_whole=False, problems=(problem,))
    return found


@dataclass(slots=True)
class _Walk:
    """A look through one tree, breadth first, so that a deep corner hides nothing above it."""

    bounds: Bounds
    deadline: float
    monotonic: Callable[[], float]
    tally: _Tally = field(default_factory=_Tally)
    folders: list[Path] = field(default_factory=list)
    headers: int = 0
    seen: int = 0

    def over(self) -> bool:
        if self.seen > self.bounds.entries or self.monotonic() > self.deadline:
            self.tally.is_whole = False
            return True
        return False

    def look(self, folder: Path) -> Iterator[Path]:
        """Count the images of one folder and yield the folders in it."""
        files: list[tuple[Path, int]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self.seen += 1
                    if self.over():
                        break
                    with suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            if not entry.name.startswith((".", "$")):
                                yield Path(entry.path)
                        elif entry.is_file(follow_symlinks=False):
                            files.append((Path(entry.path), entry.stat().st_size))
        except OSError as error:
            self.tally.problem(
                _("A folder cannot be listed: %s.") % (error.strerror or type(error).__name__)
            )
        self._count(folder, files)

    def _count(self, folder: Path, files: list[tuple[Path, int]]) -> None:
        sniffed = sorted(files)[:_SNIFFED]
        if not any(_is_dicom(path) for path, _size in sniffed):
            return
        self.folders.append(folder)
        self.tally.instances += len(files)
        self.tally.bytes += sum(size for _path, size in files)
        for path, _size in files:
            if self.headers >= self.bounds.headers or self.over():
                break
            self.headers += 1
            try:
                header = scan(path)
            except (DcmvaultError, OSError):
                continue
            self.tally.studies.add(header.study_instance_uid)
            self.tally.date(header.study.study_date)


def _walk(
    root: Path,
    bounds: Bounds,
    deadline: float,
    monotonic: Callable[[], float],
    apart_from: list[Path] | tuple[()],
    *,
    whole_folder: bool = False,
) -> FoundPlace | None:
    walk = _Walk(bounds, deadline, monotonic)
    waiting: deque[tuple[Path, int]] = deque([(root, 0)])
    while waiting and not walk.over():
        folder, depth = waiting.popleft()
        if folder in apart_from or (folder != root and is_library(folder)):
            continue
        for below in walk.look(folder):
            if depth < _DEEPEST:
                waiting.append((below, depth + 1))
            else:
                walk.tally.is_whole = False
    if not walk.folders:
        return None
    common = root if whole_folder else Path(os.path.commonpath(walk.folders))
    tally = walk.tally
    return FoundPlace(
        "folder",
        str(common),
        studies=len(tally.studies),
        instances=tally.instances,
        bytes=tally.bytes,
        first_date=min(tally.dates, default=""),
        last_date=max(tally.dates, default=""),
        is_whole=tally.is_whole,
        is_sampled=walk.headers < tally.instances,
        problems=tuple(tally.problems),
    )


def _is_dicom(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        return os.pread(descriptor, len(_PREFIX), _PREFIX_AT) == _PREFIX
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _look_at_library(
    section: SourceSection, bounds: Bounds, monotonic: Callable[[], float]
) -> FoundPlace:
    """Count by the index; the files themselves are sized, not opened."""
    tally = _Tally()
    deadline = monotonic() + bounds.seconds
    source = build_source(section, ListenerSection())
    headers = 0
    try:
        for study in source.studies():
            tally.studies.add(study.study_instance_uid or study.locator)
            for number, entry in enumerate(source.entries(study)):
                tally.instances += 1
                tally.bytes += entry.fingerprint.size
                if number == 0 and headers < bounds.headers:
                    headers += 1
                    _date_of(section, entry.locator, tally)
            if tally.instances > bounds.entries or monotonic() > deadline:
                tally.is_whole = False
                break
        if isinstance(source, HasRemarks) and tally.is_whole:
            for warning in source.remarks().warnings:
                tally.problem(sentence(warning))
    except DcmvaultError as error:
        tally.is_whole = False
        tally.problem(sentence(error.message))
    return FoundPlace(
        "horos",
        section.address,
        studies=len(tally.studies),
        instances=tally.instances,
        bytes=tally.bytes,
        first_date=min(tally.dates, default=""),
        last_date=max(tally.dates, default=""),
        is_whole=tally.is_whole,
        is_sampled=not tally.is_whole,
        problems=tuple(tally.problems),
    )


def _date_of(section: SourceSection, locator: str, tally: _Tally) -> None:
    assert isinstance(section, HorosSourceSection)
    with suppress(DcmvaultError, OSError, ValueError):
        tally.date(scan(section.path / locator).study.study_date)


def _look_at_orthanc(
    address: str,
    needs_login: bool,
    as_destination: str,
    bounds: Bounds,
    monotonic: Callable[[], float],
) -> FoundPlace:
    if needs_login:
        problem = _("It wants a user and a password before it tells anything.")
        return FoundPlace("orthanc", address, is_whole=False, problems=(problem,), needs_login=True)
    tally = _Tally()
    url = urlsplit(address.partition("+")[2])
    figures: dict[str, int] = {}
    try:
        counted = _asked(url.hostname or "", url.port or 80, "/statistics")
        if isinstance(counted, dict):
            for key in ("CountStudies", "CountInstances", "TotalDiskSize"):
                figures[key] = int(counted.get(key, 0))
        deadline = monotonic() + bounds.seconds
        for page in range(0, bounds.headers, _PAGE):
            path = f"/studies?expand&since={page}&limit={_PAGE}"
            rows = _asked(url.hostname or "", url.port or 80, path)
            if not isinstance(rows, list) or not rows or monotonic() > deadline:
                break
            for row in rows:
                tags = row.get("MainDicomTags", {}) if isinstance(row, dict) else {}
                if isinstance(tags, dict):
                    tally.studies.add(str(row.get("ID")))
                    tally.date(str(tags.get("StudyDate", "")))
    except (OSError, http.client.HTTPException, ValueError, TypeError):
        tally.problem(_("It did not answer as an Orthanc does."))
    return FoundPlace(
        "orthanc",
        address,
        studies=figures.get("CountStudies", 0),
        instances=figures.get("CountInstances", 0),
        bytes=figures.get("TotalDiskSize", 0),
        first_date=min(tally.dates, default=""),
        last_date=max(tally.dates, default=""),
        is_whole=not tally.problems,
        is_sampled=len(tally.studies) < figures.get("CountStudies", 0),
        problems=tuple(tally.problems),
        as_destination=as_destination,
    )


_PAGE = 250


def _asked(host: str, port: int, path: str) -> object:
    """Return what an Orthanc on this machine answers; ValueError for too much, or too slowly."""
    connection = http.client.HTTPConnection(host, port, timeout=_HTTP_PATIENCE_S)
    deadline = time.monotonic() + _HTTP_PATIENCE_S
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            raise ValueError(response.status)
        answer = b""
        while piece := response.read1(1 << 16):
            answer += piece
            if len(answer) > _LONGEST_ANSWER or time.monotonic() > deadline:
                raise ValueError("too long")
        return json.loads(answer)
    except RecursionError:
        raise ValueError("too deep") from None
    finally:
        connection.close()
