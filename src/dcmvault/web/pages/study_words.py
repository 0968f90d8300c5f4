"""A study's copies and history in words, and how much of its patient somebody may see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dcmvault.i18n import format_number
from dcmvault.i18n import gettext as _
from dcmvault.model.account import Role
from dcmvault.model.evidence import Level
from dcmvault.model.study_detail import TimelineKind
from dcmvault.model.study_matrix import CopyCounts, Coverage, StudyLine
from dcmvault.web.visitors import Visitor

_TONES = {
    Coverage.DAMAGED: "bad",
    Coverage.NOT: "open",
    Coverage.PARTLY: "claim",
    Coverage.PROTECTED: "good",
    Coverage.GONE: "open",
    Coverage.EXCLUDED: "open",
}
_DATE_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Cell:
    """How a study stands at one destination; without words it neither is nor should be there."""

    place: str
    tone: str = ""
    words: str = ""
    since: datetime | None = None


def sees_patients(by: Visitor) -> bool:
    """Say whether somebody sees all of a patient now: revealed to them, or to a program."""
    return by.role.may(Role.OPERATOR) and (by.opened is None or by.shows_names)


def state_words(state: Coverage) -> str:
    """Name a state of a study."""
    words: Mapping[Coverage, str] = {
        Coverage.DAMAGED: _("damaged or missing"),
        Coverage.NOT: _("without protection"),
        Coverage.PARTLY: _("partly protected"),
        Coverage.PROTECTED: _("protected"),
        Coverage.GONE: _("gone from the source"),
        Coverage.EXCLUDED: _("excluded from backups"),
    }
    return words[state]


def state_tone(state: Coverage) -> str:
    """Return the tone of a state; only evidence is good."""
    return _TONES[state]


def level_tone(level: Level) -> str:
    """Return the tone of a level: a receipt is a claim."""
    return "open" if level is Level.NONE else "claim" if level is Level.SENT else "good"


def cell(place: str, copy: CopyCounts | None) -> Cell:
    """Put a study's copy at one destination into a word and a tone."""
    if copy is None:
        return Cell(place)
    since = copy.oldest_evidence_at
    if copy.state is Coverage.DAMAGED:
        return Cell(place, "bad", _("damaged") if copy.damaged else _("missing"), since)
    if copy.state is Coverage.PARTLY:
        words = _("%(done)s of %(all)s") % {
            "done": format_number(copy.held),
            "all": format_number(copy.expected),
        }
        return Cell(place, "claim", words, since)
    if copy.state is Coverage.NOT and copy.unverified:
        return Cell(place, "claim", Level.SENT.word, since)
    return Cell(place, level_tone(copy.level), copy.level.word, since)


def date_words(date: str) -> str:
    """Write a Study Date (PS3.5 section 6.2, DA) with dashes; another text as it is."""
    if len(date) == _DATE_DIGITS and date.isdecimal():
        return f"{date[:4]}-{date[4:6]}-{date[6:]}"
    return date


def about(line: StudyLine, *, revealed: bool) -> str:
    """Say what the study is: its description where that may be seen, and its modalities."""
    modalities = ", ".join(line.modalities)
    if revealed and line.study_description:
        return f"{line.study_description} · {modalities}" if modalities else line.study_description
    return modalities


def event_words(kind: TimelineKind) -> str:
    """Name what happened to a study."""
    words: Mapping[TimelineKind, str] = {
        TimelineKind.SEEN: _("seen at the source"),
        TimelineKind.DELIVERED: _("delivered"),
        TimelineKind.RESTORED: _("restored"),
        TimelineKind.VERIFIED: _("verified"),
        TimelineKind.REFUTED: _("found damaged or missing"),
        TimelineKind.DRILLED: _("tried in a restore drill"),
    }
    return words[kind]
