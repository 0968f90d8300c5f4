"""Queries and places of the studies page as parameters of its address, and back.

A place names a study by the catalogue's key, so that no patient stands in an address; what is
searched for does, where it is put there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from dcmvault.app.vault_contents import date_range
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.study_matrix import Coverage, StudyOrder, StudyPlace, StudyQuery

_T = TypeVar("_T")

_LONGEST_TEXT = 200
_MOST_VALUES = 50
_PLACE = re.compile(r"([<>])([0-9]{1,18})(?:\.([0-9]{1,18}))?\Z")


def query_of(settings: Settings, parameters: Mapping[str, Sequence[str]]) -> StudyQuery:
    """Read a query; parameters of other names are left alone.

    `text`, `modality`*, `date` (2026, 2026-01-31, FIRST..LAST), `source`* and `destination` (name
    or address), `state`*, `level_at_least`, `level_below`, `hold` (yes, no), `study`* (UID); *
    may be repeated.
    Empty ones count as absent. UsageError for what means nothing.
    """
    text = _one(parameters, "text")
    if len(text) > _LONGEST_TEXT:
        raise UsageError(_("What is searched for is too long."), hint=_("Search for a few words."))
    dates = date_range(_one(parameters, "date")) or ("", "")
    destination = _one(parameters, "destination")
    return StudyQuery(
        text=text,
        modalities=tuple(_values(parameters, "modality")),
        first_date=dates[0],
        last_date=dates[1],
        sources=tuple(_source(settings, name) for name in _values(parameters, "source")),
        destination=_destination(settings, destination),
        states=tuple(
            _chosen(word, {one.word: one for one in Coverage})
            for word in _values(parameters, "state")
        ),
        level_at_least=_level(_one(parameters, "level_at_least")),
        level_below=_level(_one(parameters, "level_below")),
        held=_flag(_one(parameters, "hold")),
        studies=tuple(_values(parameters, "study")),
    )


def parameters_of(query: StudyQuery) -> list[tuple[str, str]]:
    """Write a query as `query_of` reads it."""
    dates = f"{query.first_date}..{query.last_date}" if query.first_date + query.last_date else ""
    found = [
        ("text", query.text),
        *(("modality", one) for one in query.modalities),
        ("date", dates),
        *(("source", one) for one in query.sources),
        ("destination", query.destination),
        *(("state", one.word) for one in query.states),
        ("level_at_least", "" if query.level_at_least is None else query.level_at_least.word),
        ("level_below", "" if query.level_below is None else query.level_below.word),
        ("hold", "" if query.held is None else ("yes" if query.held else "no")),
        *(("study", one) for one in query.studies),
    ]
    return [(name, value) for name, value in found if value]


def order_of(text: str) -> tuple[StudyOrder, bool]:
    """Read an order and whether it falls: `date`, `-date` and so on; newest first for nothing."""
    if not text:
        return StudyOrder.DATE, True
    chosen = _chosen(text.removeprefix("-"), {one.value: one for one in StudyOrder})
    return chosen, text.startswith("-")


def place_of(text: str) -> StudyPlace | None:
    """Read what `place_text` wrote; None for nothing."""
    if not text:
        return None
    found = _PLACE.match(text)
    if found is None:
        raise UsageError(_("The page cannot be found."), hint=_("Begin at the first page."))
    value = None if found[3] is None else int(found[3])
    return StudyPlace(int(found[2]), value, before=found[1] == "<")


def place_text(place: StudyPlace) -> str:
    """Write a place for an address."""
    value = "" if place.value is None else f".{place.value}"
    return f"{'<' if place.before else '>'}{place.study_key}{value}"


def _values(parameters: Mapping[str, Sequence[str]], name: str) -> list[str]:
    values = [value.strip() for value in parameters.get(name, ()) if value.strip()]
    if len(values) > _MOST_VALUES:
        raise UsageError(_("“%s” is asked for too often.") % name)
    return values


def _one(parameters: Mapping[str, Sequence[str]], name: str) -> str:
    return (_values(parameters, name) or [""])[-1]


def _source(settings: Settings, name: str) -> str:
    configured = settings.sources.get(name)
    return name if configured is None else configured.address


def _destination(settings: Settings, name: str) -> str:
    configured = settings.destinations.get(name)
    return name if configured is None else configured.section.address


def _level(word: str) -> Level | None:
    return _chosen(word, {one.word: one for one in Level}) if word else None


def _flag(word: str) -> bool | None:
    return _chosen(word, {"yes": True, "no": False}) if word else None


def _chosen(word: str, known: Mapping[str, _T]) -> _T:
    if word not in known:
        raise UsageError(
            _("“%s” is no choice here.") % word[:_LONGEST_TEXT],
            hint=_("Choices: %s.") % ", ".join(known),
        )
    return known[word]
