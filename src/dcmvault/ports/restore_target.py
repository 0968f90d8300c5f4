"""Places that files are restored into, one file at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from dcmvault.errors import DestinationError
from dcmvault.model.restored import FileToRestore, Restored, RestoreScope


class RestoreTarget(Protocol):
    """A place for restored files. All but `open` may be called by several threads at once.

    A restore opens it once, writes all files (those of a library as a whole last, after every
    other one has ended), reads back each that it has, and leaves. The same files may come again
    in another restore, after this one was killed at any point.
    """

    @property
    def name(self) -> str:
        """What reports call it: an address or a path."""
        ...

    def open(self) -> AbstractContextManager[None]:
        """Make ready for writing; when left without an error everything is durable.

        Raises UsageError for a place that cannot be restored into, DestinationStoppedError where
        nothing can be written now.
        """
        ...

    def folds_case(self) -> bool:
        """Say, once opened, whether names that differ in case only name one file there."""
        ...

    def write(self, file: FileToRestore, pieces: Iterable[bytes]) -> Restored:
        """Write one file, whole or not at all; what is there already is left as it is.

        `pieces` raises a DestinationError, at its end at the latest, where the bytes are not the
        right ones: then nothing may bear the file's name. It need not be read where the file is
        there. Raises ObjectExistsError if something else has the name, another DestinationError
        if this file cannot be written, and DestinationStoppedError if none can.
        """
        ...

    def read_back(self, file: FileToRestore) -> Iterator[bytes]:
        """Yield the bytes that are there now of a file that was written, or was there.

        As near to the medium as it can: not what is kept in memory. Raises DestinationError where
        it is gone or cannot be read.
        """
        ...


@runtime_checkable
class Concluding(Protocol):
    """A target that is more than its files, and says at the end what became of it."""

    @property
    def keeps_versions(self) -> bool:
        """Whether several contents of one SOP Instance UID can be there; else the newest comes."""
        ...

    def prepare(self, scope: RestoreScope) -> None:
        """Take note of what comes, once opened and before anything is written.

        Raises UsageError if it cannot be restored here.
        """
        ...

    def conclusion(self) -> tuple[list[str], list[DestinationError]]:
        """Say, after `open` was left, what the reader of a report must know, and what failed."""
        ...
