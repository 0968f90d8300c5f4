"""How values are written in TOML, on one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, time

from dcmvault.config.template_lines import text

#: What may stand in a table that is edited.
TomlValue = str | int | float | bool | date | time | list["TomlValue"] | Mapping[str, "TomlValue"]

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


def toml_key(key: str) -> str:
    """Write one part of a key."""
    return key if _BARE.match(key) else text(key)


def toml_value(value: TomlValue) -> str:
    """Write a value; lists and tables stand on the same line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{toml_key(key)} = {toml_value(one)}" for key, one in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, date | time):  # no setting is one, but people type it
        return value.isoformat()
    return repr(value)
