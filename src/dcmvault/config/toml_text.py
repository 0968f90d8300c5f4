"""TOML that people wrote, read: what is nested without end is no configuration."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any

#: Tables and lists in each other. A configuration has five.
_DEEPEST = 50


def read_toml(text: str) -> dict[str, Any]:
    """Read a text; TOMLDecodeError for what is no TOML, and for what is nested too deeply."""
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise _too_deep() from None
    level: list[object] = [found]
    for _depth in range(_DEEPEST):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return found
    raise _too_deep()


def _inside(value: object) -> Iterable[object]:
    """Return the tables and lists in a value."""
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (one for one in within if isinstance(one, dict | list))


def _too_deep() -> tomllib.TOMLDecodeError:
    return tomllib.TOMLDecodeError("Tables and lists are nested too deeply")
