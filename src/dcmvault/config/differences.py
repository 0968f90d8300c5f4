"""What differs between two configurations, and which of it waits for a restart of the daemon."""

from __future__ import annotations

from collections.abc import Collection

from dcmvault.config.effective import effective
from dcmvault.config.settings import Settings

#: The source of what is pushed to us.
LISTENER = "listener:"
#: Tables that are in force from a start to the next: ports and databases are opened once.
_AT_START = frozenset({"language", "database", "retry", "listener", "web"})
#: Keys of destinations that are.
_OF_DESTINATIONS_AT_START = frozenset({"bandwidth"})


def changed_keys(before: Settings, after: Settings) -> list[str]:
    """Name what differs, down to the keys of tables; secrets are references there."""
    return list(_differences(effective(before), effective(after), ()))


def waiting_for_restart(at_start: Settings, settings: Settings, keys: Collection[str]) -> list[str]:
    """Return those of some keys that are not in force in a daemon that started with `at_start`."""
    taking = _plans_that_take(at_start) | _plans_that_take(settings)
    return [key for key in keys if _is_at_start(key, taking)]


def _plans_that_take(settings: Settings) -> frozenset[str]:
    """Name the plans of what is pushed to us: whom the listener works for is settled at a start."""
    return frozenset(name for name, plan in settings.plans.items() if LISTENER in plan.sources)


def _is_at_start(key: str, taking: Collection[str]) -> bool:
    table, *rest = key.split(".")
    if table == "destinations":
        return bool(rest) and rest[-1] in _OF_DESTINATIONS_AT_START
    if table == "plans":
        return bool(rest) and rest[0] in taking
    return table in _AT_START


def _differences(before: object, after: object, path: tuple[str, ...]) -> list[str]:
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict) and len(path) < 3:
        keys = dict.fromkeys((*before, *after))
        found = []
        for key in keys:
            found += _differences(before.get(key), after.get(key), (*path, key))
        return found
    return [".".join(path)]
