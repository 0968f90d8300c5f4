"""How lines of the commented configuration are written: comments and TOML strings."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence


def comment(words: str) -> list[str]:
    """Write a comment in lines of at most 98 characters."""
    return textwrap.wrap(words, 98, initial_indent="# ", subsequent_indent="# ")


def text(value: str) -> str:
    """Write a TOML basic string (JSON's escapes are a subset of TOML's)."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def texts(values: Sequence[str]) -> str:
    """Write a TOML array of strings."""
    return f"[{', '.join(map(text, values))}]"
