"""Foreign text made harmless for the place where it is shown."""

from __future__ import annotations

import hashlib
import re

#: C0 and C1 controls and DEL (terminal commands start with them), line and paragraph separators,
#: and the marks that reorder what is shown (Unicode UAX #9), lone surrogates.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
#: What a spreadsheet takes for the begin of a formula (OWASP, CSV injection), full-width too.
_FORMULA_STARTS = frozenset("=+-@\t\r\n＝＋－＠")

#: How what stands in for a file name begins.
STAND_IN = "file:"


def visible(text: str) -> str:
    r"""Write controls and direction marks as `\x1b` or `\u202e`, so that none takes effect."""
    return _INVISIBLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def spreadsheet_cell(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would calculate; controls are escaped."""
    shown = visible(text)
    if text[:1] in _FORMULA_STARTS or text.lstrip()[:1] in _FORMULA_STARTS:
        return f"'{shown}"
    return shown


def locator_token(locator: str) -> str:
    """Return a short stable stand-in for a file name: the same file, the same token."""
    if not locator:
        return ""
    return STAND_IN + hashlib.sha256(locator.encode("utf-8", "surrogatepass")).hexdigest()[:12]
