"""Which studies an address asks for: fields of a form, read for who may search by what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import HTTPException, Request
from starlette.datastructures import QueryParams

from dcmvault.app.place_names import PlaceNames
from dcmvault.app.study_matrix import MatrixChoices, matrix_choices
from dcmvault.app.study_query import order_of, query_of
from dcmvault.model.account import Role
from dcmvault.model.evidence import Level
from dcmvault.model.study_matrix import StudyOrder, StudyQuery
from dcmvault.web.backstage import Backstage
from dcmvault.web.visitors import Visitor

#: Fields of an address that say which studies, and in which order.
FIELDS = (
    *("text", "modality", "first", "last", "source", "destination", "state", "level", "hold"),
    *("order", "study"),
)
#: Fields of an address that say which saved view was chosen.
_OF_VIEW = ("view", "shared")
#: Levels that can be asked for: at all or at one destination.
LEVELS = tuple(level.word for level in Level if level > Level.SENT)


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, its order, and the fields of the address that say it."""

    query: StudyQuery
    order: StudyOrder
    descending: bool
    fields: Mapping[str, str]
    choices: MatrixChoices
    names: PlaceNames

    @property
    def query_text(self) -> str:
        """The query as the parameters of an address, without the view that it came from."""
        return urlencode({name: self.fields[name] for name in FIELDS if name in self.fields})

    def address(self, path: str, **others: str) -> str:
        """Write an address that asks the same, but for `others`; empty ones are left out."""
        told = {name: value for name, value in {**self.fields, **others}.items() if value}
        return f"{path}?{urlencode(told)}" if told else path


def asked(request: Request, behind: Backstage, by: Visitor) -> Asked:
    """Read the address; 403 for a viewer who searches for a patient, or sorts by names.

    What can be searched tells what is hidden: a viewer learns nothing of patients by asking. Nor
    are addresses of places, which may name a patient, written or read for them.
    """
    return asked_by_text(request.url.query, behind, by)


def asked_by_text(text: str, behind: Backstage, by: Visitor) -> Asked:
    """Read the parameters of an address, as `asked` does."""
    may_know = by.role.may(Role.OPERATOR)
    given = QueryParams(text)
    fields = {name: given.get(name, "").strip() for name in (*FIELDS, *_OF_VIEW)}
    # Ticked one by one, and written as one afterwards.
    fields["study"] = " ".join(" ".join(given.getlist("study")).split())
    fields = {name: value for name, value in fields.items() if value}
    order, descending = order_of(fields.get("order", ""))
    if not may_know and ("text" in fields or order is StudyOrder.NAME):
        raise HTTPException(403)
    names = PlaceNames(behind.workplace, shows_addresses=may_know)
    choices = matrix_choices(behind.workplace)
    parameters = {name: [value] for name, value in fields.items()}
    parameters["study"] = fields.get("study", "").split()
    if "first" in fields or "last" in fields:
        parameters["date"] = [f"{fields.get('first', '')}..{fields.get('last', '')}"]
    if "level" in fields:
        word = fields["level"]
        parameters["level_below" if word.startswith("-") else "level_at_least"] = [
            word.removeprefix("-")
        ]
    settings = behind.workplace.settings
    for name, places, configured in (
        ("source", choices.sources, settings.sources),
        ("destination", choices.destinations, settings.destinations),
    ):
        if name in fields:
            shown = {names(place.address): place.address for place in places}
            if fields[name] not in {*shown, *configured} and not may_know:
                raise HTTPException(404)
            parameters[name] = [shown.get(fields[name], fields[name])]
    query = query_of(settings, parameters)
    return Asked(query, order, descending, fields, choices, names)
