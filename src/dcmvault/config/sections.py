"""One section class per adapter: its options, their meaning, limits and defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

#: PS3.5 section 6.2, AE: 1 to 16 characters of the default repertoire, no backslash, not blank.
AETitle = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$"),
]


class Section(BaseModel):
    """Root of every section: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FolderSourceSection(Section):
    """A folder tree with DICOM files in it."""

    kind: Literal["folder"] = "folder"
    path: Path
    #: Entries that are not DICOM are backed up too (as opaque files).
    include_other_files: bool = False

    @property
    def address(self) -> str:
        """The canonical address."""
        return str(self.path)


class HorosSourceSection(Section):
    """An OsiriX or Horos library: the folder that contains `Database.sql`."""

    kind: Literal["horos"] = "horos"
    path: Path
    #: Files per sub-folder of DATABASE.noindex (the application's DefaultFolderSizeForDB).
    folder_size: int = Field(default=10_000, gt=0)

    @property
    def address(self) -> str:
        """The canonical address."""
        return f"horos:{self.path}"


class FolderDestinationSection(Section):
    """A plain folder that takes Part 10 files byte for byte under hashed names."""

    kind: Literal["folder"] = "folder"
    path: Path

    @property
    def address(self) -> str:
        """The canonical address."""
        return str(self.path)


class DimseDestinationSection(Section):
    """A PACS reached by DIMSE (C-ECHO, C-FIND, C-STORE)."""

    kind: Literal["dimse"] = "dimse"
    host: str = Field(min_length=1)
    port: int = Field(default=104, ge=1, le=65_535)
    called_ae_title: AETitle = "ANY-SCP"
    calling_ae_title: AETitle = "DCMVAULT"
    #: Associations open at once for delivery.
    max_associations: int = Field(default=4, ge=1, le=32)
    #: Seconds until a TCP connection must stand.
    connect_timeout_s: float = Field(default=10.0, gt=0, le=600)
    #: Seconds until an A-ASSOCIATE must be answered.
    association_timeout_s: float = Field(default=30.0, gt=0, le=600)
    #: Seconds without an answer to a DIMSE request until the association is given up.
    dimse_timeout_s: float = Field(default=60.0, gt=0, le=3600)

    @property
    def address(self) -> str:
        """The canonical address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        called, calling = (
            quote(self.called_ae_title, safe=""),
            quote(self.calling_ae_title, safe=""),
        )
        return f"dicom://{called}@{host}:{self.port}?calling={calling}"


SourceSection = Annotated[FolderSourceSection | HorosSourceSection, Field(discriminator="kind")]
DestinationSection = Annotated[
    FolderDestinationSection | DimseDestinationSection, Field(discriminator="kind")
]


class RetrySection(Section):
    """How often and how long a refused instance is tried again (per instance, in one run)."""

    #: Attempts in all, the first one included.
    attempts: int = Field(default=3, ge=1, le=20)
    #: Seconds before the second attempt; each further wait is twice the one before.
    wait_s: float = Field(default=5.0, ge=0, le=300)
    #: Waits vary by this share, so that many instances do not come back at once.
    jitter: float = Field(default=0.2, ge=0, le=0.5)
    #: No wait is longer (seconds).
    longest_wait_s: float = Field(default=300.0, ge=0, le=3600)
