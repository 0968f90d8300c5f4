"""A folder tree with DICOM files in it, listed by name and read in place."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator

from dcmvault.config.sections import FolderSourceSection
from dcmvault.model.instance import InstanceEntry, InstanceFile, StudyRef, UnreadableEntry
from dcmvault.model.remarks import SourceRemarks
from dcmvault.sources import local_files
from dcmvault.sources.local_files import FolderListing, LocalRoot

_log = logging.getLogger(__name__)

#: What fsck leaves in the root of a volume; only root may list it, and nobody stores there.
_RECOVERED = "lost+found"


class FolderSource:
    r"""A Source over a folder: every regular file below it is an entry.

    A StudyRef is a folder that directly holds files; its locator is the path relative to the
    root (`.` for the root). An entry's locator is the file's relative path with `/` between
    names; backslashes and bytes that are not UTF-8 are written `\\` and `\xNN`.

    Every file claims to be DICOM until it is read, but for a DICOMDIR and what operating systems
    leave behind. Symbolic links are not followed: what they name inside the root is reached
    under its own name (once, without loops), and what lies outside is not this source's.
    A folder that cannot be listed to its end is itself an entry with a zero fingerprint, so that
    `read` reports it. Memory is bounded by the largest single folder.
    """

    def __init__(self, section: FolderSourceSection) -> None:
        self._root = LocalRoot(os.path.realpath(section.path))
        #: What `studies` found in the folder that it is at.
        self._listed: tuple[str, FolderListing] | None = None
        self._lists_all = True

    @property
    def name(self) -> str:
        """The canonical absolute path of the root."""
        return os.fsencode(self._root.path).decode(errors="backslashreplace")

    def studies(self) -> Iterator[StudyRef]:
        """List the folders that hold files, depth first, by name."""
        self._root.check()
        self._lists_all = True
        leading_out = 0
        for relative, listing in local_files.walk(self._root.path):
            self._lists_all &= listing.complete or relative == _RECOVERED
            leading_out += sum(self._leads_out(relative, link) for link in listing.links)
            if listing.files or not (listing.complete or relative == _RECOVERED):
                # Who goes on to its entries now need not list the folder once more.
                self._listed = (relative, listing)
                try:
                    yield StudyRef(local_files.escape(relative) or ".")
                finally:
                    self._listed = None
        self._root.ensure_there()
        if leading_out:
            _log.warning(
                "%d symbolic links lead out of the source folder and were not followed",
                leading_out,
            )

    def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
        """List the files of one folder, by name."""
        relative = "" if study.locator == "." else local_files.unescape(study.locator)
        folder = self._path(relative)
        listing: FolderListing | None
        if self._listed is not None and self._listed[0] == relative:
            listing, self._listed = self._listed[1], None
        else:
            listing = local_files.list_folder(folder)
        if listing is None:
            self._root.ensure_there()
            return
        if not listing.complete:
            self._lists_all = False
            yield InstanceEntry(study.locator, local_files.NO_FINGERPRINT)
        locator = "" if study.locator == "." else study.locator
        yield from local_files.examine_all(folder, locator, listing.files)
        self._root.ensure_there()

    def read(
        self,
        entries: Iterable[InstanceEntry],
        *,
        kept: int = 1,  # noqa: ARG002 - they lie where they lie
    ) -> Iterator[InstanceFile | UnreadableEntry]:
        """Check each file once more, and hand out its path."""
        for entry in entries:
            relative = local_files.unescape(entry.locator)
            if relative.startswith("/") or not local_files.can_be_a_path(relative):
                yield local_files.nameless(entry)
            else:
                yield local_files.readable(entry, self._path(relative), self._root)

    def remarks(self) -> SourceRemarks:
        """Say whether the last iteration of `studies`, with their entries, found everything."""
        return (
            SourceRemarks()
            if self._lists_all
            else SourceRemarks((local_files.NOT_ALL_LISTED,), lists_all=False)
        )

    def _path(self, relative: str) -> str:
        return os.path.join(self._root.path, relative) if relative else self._root.path  # noqa: PTH118

    def _leads_out(self, relative: str, link: str) -> bool:
        target = os.path.realpath(self._path(local_files.join(relative, link)))
        inside = self._root.path.rstrip("/") + "/"
        return not (target + "/").startswith(inside)
