"""Property lists, as the viewers of macOS write and read them."""

from __future__ import annotations

import plistlib
import re
from collections.abc import Mapping
from typing import Any

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


def property_list(value: Mapping[str, Any] | list[Any]) -> bytes:
    """Write a property list as the viewer does, in XML; it has no control characters but blanks."""
    return plistlib.dumps(_writable(value), fmt=plistlib.FMT_XML)


def _writable(value: Any) -> Any:
    """Replace what XML cannot hold by spaces."""
    if isinstance(value, str):
        return _CONTROLS.sub(" ", value)
    if isinstance(value, Mapping):
        return {str(_writable(key)): _writable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(one) for one in value]
    return value
