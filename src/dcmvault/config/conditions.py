"""What a rule may ask of a study: keys that rules of priority and of routing have in common."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

from dcmvault.config.options import Section
from dcmvault.config.reverification import age_s
from dcmvault.i18n import gettext as _
from dcmvault.model.classification import Conditions

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)\Z")
_UNITS = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
#: PS3.5 section 6.2, CS.
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}\Z")
_MOST_VALUES = 200


def size_bytes(text: str) -> int:
    """Read a size such as `500 MB` or `2 GiB`; ValueError for another text."""
    found = _SIZE.match(text.strip())
    if found is None or not float(found[1]):
        raise ValueError(_("Write a size such as “500 MB” or “2 GiB”."))
    return int(float(found[1]) * _UNITS[found[2]])


def _checked_size(text: str) -> str:
    if text.strip():
        size_bytes(text)
    return text.strip()


def _checked_age(text: str) -> str:
    if text.strip():
        age_s(text)
    return text.strip()


def _codes(values: tuple[str, ...]) -> tuple[str, ...]:
    """Make modalities and body parts canonical: they are codes in capitals."""
    codes = tuple(value.strip().upper() for value in _some(values))
    for code in codes:
        if not _CODE.match(code):
            raise ValueError(_("“%s” is no code of DICOM: at most 16 letters, digits, “_”.") % code)
    return codes


def _phrases(values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse what has no word in it, and so is in no description."""
    for value in _some(values):
        plain = unicodedata.normalize("NFKD", value)
        if not any(letter.isalnum() for letter in plain):
            raise ValueError(_("“%s” has no word in it.") % value)
    return tuple(value.strip() for value in values)


def _some(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(values) > _MOST_VALUES:
        raise ValueError(_("At most %d values stand in one list.") % _MOST_VALUES)
    if any(not value.strip() for value in values):
        raise ValueError(_("An empty text matches nothing."))
    return values


_Codes = Annotated[tuple[str, ...], AfterValidator(_codes)]
_Phrases = Annotated[tuple[str, ...], AfterValidator(_phrases)]
_Names = Annotated[tuple[str, ...], AfterValidator(_some)]
_Age = Annotated[str, AfterValidator(_checked_age)]
_Size = Annotated[str, AfterValidator(_checked_size)]


class ConditionsSection(Section):
    """What is asked: all that is given must hold, and of several values any one does."""

    #: Modality (0008,0060), such as `CT`; one of the study's.
    modality: _Codes = ()
    #: Whole words (or several in a row) of study and series descriptions; accents do not matter.
    words: _Phrases = ()
    #: Where one of these is in a description, the rule does not fire.
    without_words: _Phrases = ()
    #: Body Part Examined (0018,0015).
    body_part: _Codes = ()
    #: Who sent the files (0002,0016), or the peer that they are fetched from.
    ae_title: _Names = ()
    #: Station Name (0008,1010).
    station: _Names = ()
    #: Whole words of the Institution Name (0008,0080).
    institution: _Phrases = ()
    #: Age by Study Date and Time: `1h`, `7d`, `8w`.
    younger_than: _Age = ""
    older_than: _Age = ""
    #: Size of the whole study at the source.
    larger_than: _Size = ""
    smaller_than: _Size = ""
    #: OsiriX, Horos: the study is locked.
    locked: bool | None = None
    #: OsiriX, Horos: the study is in an album.
    in_album: bool | None = None
    #: No destination took any of the study yet.
    single_copy: bool | None = None
    #: OsiriX, Horos: the study is among the first that auto-clean may delete.
    auto_clean_risk: bool | None = None

    @property
    def conditions(self) -> Conditions:
        """The conditions as a value."""
        return Conditions(
            modality=self.modality,
            words=self.words,
            without_words=self.without_words,
            body_part=self.body_part,
            ae_title=self.ae_title,
            station=self.station,
            institution=self.institution,
            younger_than_s=age_s(self.younger_than) if self.younger_than else 0,
            older_than_s=age_s(self.older_than) if self.older_than else 0,
            larger_than_bytes=size_bytes(self.larger_than) if self.larger_than else 0,
            smaller_than_bytes=size_bytes(self.smaller_than) if self.smaller_than else 0,
            locked=self.locked,
            in_album=self.in_album,
            single_copy=self.single_copy,
            auto_clean_risk=self.auto_clean_risk,
        )

    def require_a_condition(self) -> None:
        """Refuse a rule without any; ValueError."""
        if self.conditions == Conditions():
            raise ValueError(_('A rule needs a condition, such as modality = ["CT"].'))
