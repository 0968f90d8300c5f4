"""Which line of a TOML text a key stands on; the parser of the standard library does not say."""

from __future__ import annotations

import re
from collections import Counter

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
_TABLE = re.compile(rf"\s*\[\[?\s*({_KEY})\s*\]\]?")
_PAIR = re.compile(rf"\s*({_KEY})\s*=(.*)", re.DOTALL)
_PARTS = re.compile(_PART)


def line_of(text: str, path: tuple[str, ...]) -> int:
    """Return the line (from 1) of the key or table at `path`, else of the nearest table above it.

    `text` is valid TOML. A key inside an inline table is found at the table's line. Returns 0
    where nothing of the path is written. Tables of an array are counted from 0.
    """
    counted: Counter[tuple[str, ...]] = Counter()
    best_length, best_line = 0, 0
    table: tuple[str, ...] = ()
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if fence:
            fence = "" if line.count(fence) % 2 else fence
            continue
        if header := _TABLE.match(line):
            table = _split(header[1])
            if line.lstrip().startswith("[["):
                counted[table] += 1
                table = (*table, str(counted[table] - 1))
            here = table
        elif pair := _PAIR.match(line):
            here = table + _split(pair[1])
            fence = _opened_fence(pair[2])
        else:
            continue
        # A header of a deeper table is where its ancestors are written, too.
        shared = _shared(here, path)
        if shared > best_length and (shared == len(here) or shared == len(path)):
            best_length, best_line = shared, number
    return best_line


def _split(key: str) -> tuple[str, ...]:
    return tuple(part[1:-1] if part[:1] in {"'", '"'} else part for part in _PARTS.findall(key))


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length


def _opened_fence(value: str) -> str:
    """Return the fence of a multi-line string that a value opens and does not close."""
    for fence in ('"""', "'''"):
        if value.lstrip().startswith(fence) and value.count(fence) % 2:
            return fence
    return ""
