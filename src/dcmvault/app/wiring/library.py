"""What is known of OsiriX and Horos libraries on disk, for a restore into one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcmvault.config.sections import HorosSourceSection
from dcmvault.model.sidecar import SidecarFile, UnreadableSidecar

if TYPE_CHECKING:
    from dcmvault.sources.horos.holdings import LibraryHoldings


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


def library_description(base: Path) -> bytes:
    """Return what a library's index says now, as `library.json`; empty where it cannot be read."""
    for file in library_sidecar(base):
        if isinstance(file, SidecarFile) and file.name == "library.json":
            return file.path.read_bytes()
    return b""


def make_annotations_sr(
    instance: Path, annotations: Mapping[str, Any], made_at: datetime
) -> tuple[str, bytes]:
    """Make the annotations SR of a study; see `dicom.viewer_sr`."""
    from dcmvault.dicom.viewer_sr import make_annotations_sr as make  # noqa: PLC0415 - pydicom

    return make(instance, annotations, made_at)


def make_report_sr(
    instance: Path, suffix: str, archive: bytes, made_at: datetime
) -> tuple[str, bytes]:
    """Make the report SR of a study; see `dicom.viewer_sr`."""
    from dcmvault.dicom.viewer_sr import make_report_sr as make  # noqa: PLC0415 - pydicom

    return make(instance, suffix, archive, made_at)


def library_holdings(base: Path) -> LibraryHoldings:
    """Look into a copy of a library's index, as it is now."""
    from dcmvault.sources.horos.holdings import LibraryHoldings  # noqa: PLC0415 - when needed

    return LibraryHoldings(HorosSourceSection(path=base))


def library_data_folder(base: Path) -> Path:
    """Find the folder of a library's files; SourceUnavailableError where they are not there."""
    from dcmvault.sources.horos.paths import data_folder  # noqa: PLC0415 - when needed

    return Path(data_folder(str(base)))
