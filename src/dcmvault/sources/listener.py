"""The listener's spool as a source: what was sent to us, once its study has settled."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator

from dcmvault.config.listener_section import ListenerSection
from dcmvault.errors import SourceUnavailableError
from dcmvault.model.instance import InstanceEntry, InstanceFile, StudyRef, UnreadableEntry
from dcmvault.sources import local_files
from dcmvault.sources.local_files import LocalRoot

#: Names that the spool gives (see `dicom.spool`).
_STUDY = re.compile(r"[0-9a-f]{40}\Z")
_INSTANCE = re.compile(r"[0-9a-f]{40}(-[0-9]+)?\.dcm\Z")


class ListenerSource:
    """A Source over the spool: a study is a folder of it, an entry a file in that.

    An instance is listed as soon as its study had no new one for `settle_s` seconds since it came,
    and from then on: one that comes later waits for itself, not for the others. Instances leave
    the spool when every destination holds them, so what is listed no more is not missed.
    """

    #: As `ports.source.PassingThrough` says.
    passes_through = True

    def __init__(self, section: ListenerSection, now: Callable[[], float] = time.time) -> None:
        """Take the spool of a listener; `now` is seconds since the epoch."""
        self._root = LocalRoot(os.path.realpath(section.spool / "studies"))
        self._settle_s = section.settle_s
        self._now = now

    @property
    def name(self) -> str:
        """The address: there is one listener."""
        return "listener:"

    def studies(self) -> Iterator[StudyRef]:
        """List the studies of which something has settled, by name."""
        if not os.path.isdir(self._root.path):  # noqa: PTH112 - a plain string, as LocalRoot has it
            raise SourceUnavailableError(
                "There is no spool: nothing was received yet, or its volume is not mounted.",
                hint="Run dcmvault listen, or check `folder` in [listener].",
            )
        self._root.check()
        listing = local_files.list_folder(self._root.path)
        for name in listing.folders if listing is not None else ():
            study = StudyRef(name)
            if _STUDY.match(name) and next(self.entries(study), None) is not None:
                yield study
        self._root.ensure_there()

    def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
        """List the settled instances of a study, in the order in which they came."""
        if not _STUDY.match(study.locator):
            return
        found: list[InstanceEntry] = []
        listing = local_files.list_folder(f"{self._root.path}/{study.locator}")
        for name in listing.files if listing is not None else ():
            locator = f"{study.locator}/{name}"
            entry = local_files.examine(locator, f"{self._root.path}/{locator}")
            if entry is not None and _INSTANCE.match(name):
                found.append(entry)
        self._root.ensure_there()
        found.sort(key=lambda entry: (entry.fingerprint.mtime_ns, entry.locator))
        yield from found[: self._settled(found)]

    def _settled(self, found: list[InstanceEntry]) -> int:
        """Return how many of the instances came before a time without any."""
        following = self._now()
        for count in range(len(found), 0, -1):
            came = found[count - 1].fingerprint.mtime_ns / 1e9
            # One from the future (the clock was set back) must not wait for ever.
            if following - came >= self._settle_s or came > self._now() + self._settle_s:
                return count
            following = came
        return 0

    def read(
        self,
        entries: Iterable[InstanceEntry],
        *,
        kept: int = 1,  # noqa: ARG002 - they lie where they lie
    ) -> Iterator[InstanceFile | UnreadableEntry]:
        """Check each file once more, and hand out its path."""
        for entry in entries:
            study, _slash, name = entry.locator.partition("/")
            if _STUDY.match(study) and _INSTANCE.match(name):
                yield local_files.readable(entry, f"{self._root.path}/{entry.locator}", self._root)
            else:
                yield local_files.nameless(entry)
