"""How evidence may age: after how long a copy is to be verified again, and how much at once."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator

from dcmvault.i18n import gettext as _
from dcmvault.model.plan import Sample

_AGE = re.compile(r"([0-9]{1,6})\s*(h|d|w)\Z")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
#: Nothing is older, and no calendar goes back much further.
_LONGEST = timedelta(days=36_500)
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%\Z")
_COUNT = re.compile(r"[0-9]{1,9}\Z")


def age_s(text: str) -> int:
    """Read an age such as `30d` (`h`, `d`, `w`) in seconds, at most a century.

    Raises ValueError for another text.
    """
    found = _AGE.match(text.strip())
    if found is None or not int(found[1]):
        raise ValueError(_("Write an age such as “30d”, “12h” or “8w”."))
    return int(min(int(found[1]) * _UNITS[found[2]], _LONGEST).total_seconds())


def sample_of(text: str, older_than_s: int = 0) -> Sample:
    """Read how much is verified: `5%` of all studies, or `200` studies; empty: everything.

    Raises ValueError for another text.
    """
    text = text.strip()
    if not text:
        return Sample(older_than_s=older_than_s)
    if _COUNT.match(text) and int(text):
        return Sample(studies=int(text), older_than_s=older_than_s)
    found = _SHARE.match(text)
    if found is None or not 0 < float(found[1]) <= 100:
        raise ValueError(_("Write a share such as “5%”, or a number of studies such as “200”."))
    return Sample(share=float(found[1]) / 100, older_than_s=older_than_s)


def _checked_age(text: str) -> str:
    if text.strip():
        age_s(text)
    return text.strip()


def _checked_share(text: str) -> str:
    sample_of(text)
    return text.strip()


#: `30d`, `12h`, `8w`; empty: evidence never grows too old.
EvidenceAge = Annotated[str, AfterValidator(_checked_age)]
#: `5%` or `200`; empty: all that is due.
SampleSize = Annotated[str, AfterValidator(_checked_share)]
