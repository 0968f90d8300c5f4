"""Whether what plans, rules and policies name is configured."""

from __future__ import annotations

from collections.abc import Iterator

from dcmvault.config.addresses import did_you_mean
from dcmvault.config.settings import Settings
from dcmvault.errors import AddressError
from dcmvault.i18n import gettext as _

_Problem = tuple[tuple[str, ...], str]


def problems_of_names(settings: Settings) -> Iterator[_Problem]:
    """Yield the key of each name that means nothing, and why."""
    yield from _problems_of_plans(settings)
    yield from _problems_of_rules(settings)
    yield from _problems_of_deletion(settings)


def _problems_of_plans(settings: Settings) -> Iterator[_Problem]:
    for name, plan in settings.plans.items():
        for key, places, find in (
            ("sources", plan.sources, settings.source),
            ("destinations", plan.destinations, settings.destination),
        ):
            for place in places:
                try:
                    find(place)
                except AddressError as error:
                    yield ("plans", name, key), f"{error.message} {error.hint}".rstrip()


def _problems_of_rules(settings: Settings) -> Iterator[_Problem]:
    """Yield rules that are called alike, and routes to what is no destination of the plan."""
    names: set[str] = set()
    for number, rule in enumerate(settings.rules):
        if rule.name in names:
            yield ("rules", str(number), "name"), _("Another rule has this name.")
        names.add(rule.name)
    for name, plan in settings.plans.items():
        for number, route in enumerate(plan.routing.rules):
            path = ("plans", name, "routing", "rules", str(number), "to")
            for place in route.to:
                if place not in plan.destinations:
                    known = did_you_mean(place, plan.destinations)
                    reason = _("“%s” is no destination of this plan.") % place
                    yield path, f"{reason} {known}".rstrip()


def _problems_of_deletion(settings: Settings) -> Iterator[_Problem]:
    for place in settings.safe_to_delete.levels:
        try:
            settings.destination(place)
        except AddressError as error:
            reason = f"{error.message} {error.hint}".rstrip()
            yield ("safe_to_delete", "levels", place), reason
