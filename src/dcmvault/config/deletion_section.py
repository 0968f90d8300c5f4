"""The section `[safe_to_delete]`: what is asked of copies before an original may be deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from dcmvault.config.options import Section
from dcmvault.model.evidence import Level

#: What is less says nothing about single instances.
DELETION_LEVELS = tuple(level.word for level in (Level.COMPLETE, Level.COMMITTED, Level.PROVEN))
_LevelWord = Literal["complete", "committed", "proven"]


class SafeToDeleteSection(Section):
    """When `dcmvault safe-to-delete` says yes. dcmvault itself never deletes at a source."""

    #: Destinations that must hold every instance of the study.
    copies: int = Field(default=2, ge=1, le=100)
    #: The level of evidence at each of them.
    level: _LevelWord = "proven"
    #: Other levels, by destination: a configured name, or an address.
    levels: Mapping[str, _LevelWord] = Field(default_factory=dict)
    #: How many of the copies must be locked (Object Lock), so that nobody can remove them now.
    immutable: int = Field(default=0, ge=0, le=100)
    #: Days that evidence may be old.
    evidence_max_age_days: int = Field(default=90, ge=1, le=36_500)
    #: Days that a copy must be old.
    min_age_days: int = Field(default=7, ge=0, le=36_500)
    #: A source whose listing does not show that an instance was replaced in place by another of
    #: its UID (DICOM query, DICOMweb) is not believed.
    require_unchanged: bool = True
