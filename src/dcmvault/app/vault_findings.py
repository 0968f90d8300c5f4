"""What is asked of a check of a vault by choice, and what it found by kind, to be shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dcmvault.app.vault_care import CareRequest, Checked
from dcmvault.reports.vault_words import trouble_heading
from dcmvault.vault.check import Subset
from dcmvault.vault.findings import Finding, Trouble
from dcmvault.vault.phases import Phase, Told

#: Of 5 % of the packs every byte is read.
_SOME = Subset(1, 20)


class Part(StrEnum):
    """How much a check reads."""

    STRUCTURE = "structure"
    SOME = "some"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """Findings of one kind: the first of them, and how many there are beside."""

    heading: str
    findings: tuple[Finding, ...]
    more: int


def check_request(vault: str, part: Part) -> CareRequest:
    """Make the request for a check."""
    subset = _SOME if part is Part.SOME else None
    return CareRequest(vault, read_data=part is Part.ALL, subset=subset)


def errors_by_kind(checked: Checked, most: int) -> list[FindingGroup]:
    """List what is wrong by its kind, at most so many of each."""
    errors = checked.result.errors
    groups = []
    for trouble in Trouble:
        some = [one for one in errors if one.trouble is trouble]
        if some:
            more = max(0, len(some) - most)
            groups.append(FindingGroup(trouble_heading(trouble), tuple(some[:most]), more))
    return groups


def notes(checked: Checked, most: int) -> list[Finding]:
    """List what is worth a line, and not wrong."""
    return [one for one in checked.result.findings if one.is_note][:most]


def studies_touched(checked: Checked) -> int:
    """Count the studies that need what is damaged."""
    return len({uid for one in checked.result.errors for uid in one.studies})


def told_by(stands: Callable[[bool, int, int], object]) -> Told:
    """Have somebody hear whether bytes are read, and how much of how much is done."""

    def told(phase: Phase, done: int, total: int) -> None:
        stands(phase is Phase.READING, done, total)

    return told
