"""The grammar of object keys (`ports.object_store.ObjectStore`)."""

from __future__ import annotations

import re

_COMPONENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_KEY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")


def is_valid_key(key: str) -> bool:
    """Say whether `key` follows the grammar."""
    return _KEY.match(key) is not None


def check_key(key: str) -> None:
    """Raise ValueError for a key that does not follow the grammar."""
    if not is_valid_key(key):
        message = f"not an object key: {key!r}"
        raise ValueError(message)
