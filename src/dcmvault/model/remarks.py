"""Remarks: what listing a source found out about it as a whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceRemarks:
    """What a user should know of a source, beside what is said of single files.

    `warnings` are sentences without patient data. Without `lists_all` some of what the source
    holds may not have been listed: nothing is concluded from its absence.
    """

    warnings: tuple[str, ...] = ()
    lists_all: bool = True
