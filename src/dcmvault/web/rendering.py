"""Templates as HTML: what they may use, and how a value is written in the language in use."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dcmvault.i18n import (
    format_bytes,
    format_duration,
    format_number,
    gettext,
    ngettext,
    sentence,
)
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible
from dcmvault.reports.times import utc
from dcmvault.web.asset_files import address_of
from dcmvault.web.drawing import spark

#: What is shown where there is no value.
_NOTHING = "–"
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
#: From here on a date says more than an age.
_LONG_AGO_S = 60 * _DAY_S


def render(template: str, **values: object) -> str:
    """Render a template; every value is escaped, and one that is not there is a defect."""
    return _environment().get_template(template).render(**values)


def prepare(*templates: str) -> None:
    """Compile templates, so that who first asks for a page of these need not wait for it."""
    for template in templates:
        _environment().get_template(template)
    for shared in ("base.html", "parts/macros.html", "parts/navigation.html", "parts/state.html"):
        _environment().get_template(shared)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dcmvault.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalised,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    # The extension adds this method to the class when it is loaded.
    environment.install_gettext_callables(gettext, ngettext, newstyle=True)  # type: ignore[attr-defined]
    environment.filters |= {
        "ago": ago,
        "bytes": format_bytes,
        "day": day,
        "duration": format_duration,
        "number": format_number,
        "person": person,
        "sentence": sentence,
        "share": share,
        "utc": utc,
    }
    environment.globals |= {"asset": address_of, "spark": spark}
    return environment


def _finalised(value: object) -> object:
    """Show a dash for nothing, and controls and direction marks of every text, before escaping."""
    if value is None:
        return _NOTHING
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def ago(moment: datetime, now: datetime | None = None) -> str:
    """Say how long ago (or how far ahead) a moment is, as people do; a date from two months on."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if abs(seconds) < _MINUTE_S:
        return _("just now")
    if abs(seconds) >= _LONG_AGO_S:
        return day(moment)
    words = _rounded(abs(seconds))
    if seconds < 0:
        return _("in %(time)s") % {"time": words}
    return _("%(time)s ago") % {"time": words}


def _rounded(seconds: float) -> str:
    if seconds < _HOUR_S:
        return f"{format_number(seconds // _MINUTE_S)} min"
    if seconds < _DAY_S:
        return f"{format_number(seconds // _HOUR_S)} h"
    days = int(seconds // _DAY_S)
    return ngettext("%(n)s day", "%(n)s days", days) % {"n": format_number(days)}


def person(name: str) -> str:
    """Write a person's name (PS3.5 section 6.2.1.1, PN) as people do: family name, given names."""
    groups = []
    for group in name.split("="):
        family, given, middle, prefix, suffix = (*group.split("^"), *[""] * 5)[:5]
        first = " ".join(part.strip() for part in (prefix, given, middle) if part.strip())
        parts = (family.strip(), first, suffix.strip())
        groups.append(", ".join(part for part in parts if part))
    written = [one for one in groups if one]
    return f"{written[0]} ({', '.join(written[1:])})" if written[1:] else "".join(written)


def day(moment: datetime) -> str:
    """Write the day of a moment in UTC: 2026-01-31."""
    return f"{moment.astimezone(UTC):%Y-%m-%d}"


def share(part: float, whole: float) -> str:
    """Write a share in per cent, rounded down: only what is whole is 100 %."""
    if not whole:
        return _NOTHING
    thousandths = int(part * 1000 // whole)
    digits = 0 if thousandths % 10 == 0 else 1
    return f"{format_number(thousandths / 10, digits)} %"
