"""An address as a QR code (ISO/IEC 18004), as geometry; a template makes SVG of it."""

from __future__ import annotations

from dataclasses import dataclass

import segno

#: Modules around the code, without which readers do not find it.
_QUIET = 4


@dataclass(frozen=True, slots=True)
class QrCode:
    """The side of the whole square in modules, and the path of its dark ones."""

    side: int
    path: str


def qr_code(text: str) -> QrCode:
    """Draw a text; 15 % of the modules may be unreadable."""
    code = segno.make_qr(text, error="m")
    rows = [list(row) for row in code.matrix]
    dark = (
        f"M{x + _QUIET} {y + _QUIET}h1v1h-1z"
        for y, row in enumerate(rows)
        for x, module in enumerate(row)
        if module
    )
    return QrCode(len(rows) + 2 * _QUIET, "".join(dark))
