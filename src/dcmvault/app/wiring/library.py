"""What is known of OsiriX and Horos libraries on disk, for a restore into one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from dcmvault.config.sections import HorosSourceSection
from dcmvault.model.sidecar import SidecarFile, UnreadableSidecar


def repoint_library(
    index: Path, find_linked: Callable[[str], str | None], find_report: Callable[[str], str | None]
) -> int:
    """Change the absolute paths in a copy of an index; see `sources.horos.repointing`."""
    from dcmvault.sources.horos.repointing import repoint_index  # noqa: PLC0415 - when needed

    return repoint_index(index, find_linked, find_report)


def library_sidecar(base: Path) -> Iterator[SidecarFile | UnreadableSidecar]:
    """Read what a library is beside its studies' files; see `sources.horos.sidecar`."""
    from dcmvault.sources.horos import HorosSource  # noqa: PLC0415 - when needed

    return HorosSource(HorosSourceSection(path=base)).sidecar()


def files_missing(base: Path) -> int:
    """Count the files that a library's index names and that are not there."""
    from dcmvault.sources.horos import HorosSource  # noqa: PLC0415 - when needed
    from dcmvault.sources.local_files import NO_FINGERPRINT  # noqa: PLC0415 - when needed

    source = HorosSource(HorosSourceSection(path=base))
    return sum(
        entry.fingerprint == NO_FINGERPRINT
        for study in source.studies()
        for entry in source.entries(study)
    )
