"""An archive: what can be asked of a place that keeps studies. It is only ever read."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Protocol

from dcmvault.model.query import (
    ArchiveAnswer,
    ArchivedInstance,
    ArchiveQuery,
    InstanceBytes,
    Selection,
    UnreadableInstance,
)


class HeaderBytes(Protocol):
    """A Part 10 file of which what stands before its pixel data can be read, cheaply."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        ...

    def window(self, position: int) -> tuple[bytes, int]:
        """Return a buffer and the position of its first byte.

        It holds at least 12 bytes from `position` on, or all that can be had.
        """
        ...

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`, fewer where no more can be had."""
        ...


class Archive(Protocol):
    """Studies that can be searched and read. Safe for several threads.

    One instance is given for each Study, Series and SOP Instance UID: where several contents have
    them, the one that was stored last. All methods raise DestinationError where the place as a
    whole cannot be read; what of it is damaged is left out.
    """

    def find(self, query: ArchiveQuery) -> Iterator[ArchiveAnswer]:
        """Yield what matches, as it is found.

        Raises QueryTooBroadError, also in the middle, for what would take too long.
        """
        ...

    def instances(self, selection: Selection) -> Sequence[ArchivedInstance]:
        """List the instances of a selection, by study, series and Instance Number.

        Raises QueryTooBroadError.
        """
        ...

    def is_whole(self, selection: Selection, found: Sequence[ArchivedInstance]) -> bool:
        """Say whether that is all of a selection; damage may hide more, without a name.

        Asked right after `instances`.
        """
        ...

    def syntaxes(self, sop_class_uid: str) -> Sequence[str]:
        """Return what transfer syntaxes instances of a class are held in, the commonest first.

        A hint, as far as is known by now.
        """
        ...

    def read(
        self, instances: Iterable[ArchivedInstance]
    ) -> Generator[InstanceBytes | UnreadableInstance, None, None]:
        """Yield the file of each instance in turn, made ready ahead while others are in hand.

        Who has enough closes the generator.
        """
        ...

    def headers(
        self, instances: Iterable[ArchivedInstance]
    ) -> Iterator[tuple[ArchivedInstance, HeaderBytes | None]]:
        """Yield the header of each instance in turn; None where it cannot be read."""
        ...
