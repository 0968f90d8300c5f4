"""Where studies come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from dcmvault.model.instance import InstanceEntry, InstanceFile, StudyRef, UnreadableEntry


class Source(Protocol):
    """A place that holds studies. It is read, never written to.

    A source is used by one thread at a time.
    """

    @property
    def name(self) -> str:
        """The source's address in canonical form: equal for equal sources, without secrets."""
        ...

    def studies(self) -> Iterator[StudyRef]:
        """List the studies (or places that may hold some), each once, in a stable order.

        Raises SourceUnavailableError when the source as a whole cannot be read. An empty
        answer means that it was read and holds nothing; the caller judges whether that is
        believable.
        """
        ...

    def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
        """List the entries of one study without reading any file.

        Locators are unique within the source. An entry that vanishes while listing is left
        out. A file that is listed but cannot be examined is still listed, with a zero
        fingerprint, so that `read` can say why.
        """
        ...

    def read(self, entries: Iterable[InstanceEntry]) -> Iterator[InstanceFile | UnreadableEntry]:
        """Make entries readable, in the order given, one answer each.

        The fingerprint is checked again at read time; a difference is an UnreadableEntry with
        code `changed_while_reading`, a missing file one with `vanished`, anything else
        `unreadable`. `InstanceFile.path` is valid until the iterator is advanced or closed.
        One bad entry never ends the iteration.
        """
        ...
