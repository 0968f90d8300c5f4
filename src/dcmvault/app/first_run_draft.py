"""What somebody answered so far on the first run: kept from step to step, without secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from dcmvault.config.private_files import put_private
from dcmvault.config.week_grid import HOURS_PER_DAY, Hours
from dcmvault.errors import StateError
from dcmvault.i18n import gettext as _
from dcmvault.model.week import DAYS_PER_WEEK

#: Inside the state folder.
_NAME = "first-run.json"
_LARGEST = 1 << 20
_MOST_PLACES = 50

#: Options of a place as the configuration has them.
Options = Mapping[str, str | int | bool]


class When(StrEnum):
    """In which hours of the week copies are sent."""

    NIGHTS = "nights"
    #: At all hours but 8 to 18 on week days.
    OFF_HOURS = "off-hours"
    ALWAYS = "always"
    #: As it was painted.
    PAINTED = "painted"


@dataclass(frozen=True, slots=True)
class DraftPlace:
    """A source or destination under the name that it gets. Its secrets are references."""

    name: str
    address: str
    options: Options = field(default_factory=dict)

    @property
    def table(self) -> dict[str, str | int | bool]:
        """The table of the configuration."""
        return {"address": self.address, **self.options}


@dataclass(frozen=True, slots=True)
class Draft:
    """The answers. The defaults are what is proposed."""

    #: The step that comes next, as the pages call it.
    step: str = ""
    language: str = ""
    sources: tuple[DraftPlace, ...] = ()
    destinations: tuple[DraftPlace, ...] = ()
    when: When = When.NIGHTS
    #: Hours in which copies are sent, where they were painted.
    hours: Hours = frozenset()
    #: How fast, as the configuration writes rates.
    rate: str = "unlimited"
    #: The table of a channel by which problems are told; empty: none.
    channel: Options = field(default_factory=dict)
    is_saved: bool = False


def load_draft(home: Path) -> Draft:
    """Return the draft of a state folder; a new one where there is none that can be read."""
    try:
        data = (home / _NAME).read_bytes()[:_LARGEST]
        kept = json.loads(data)
        return Draft(
            step=_text(kept["step"]),
            language=_text(kept["language"]),
            sources=_places(kept["sources"]),
            destinations=_places(kept["destinations"]),
            when=When(kept["when"]),
            hours=_hours(kept["hours"]),
            rate=_text(kept["rate"]),
            channel=_options(kept["channel"]),
            is_saved=kept["is_saved"] is True,
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Draft()


def keep_draft(home: Path, draft: Draft) -> None:
    """Write the draft (mode 0600), in place of the one before; StateError where that fails."""
    kept = {
        "step": draft.step,
        "language": draft.language,
        "sources": [_place_data(one) for one in draft.sources],
        "destinations": [_place_data(one) for one in draft.destinations],
        "when": draft.when.value,
        "hours": sorted(map(list, draft.hours)),
        "rate": draft.rate,
        "channel": dict(draft.channel),
        "is_saved": draft.is_saved,
    }
    try:
        put_private(home / _NAME, json.dumps(kept, ensure_ascii=False, indent=1).encode())
    except (OSError, UnicodeEncodeError) as error:
        raise StateError(
            _("The answers so far cannot be written down: %s.")
            % (getattr(error, "strerror", None) or _("not UTF-8 text")),
            hint=_("Check the state folder and its permissions."),
        ) from None


def drop_draft(home: Path) -> None:
    """Forget the draft; harmless where there is none."""
    (home / _NAME).unlink(missing_ok=True)


def _place_data(place: DraftPlace) -> dict[str, object]:
    return {"name": place.name, "address": place.address, "options": dict(place.options)}


def _places(value: object) -> tuple[DraftPlace, ...]:
    if not isinstance(value, list) or len(value) > _MOST_PLACES:
        raise ValueError
    return tuple(
        DraftPlace(_text(one["name"]), _text(one["address"]), _options(one["options"]))
        for one in value
    )


def _options(value: object) -> Options:
    if not isinstance(value, dict) or not all(
        isinstance(one, str | int | bool) for one in value.values()
    ):
        raise ValueError
    return value


def _hours(value: object) -> Hours:
    if not isinstance(value, list):
        raise ValueError
    hours = frozenset((day, hour) for day, hour in value)
    if not all(day in range(DAYS_PER_WEEK) and hour in range(HOURS_PER_DAY) for day, hour in hours):
        raise ValueError
    return hours


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value
