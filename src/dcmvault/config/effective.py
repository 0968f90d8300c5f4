"""What is in force, defaults included: for `dcmvault config show`, and to tell what changed."""

from __future__ import annotations

import re

from dcmvault.config.schedule_checks import TABLES_OF_TIME
from dcmvault.config.secrets import is_reference
from dcmvault.config.sections import DestinationSection, SourceSection
from dcmvault.config.settings import Settings

#: Fields of sections that the address gives: they have no key of their own.
IN_ADDRESS = frozenset(
    {
        "kind",
        "path",
        "host",
        "port",
        "tls",
        "called_ae_title",
        "calling_ae_title",
        "location",
        "snapshot",
        "url",
    }
)
#: Keys of a destination about the age of its evidence.
AGEING = ("reverify_after", "reverify_share")


def effective(settings: Settings) -> dict[str, object]:
    """Return what is in force, defaults included, as TOML-able tables.

    Secrets stay references: nothing is resolved.
    """
    values: dict[str, object] = {
        "language": settings.language,
        "privacy": settings.privacy.value,
        "database": settings.database,
        "retry": settings.retry.model_dump(mode="json"),
        "bandwidth": settings.bandwidth.model_dump(mode="json", by_alias=True),
        "listener": settings.listener.model_dump(mode="json"),
        "safe_to_delete": settings.safe_to_delete.model_dump(mode="json"),
        "serve": settings.serve.model_dump(mode="json"),
        "classification": settings.classification.model_dump(mode="json"),
        "rules": [
            rule.model_dump(mode="json", by_alias=True, exclude_unset=True)
            for rule in settings.rules
        ],
        "web": settings.web.model_dump(mode="json", exclude_none=True),
        "monitoring": settings.monitoring.model_dump(mode="json"),
        "audit": settings.audit.model_dump(mode="json"),
        "sources": {name: _options(section) for name, section in settings.sources.items()},
    }
    destinations: dict[str, object] = {}
    for name, destination in settings.destinations.items():
        options = _options(destination.section)
        if destination.level is not None:
            options["level"] = destination.level.word
        options |= {name: getattr(destination, name) for name in AGEING}
        destinations[name] = options
    values["destinations"] = destinations
    values["plans"] = {
        name: plan.model_dump(mode="json", exclude_none=True)
        for name, plan in settings.plans.items()
    }
    for table in TABLES_OF_TIME:
        values[table] = {
            name: section.model_dump(mode="json", by_alias=True)
            for name, section in getattr(settings, table).items()
        }
    values["notifications"] = {
        name: channel.model_dump(mode="json") for name, channel in settings.notifications.items()
    }
    values["hooks"] = settings.hooks.model_dump(mode="json", exclude_none=True)
    return values


def shown(settings: Settings) -> dict[str, object]:
    """Return what is in force as it may be shown: of a service's URL only where it leads.

    Who knows the whole URL of a webhook or a check can write there: it is a secret, written as it
    is or not.
    """
    values = effective(settings)
    channels = values["notifications"]
    assert isinstance(channels, dict)
    values["notifications"] = {
        name: {
            key: _where_to(value) if isinstance(value, str) else value
            for key, value in channel.items()
        }
        for name, channel in channels.items()
    }
    return values


def _where_to(value: str) -> str:
    """Leave out of a URL what comes after its host; whatever is no URL stays as it is."""
    scheme, colon, rest = value.partition("://")
    if not colon or is_reference(value):
        return value
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return f"{scheme}://{host}" if rest in (host, f"{host}/") else f"{scheme}://{host}/..."


def _options(section: SourceSection | DestinationSection) -> dict[str, object]:
    return {
        "address": section.address,
        **section.model_dump(mode="json", by_alias=True, exclude=set(IN_ADDRESS)),
    }
