"""Time zones in the configuration: names of the IANA database; empty is this machine's."""

from __future__ import annotations

import os
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator

from dcmvault.config.addresses import did_you_mean
from dcmvault.i18n import gettext as _

_LOCAL = Path("/etc/localtime")
_FOLDER = "zoneinfo/"


def time_zone(name: str) -> tzinfo:
    """Return a zone by its name; ValueError with a sentence where there is none."""
    if not name.strip():
        return local_zone()
    try:
        return ZoneInfo(name.strip())
    except (ZoneInfoNotFoundError, ValueError, OSError):
        meant = did_you_mean(name, sorted(available_timezones()))
        sentence = _("There is no time zone of this name; write one such as “America/Sao_Paulo”.")
        raise ValueError(f"{sentence} {meant}".rstrip()) from None


def local_zone() -> tzinfo:
    """Return the zone of this machine's clock: by TZ, else /etc/localtime, else UTC."""
    named = os.environ.get("TZ", "").removeprefix(":")
    target = os.path.realpath(_LOCAL)
    for name in (named, target.rpartition(_FOLDER)[2] if _FOLDER in target else ""):
        if name:
            try:
                return ZoneInfo(name)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                continue
    try:
        with _LOCAL.open("rb") as file:
            return ZoneInfo.from_file(file, key="localtime")
    except (OSError, ValueError):
        return UTC


def _checked(name: str) -> str:
    time_zone(name)
    return name.strip()


#: `America/Sao_Paulo`; empty: this machine's.
TimeZone = Annotated[str, AfterValidator(_checked)]
